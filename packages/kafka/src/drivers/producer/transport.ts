/**
 * What a driver does itself for its producers: single requests, each sent once, and what its errors mean. All else, of
 * which records are lost or stored twice if it is wrong, is shared: numbers, retries, outcomes, transactions.
 *
 * The promises reject with what the client threw.
 */
import type * as Effect from "effect/Effect"
import type { GroupMetadata, OffsetAndMetadata } from "../../KafkaClient.ts"
import type { ClientError, UnknownTopicError } from "../../KafkaError.ts"
import type { TopicPartition } from "../../TopicPartition.ts"
import { type Attempt, type Meaning, type ProtocolCode, typed, type TypedError } from "../errors.ts"
import type { Pending } from "./pending.ts"
import type { Identity, ProducerIdentity } from "./sequences.ts"

/** The broker that leads each partition of a topic, by partition; `undefined` while nobody does. */
export type Leaders = ReadonlyMap<number, number | undefined>

export type LookupError = ClientError | UnknownTopicError

/** What goes into one request: what one broker leads, under one identity. */
export interface Group {
  readonly leader: number
  readonly identity: Identity | undefined
  readonly members: Array<Pending>
}

/** The broker's answer for one batch. */
export type Produced =
  | { readonly _tag: "Refused"; readonly error: unknown }
  | { readonly _tag: "Stored"; readonly baseOffset: bigint; readonly logAppendTime: bigint | undefined }

export interface Transport {
  readonly meaning: (error: unknown) => Meaning
  /** The broker's answer, if one is anywhere in the error. */
  readonly protocolCode: (error: unknown) => ProtocolCode | undefined
  readonly attempt: (operation: string, about: About) => Attempt
  /** Who leads these topics, each with its own error. */
  readonly leaders: (
    topics: ReadonlyArray<string>
  ) => Effect.Effect<ReadonlyMap<string, Leaders | LookupError>, ClientError>
  /**
   * One request to one broker. Calls `onSent` when it may have been sent, and answers for each member, in order, or
   * `"unanswered"` where no answer is asked for.
   */
  readonly produce: (group: Group, onSent: () => void) => Promise<ReadonlyArray<Produced | undefined> | "unanswered">
  /** From the coordinator of the transactional id, or from any broker where there is none. */
  readonly initProducerId: () => Promise<ProducerIdentity>
  readonly addPartitions: (
    identity: Identity,
    partitions: ReadonlyArray<TopicPartition>
  ) => Promise<ReadonlyArray<TopicPartition & { readonly error: unknown }>>
  readonly addOffsets: (identity: Identity, groupId: string) => Promise<unknown>
  readonly commitOffsets: (
    identity: Identity,
    group: GroupMetadata,
    offsets: ReadonlyArray<OffsetAndMetadata>
  ) => Promise<unknown>
  /**
   * Calls `onSent` when it may have been sent. Answers who we are from then on, where the coordinator has raised the
   * epoch.
   */
  readonly endTransaction: (
    identity: Identity,
    committed: boolean,
    onSent: () => void
  ) => Promise<ProducerIdentity | undefined>
}

export type About = Pick<Attempt, "topic" | "partition" | "group" | "transactionalId"> & { readonly millis?: number }

/** What was thrown as a typed error. */
export const failure = (transport: Transport, error: unknown, operation: string, about: About): TypedError =>
  typed(error, transport.meaning(error), transport.attempt(operation, about))

/** What belongs together by topic. */
export const byTopic = <A extends { readonly topic: string }>(all: ReadonlyArray<A>): ReadonlyMap<string, Array<A>> => {
  const out = new Map<string, Array<A>>()
  for (const one of all) {
    const same = out.get(one.topic)
    if (same === undefined) out.set(one.topic, [one])
    else same.push(one)
  }
  return out
}
