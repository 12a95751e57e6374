/**
 * What members of a classic group tell each other, in the format of the Java client, so that both may be members of
 * one group. Pure.
 */
import * as TopicPartition from "../../TopicPartition.ts"
import * as Assignor from "../inmemory/Assignor.ts"
import type { Library } from "./library.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

/** A member as the leader of its group sees it. */
export interface Peer extends Assignor.Subscriber {
  readonly groupInstanceId: string | undefined
}

/** The highest version that is known; whoever knows less reads the beginning. */
const subscriptionVersion = 3
/** All later versions have the same format. */
const assignmentVersion = 0

/**
 * The strategies that a member offers, the one it likes best first. The coordinator takes one that all members have in
 * common: Java consumers offer `range` unless told otherwise.
 */
export const strategies = {
  eager: ["roundrobin", "range"],
  cooperative: ["cooperative-sticky"]
} as const

/**
 * A member's subscription.
 */
export const encodeSubscription = (
  library: Library,
  topics: Iterable<string>,
  owned: Partitions,
  generation: number
): Buffer => {
  // where older Java clients look for it
  const userData = Buffer.alloc(4)
  userData.writeInt32BE(generation)
  return library.encodeConsumerProtocolSubscription({
    version: subscriptionVersion,
    topics: [...topics],
    userData,
    ownedPartitions: byTopic(owned),
    generationId: generation
  })
}

/**
 * Any member's subscription. One that can't be read gets nothing.
 */
export const decodePeer = (
  library: Library,
  memberId: string,
  groupInstanceId: string | null | undefined,
  metadata: Buffer
): Peer => {
  const member = { memberId, groupInstanceId: groupInstanceId ?? undefined }
  try {
    const { generationId, ownedPartitions, topics, userData } = library.decodeConsumerProtocolSubscription(metadata)
    const generation = generationId >= 0 ? generationId : library.decodeCooperativeStickyGeneration(userData)
    return { ...member, topics: new Set(topics), owned: flat(ownedPartitions), generation }
  } catch {
    return { ...member, topics: new Set(), owned: [], generation: -1 }
  }
}

/**
 * What a member is told to read.
 */
export const encodeAssignment = (library: Library, partitions: Partitions): Buffer =>
  library.encodeConsumerProtocolAssignment({ version: assignmentVersion, assignedPartitions: byTopic(partitions) })

/** Throws where it makes no sense. */
export const decodeAssignment = (library: Library, assignment: Buffer): Partitions =>
  flat(library.decodeConsumerProtocolAssignment(assignment).assignedPartitions)

/**
 * Who gets what, by a strategy that all members know.
 */
export const assign = (
  strategy: string,
  peers: ReadonlyArray<Peer>,
  partitionCount: (topic: string) => number
): Assignor.Assignment => {
  switch (strategy) {
    case "cooperative-sticky":
      return Assignor.cooperative(peers, partitionCount)
    case "range":
      return range(peers, partitionCount)
    default:
      // around, but each member keeps what it held as far as that is even: who leads does as it likes
      return Assignor.balanced(peers, partitionCount)
  }
}

/** Each topic for itself, in ranges: the same numbers of several topics go to the same member. */
const range = (peers: ReadonlyArray<Peer>, partitionCount: (topic: string) => number): Assignor.Assignment => {
  const sorted = inOrder(peers)
  const out = new Map<string, Array<TopicPartition.TopicPartition>>(sorted.map(({ memberId }) => [memberId, []]))
  for (const topic of topicsOf(sorted)) {
    const readers = sorted.filter(({ topics }) => topics.has(topic))
    const count = partitionCount(topic)
    const each = Math.floor(count / readers.length)
    const more = count % readers.length
    let next = 0
    readers.forEach(({ memberId }, i) => {
      const end = next + each + (i < more ? 1 : 0)
      for (; next < end; next++) out.get(memberId)!.push(TopicPartition.make(topic, next))
    })
  }
  return out
}

/** Members that keep their places over a restart come first, by the names that they keep. */
const inOrder = (peers: ReadonlyArray<Peer>): ReadonlyArray<Peer> => {
  const rank = ({ groupInstanceId, memberId }: Peer): string =>
    groupInstanceId === undefined ? `1${memberId}` : `0${groupInstanceId}`
  return [...peers].sort((a, b) => rank(a) < rank(b) ? -1 : 1)
}

/** That somebody reads. */
const topicsOf = (peers: ReadonlyArray<Peer>): ReadonlyArray<string> =>
  [...new Set(peers.flatMap(({ topics }) => [...topics]))].sort()

interface OfTopic {
  readonly topic: string
  readonly partitions: Array<number>
}

const byTopic = (partitions: Partitions): Array<OfTopic> => {
  const out = new Map<string, Array<number>>()
  for (const { partition, topic } of partitions) {
    const of = out.get(topic)
    if (of === undefined) out.set(topic, [partition])
    else of.push(partition)
  }
  return Array.from(out, ([topic, partitions]) => ({ topic, partitions }))
}

const flat = (assignments: ReadonlyArray<OfTopic>): Partitions =>
  assignments.flatMap(({ partitions, topic }) => partitions.map((partition) => TopicPartition.make(topic, partition)))
