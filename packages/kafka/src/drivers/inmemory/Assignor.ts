/**
 * Who gets which partitions: balanced, and as it was before where that is balanced.
 */
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key, make } from "../../TopicPartition.ts"

export interface Subscriber {
  readonly memberId: string
  readonly topics: ReadonlySet<string>
  /** What it says it owns, and since which generation. */
  readonly owned: ReadonlyArray<TopicPartition>
  readonly generation: number
}

export type Assignment = ReadonlyMap<string, ReadonlyArray<TopicPartition>>

/** Who owns what, by their own account. A claim of a younger generation wins; two equal claims cancel each other. */
const ownership = (members: ReadonlyArray<Subscriber>): Map<Key, string> => {
  const claims = new Map<Key, { memberId: string | undefined; generation: number }>()
  for (const member of members) {
    for (const tp of member.owned) {
      const k = key(tp)
      const claim = claims.get(k)
      if (claim === undefined || member.generation > claim.generation) {
        claims.set(k, { memberId: member.memberId, generation: member.generation })
      } else if (member.generation === claim.generation) {
        claims.set(k, { memberId: undefined, generation: claim.generation })
      }
    }
  }
  const owners = new Map<Key, string>()
  for (const [k, { memberId }] of claims) if (memberId !== undefined) owners.set(k, memberId)
  return owners
}

/**
 * Spreads all partitions of the subscribed topics over their subscribers: no partition can be moved to another
 * subscriber to make the spread more even.
 */
export const balanced = (
  members: ReadonlyArray<Subscriber>,
  partitionCount: (topic: string) => number
): Map<string, Array<TopicPartition>> => {
  const topics = [...new Set(members.flatMap((member) => [...member.topics]))].sort()
  const eligible = new Map(
    topics.map((topic) => [topic, members.filter((member) => member.topics.has(topic))] as const)
  )
  const result = new Map(members.map((member) => [member.memberId, [] as Array<TopicPartition>] as const))
  const load = (memberId: string): number => result.get(memberId)!.length
  const owners = ownership(members)

  const free: Array<TopicPartition> = []
  for (const topic of topics) {
    for (let partition = 0; partition < partitionCount(topic); partition++) {
      const tp = make(topic, partition)
      const owner = owners.get(key(tp))
      if (owner !== undefined && eligible.get(topic)!.some((member) => member.memberId === owner)) {
        result.get(owner)!.push(tp)
      } else free.push(tp)
    }
  }
  const lightest = (candidates: ReadonlyArray<Subscriber>): Subscriber =>
    candidates.reduce((best, member) => load(member.memberId) < load(best.memberId) ? member : best)

  // those that few can take go first
  free.sort((a, b) => eligible.get(a.topic)!.length - eligible.get(b.topic)!.length)
  for (const tp of free) result.get(lightest(eligible.get(tp.topic)!).memberId)!.push(tp)

  for (let moved = true; moved;) {
    moved = false
    for (const member of members) {
      const mine = result.get(member.memberId)!
      for (let i = mine.length - 1; i >= 0; i--) {
        const to = lightest(eligible.get(mine[i]!.topic)!)
        if (mine.length - load(to.memberId) >= 2) {
          result.get(to.memberId)!.push(...mine.splice(i, 1))
          moved = true
        }
      }
    }
  }
  return result
}

/**
 * One round of the cooperative protocol: what moves is withheld from its new owner for as long as its old one has not
 * released it.
 */
export const cooperative = (
  members: ReadonlyArray<Subscriber>,
  partitionCount: (topic: string) => number
): Map<string, Array<TopicPartition>> => {
  const owners = new Map<Key, Set<string>>()
  for (const member of members) {
    for (const tp of member.owned) {
      const k = key(tp)
      const set = owners.get(k) ?? new Set()
      owners.set(k, set.add(member.memberId))
    }
  }
  const result = balanced(members, partitionCount)
  for (const [memberId, partitions] of result) {
    result.set(
      memberId,
      partitions.filter((tp) => {
        for (const owner of owners.get(key(tp)) ?? []) if (owner !== memberId) return false
        return true
      })
    )
  }
  return result
}
