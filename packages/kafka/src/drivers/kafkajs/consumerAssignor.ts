/**
 * What members of a group tell each other through kafkajs.
 *
 * It goes by the name and the format of kafkajs's round robin assigner, so that plain kafkajs consumers may be members
 * of the same group. What a member held before travels in the user data of its subscription, which they ignore.
 */
import { AssignerProtocol } from "kafkajs"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Subscriber } from "../inmemory/Assignor.ts"

/** kafkajs's own, which all members of a group must have in common. */
export const name = "RoundRobinAssigner"
export const version = 0

/** What a member held last, and in which generation: where two claim a partition, the later one has it. */
export type Owned = Pick<Subscriber, "owned" | "generation">

export const nothingOwned: Owned = { owned: [], generation: -1 }

/**
 * A member's subscription.
 */
export const encodeMember = (topics: ReadonlyArray<string>, { generation, owned }: Owned): Buffer =>
  AssignerProtocol.MemberMetadata.encode({
    version,
    topics: [...topics],
    userData: Buffer.from(JSON.stringify({
      generation,
      owned: owned.map(({ partition, topic }) => [topic, partition])
    }))
  })

/**
 * Any member's subscription; one of another kind of client holds nothing.
 */
export const decodeMember = (memberId: string, metadata: Buffer): Subscriber => {
  const decoded = AssignerProtocol.MemberMetadata.decode(metadata)
  return { memberId, topics: new Set(decoded?.topics), ...decodeOwned(decoded?.userData) }
}

const decodeOwned = (userData: Buffer | null | undefined): Owned => {
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
