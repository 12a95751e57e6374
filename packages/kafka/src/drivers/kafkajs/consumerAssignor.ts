/**
 * Who reads what: a balanced assignment that moves as few partitions as it can. Pure.
 *
 * It goes by the name and the format of kafkajs's round robin assigner, so that plain kafkajs consumers may be members
 * of the same group. What a member held before travels in the user data of its subscription, which they ignore.
 */
import { AssignerProtocol } from "kafkajs"
import * as TopicPartition from "../../TopicPartition.ts"

/** kafkajs's own, which all members of a group must have in common. */
export const name = "RoundRobinAssigner"
export const version = 0

/**
 * A member as the leader sees it.
 */
export interface Member {
  readonly id: string
  readonly topics: ReadonlyArray<string>
  /** What it held last. */
  readonly owned: ReadonlyArray<TopicPartition.TopicPartition>
  /** The generation in which it held that: where two members claim a partition, the later one has it. */
  readonly generation: number
}

/**
 * Deals out all partitions of `partitions` that anybody subscribes to. The numbers of partitions of two members that
 * subscribe to the same topics differ by at most one.
 */
export const assign = (
  members: ReadonlyArray<Member>,
  partitions: ReadonlyMap<string, ReadonlyArray<number>>
): ReadonlyMap<string, ReadonlyArray<TopicPartition.TopicPartition>> => {
  const table = new Table(members)
  const free = new Map<TopicPartition.Key, TopicPartition.TopicPartition>()
  for (const topic of [...partitions.keys()].sort()) {
    for (const partition of [...partitions.get(topic)!].sort((a, b) => a - b)) {
      const tp = TopicPartition.make(topic, partition)
      free.set(TopicPartition.key(tp), tp)
    }
  }
  // each keeps what it had
  for (const member of [...members].sort((a, b) => b.generation - a.generation || compare(a.id, b.id))) {
    for (const owned of member.owned) {
      const tp = free.get(TopicPartition.key(owned))
      if (tp === undefined || !member.topics.includes(tp.topic)) continue
      free.delete(TopicPartition.key(tp))
      table.give(member.id, tp)
    }
  }
  // what nobody had goes to whoever has least
  for (const tp of free.values()) {
    const taker = table.poorest(tp.topic)
    if (taker !== undefined) table.give(taker.id, tp)
  }
  table.level()
  return new Map([...table.seats.values()].map((seat) => [seat.id, seat.held]))
}

interface Seat {
  readonly id: string
  readonly held: Array<TopicPartition.TopicPartition>
  readonly perTopic: Map<string, number>
}

const compare = (a: string, b: string): number => a < b ? -1 : a > b ? 1 : 0

class Table {
  readonly seats = new Map<string, Seat>()
  private readonly subscribers = new Map<string, Array<Seat>>()

  constructor(members: ReadonlyArray<Member>) {
    for (const member of [...members].sort((a, b) => compare(a.id, b.id))) {
      const seat: Seat = { id: member.id, held: [], perTopic: new Map() }
      this.seats.set(member.id, seat)
      for (const topic of new Set(member.topics)) {
        const seats = this.subscribers.get(topic)
        if (seats === undefined) this.subscribers.set(topic, [seat])
        else seats.push(seat)
      }
    }
  }

  give(id: string, tp: TopicPartition.TopicPartition): void {
    const seat = this.seats.get(id)!
    seat.held.push(tp)
    seat.perTopic.set(tp.topic, (seat.perTopic.get(tp.topic) ?? 0) + 1)
  }

  /** Who has the fewest partitions of all, and of this topic among those. */
  poorest(topic: string): Seat | undefined {
    let found: Seat | undefined = undefined
    for (const seat of this.subscribers.get(topic) ?? []) {
      if (
        found === undefined || seat.held.length < found.held.length
        || (seat.held.length === found.held.length && count(seat, topic) < count(found, topic))
      ) found = seat
    }
    return found
  }

  /** Moves single partitions from who has more to who has at least two fewer, until there is no such pair. */
  level(): void {
    let moved = true
    while (moved) {
      moved = false
      for (const seat of [...this.seats.values()].sort((a, b) => b.held.length - a.held.length)) {
        while (this.shed(seat)) moved = true
      }
    }
  }

  private shed(from: Seat): boolean {
    let best: { readonly topic: string; readonly to: Seat; readonly gain: number } | undefined = undefined
    for (const [topic, n] of from.perTopic) {
      const to = n === 0 ? undefined : this.poorest(topic)
      if (to === undefined || from.held.length - to.held.length < 2) continue
      const gain = n - count(to, topic)
      if (best === undefined || gain > best.gain) best = { topic, to, gain }
    }
    if (best === undefined) return false
    const { to, topic } = best
    const index = from.held.findLastIndex((tp) => tp.topic === topic)
    const [tp] = from.held.splice(index, 1)
    from.perTopic.set(topic, count(from, topic) - 1)
    this.give(to.id, tp!)
    return true
  }
}

const count = (seat: Seat, topic: string): number => seat.perTopic.get(topic) ?? 0

// ---------------------------------------------------------------------------------------------------------------------
// on the wire, by kafkajs's encoders
// ---------------------------------------------------------------------------------------------------------------------

/**
 * A member's subscription.
 */
export const encodeMember = (member: Omit<Member, "id">): Buffer =>
  AssignerProtocol.MemberMetadata.encode({
    version,
    topics: [...member.topics],
    userData: Buffer.from(JSON.stringify({
      generation: member.generation,
      owned: member.owned.map(({ partition, topic }) => [topic, partition])
    }))
  })

/**
 * Any member's subscription; one of another kind of client holds nothing.
 */
export const decodeMember = (id: string, metadata: Buffer): Member => {
  const decoded = AssignerProtocol.MemberMetadata.decode(metadata)
  return { id, topics: decoded?.topics ?? [], ...decodeOwned(decoded?.userData) }
}

const nothingOwned: Pick<Member, "owned" | "generation"> = { owned: [], generation: -1 }

const decodeOwned = (userData: Buffer | null | undefined): Pick<Member, "owned" | "generation"> => {
  if (userData === null || userData === undefined || userData.length === 0) return nothingOwned
  try {
    const parsed: unknown = JSON.parse(userData.toString("utf8"))
    if (typeof parsed !== "object" || parsed === null || !("owned" in parsed) || !Array.isArray(parsed.owned)) {
      return nothingOwned
    }
    const owned = parsed.owned.flatMap((pair: unknown) =>
      Array.isArray(pair) && typeof pair[0] === "string" && Number.isInteger(pair[1])
        ? [TopicPartition.make(pair[0], Number(pair[1]))]
        : []
    )
    const generation = "generation" in parsed && typeof parsed.generation === "number" ? parsed.generation : -1
    return { owned, generation }
  } catch {
    // another client's user data, in a format of its own
    return nothingOwned
  }
}

/**
 * What a member is told to read.
 */
export const encodeAssignment = (partitions: ReadonlyArray<TopicPartition.TopicPartition>): Buffer => {
  const assignment: Record<string, Array<number>> = Object.create(null)
  for (const { partition, topic } of partitions) (assignment[topic] ??= []).push(partition)
  return AssignerProtocol.MemberAssignment.encode({ version, assignment, userData: Buffer.alloc(0) })
}
