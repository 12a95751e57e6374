/**
 * Everything that can go wrong, as tagged errors. Each says what was attempted, what to do where that is known, and
 * carries the driver's own error as `cause`. None of them ever holds a secret.
 *
 * As JSON they show what a log should: the message and the fields, offsets as text, payloads by their size alone. By
 * their schemas they can be sent elsewhere and back, whole.
 *
 * @since 0.1.0
 */
import * as Schema from "effect/Schema"
import { printable } from "./engine/printable.ts"

const cause = Schema.optional(Schema.Defect)
/** What a log shows: offsets as text, payloads by their size alone, a cause by its message. */
const json = (error: Error): unknown => {
  const shown: Record<string, unknown> = { message: error.message }
  for (const [name, value] of Object.entries(error)) shown[name] = printable(value)
  if (error.cause !== undefined) shown["cause"] = String(error.cause)
  return shown
}

const partition = Schema.Struct({ topic: Schema.String, partition: Schema.Number })

/**
 * No broker could be reached, or the connection broke, within the configured time.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaConnectionError extends Schema.TaggedError<KafkaConnectionError>(
  "@coffeebuddy/kafka/KafkaConnectionError"
)("KafkaConnectionError", {
  /** What was attempted, for instance `"connect"` or `"poll"`. */
  operation: Schema.String,
  brokers: Schema.Array(Schema.String),
  reason: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.operation}: no connection to Kafka at ${this.brokers.join(", ")}: ${this.reason}`
  }
}

/**
 * We could not agree with the broker who each of us is: wrong password, unknown user, mechanism not enabled, expired
 * token, untrusted certificate. `kind` says which.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaAuthenticationError extends Schema.TaggedError<KafkaAuthenticationError>(
  "@coffeebuddy/kafka/KafkaAuthenticationError"
)("KafkaAuthenticationError", {
  operation: Schema.String,
  /** `"plain"`, `"scram-sha-256"`, `"scram-sha-512"`, `"oauthbearer"`, or `"ssl"`. */
  mechanism: Schema.String,
  /**
   * - `"credentials"`: the broker does not take this user with this password. It never says which of them is wrong.
   * - `"token"`: the broker does not take this token: it has expired, or is not for this cluster.
   * - `"mechanism"`: the listener does not offer this mechanism, or no SASL at all.
   * - `"untrusted-certificate"`: the broker's certificate is of no authority we trust, or is not valid now.
   * - `"host-name"`: the broker's certificate is for another host name.
   * - `"client-certificate"`: the broker asks for a certificate of ours, or does not take the one it was shown.
   * - `"unobtainable"`: our own credentials could not be had, or are none: a file, an `Effect`, a private key.
   * - `"other"`: the driver knows no more than `reason` says.
   */
  kind: Schema.Literal(
    "credentials",
    "token",
    "mechanism",
    "untrusted-certificate",
    "host-name",
    "client-certificate",
    "unobtainable",
    "other"
  ).pipe(Schema.propertySignature, Schema.withConstructorDefault(() => "other" as const)),
  reason: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.operation}: authentication by ${this.mechanism} failed: ${this.reason}`
  }
}

/**
 * The broker knows us, and an ACL is missing.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaAuthorizationError extends Schema.TaggedError<KafkaAuthorizationError>(
  "@coffeebuddy/kafka/KafkaAuthorizationError"
)("KafkaAuthorizationError", {
  operation: Schema.String,
  resource: Schema.Literal("topic", "group", "transactional-id", "cluster"),
  /** The topic, the group or the transactional id. */
  resourceName: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.operation}: not authorized on ${this.resource} "${this.resourceName}": grant the principal an ACL for it`
  }
}

/**
 * Something did not answer within its time.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaTimeoutError extends Schema.TaggedError<KafkaTimeoutError>("@coffeebuddy/kafka/KafkaTimeoutError")(
  "KafkaTimeoutError",
  {
    operation: Schema.String,
    /** How long was waited, in milliseconds. */
    millis: Schema.Number,
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.operation}: no answer within ${this.millis} ms`
  }
}

/**
 * The broker answered a request with an error code that has no error class of its own here.
 *
 * @since 0.1.0
 * @category errors
 */
export class KafkaRequestError extends Schema.TaggedError<KafkaRequestError>("@coffeebuddy/kafka/KafkaRequestError")(
  "KafkaRequestError",
  {
    operation: Schema.String,
    /** The protocol's name of the error, for instance `"INVALID_REPLICATION_FACTOR"`. */
    code: Schema.String,
    retriable: Schema.Boolean,
    reason: Schema.String,
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.operation}: the broker answered ${this.code}: ${this.reason}`
  }
}

/**
 * This driver cannot do what was asked. Said at construction, never found out later.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnsupportedFeatureError extends Schema.TaggedError<UnsupportedFeatureError>(
  "@coffeebuddy/kafka/UnsupportedFeatureError"
)("UnsupportedFeatureError", {
  driver: Schema.String,
  feature: Schema.String,
  reason: Schema.String
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `the ${this.driver} driver has no ${this.feature}: ${this.reason}`
  }
}

/**
 * No such topic, or no such partition of it.
 *
 * @since 0.1.0
 * @category errors
 */
export class UnknownTopicError extends Schema.TaggedError<UnknownTopicError>("@coffeebuddy/kafka/UnknownTopicError")(
  "UnknownTopicError",
  {
    operation: Schema.String,
    topic: Schema.String,
    partition: Schema.optional(Schema.Number),
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return this.partition === undefined
      ? `${this.operation}: topic "${this.topic}" does not exist: create it, or let TopicRegistry.ensure create it`
      : `${this.operation}: topic "${this.topic}" has no partition ${this.partition}`
  }
}

/**
 * A record could not be produced. It belongs to the caller whose record it was; others in its batch are not affected.
 *
 * @since 0.1.0
 * @category errors
 */
export class ProducerError extends Schema.TaggedError<ProducerError>("@coffeebuddy/kafka/ProducerError")(
  "ProducerError",
  {
    topic: Schema.String,
    partition: Schema.optional(Schema.Number),
    /**
     * - `"too-large"`: larger than the limit of the producer, the topic or the broker.
     * - `"timeout"`: not acknowledged within the delivery timeout; it may or may not have been stored.
     * - `"unknown-outcome"`: sent, the answer lost, and sending it again could store it twice.
     * - `"closed"`: the producer's scope was closed before the record was acknowledged.
     * - `"refused"`: the broker refused it; `code` says why.
     * - `"invalid"`: the record contradicts the protocol, for instance a negative partition.
     */
    reason: Schema.Literal("too-large", "timeout", "unknown-outcome", "closed", "refused", "invalid"),
    /** The protocol's name of the broker's error, where one was answered. */
    code: Schema.optional(Schema.String),
    /** Whether sending the same record again may succeed, and can not store it twice. */
    retriable: Schema.Boolean,
    /** Which of the records given to `sendAll`, by index; absent for a single `send`. */
    records: Schema.optional(Schema.Array(Schema.Number)),
    description: Schema.String,
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    const where = this.partition === undefined ? this.topic : `${this.topic}[${this.partition}]`
    return `produce to ${where}: ${this.reason}: ${this.description}`
  }
}

/**
 * Another producer took over this transactional id. This one can never send again.
 *
 * The broker says the same of a producer whose transaction took too long; `Producer.transaction` tells that from its
 * clock, and fails with `TransactionError` then.
 *
 * @since 0.1.0
 * @category errors
 */
export class ProducerFencedError extends Schema.TaggedError<ProducerFencedError>(
  "@coffeebuddy/kafka/ProducerFencedError"
)("ProducerFencedError", {
  transactionalId: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `transactional id "${this.transactionalId}" was taken over by a newer producer`
  }
}

/**
 * `Producer.transaction` was used where there can be no transaction, or it took too long.
 *
 * @since 0.1.0
 * @category errors
 */
export class TransactionError extends Schema.TaggedError<TransactionError>("@coffeebuddy/kafka/TransactionError")(
  "TransactionError",
  {
    /**
     * - `"not-transactional"`: the producer has no `transactionalId`.
     * - `"nested"`: inside a transaction of the same producer.
     * - `"timed-out"`: it was open for longer than `transactionTimeout`, and the broker has refused it since: nothing of
     *   it is committed. The broker ends what takes too long as if the producer was gone, so this one can not go on.
     * - `"outlives-session"`: `Consumer.transform` with a producer whose `transactionTimeout` is not below the consumer's
     *   `sessionTimeout`: what it left open when it lost its partitions could still be committed beside the work of
     *   their new owner.
     */
    reason: Schema.Literal("not-transactional", "nested", "timed-out", "outlives-session"),
    /** What the producer was given, in milliseconds, where that is what is wrong. */
    transactionTimeout: Schema.optional(Schema.Number),
    /** What the consumer was given, in milliseconds, where the two contradict each other. */
    sessionTimeout: Schema.optional(Schema.Number),
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    switch (this.reason) {
      case "nested":
        return "a transaction inside a transaction of the same producer: Kafka has no such thing"
      case "not-transactional":
        return "the producer has no transactionalId: give it one in its options"
      case "timed-out":
        return `the transaction was open for longer than transactionTimeout, ${this.transactionTimeout} ms, and the ` +
          "broker refuses it by now: raise transactionTimeout or do less in one transaction, and open a new producer"
      case "outlives-session":
        return `the producer's transactionTimeout, ${this.transactionTimeout} ms, has to be below the consumer's ` +
          `sessionTimeout, ${this.sessionTimeout} ms: lower the first or raise the second`
    }
  }
}

/**
 * The producer's buffer is full, and the producer was asked to say so rather than wait.
 *
 * @since 0.1.0
 * @category errors
 */
export class BufferFullError extends Schema.TaggedError<BufferFullError>("@coffeebuddy/kafka/BufferFullError")(
  "BufferFullError",
  {
    topic: Schema.String,
    /** What is buffered, in bytes. */
    bufferedBytes: Schema.Number,
    /** The limit, in bytes. */
    limitBytes: Schema.Number
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `produce to ${this.topic}: ${this.bufferedBytes} of ${this.limitBytes} bytes are buffered already`
  }
}

/**
 * Offsets were not committed.
 *
 * @since 0.1.0
 * @category errors
 */
export class CommitError extends Schema.TaggedError<CommitError>("@coffeebuddy/kafka/CommitError")("CommitError", {
  /**
   * - `"stale"`: the record belongs to an assignment that has ended; whoever owns the partition now reads it again.
   * - `"fenced"`: the group gave this member's place away (session expired, or an instance id taken over).
   * - `"rebalancing"`: the group is between two generations.
   * - `"timeout"`: the broker did not confirm within the commit timeout.
   * - `"closed"`: the consumer was stopped.
   * - `"refused"`: the broker refused it; `code` says why.
   */
  reason: Schema.Literal("stale", "fenced", "rebalancing", "timeout", "closed", "refused"),
  partitions: Schema.Array(partition),
  code: Schema.optional(Schema.String),
  description: Schema.optional(Schema.String),
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    const where = this.partitions.map((tp) => `${tp.topic}[${tp.partition}]`).join(", ")
    return `commit of ${where}: ${this.reason}${this.code === undefined ? "" : ` (${this.code})`}${
      this.description === undefined ? "" : `: ${this.description}`
    }`
  }
}

/**
 * The consumer can not go on. Every stream of it fails with this error.
 *
 * @since 0.1.0
 * @category errors
 */
export class ConsumerError extends Schema.TaggedError<ConsumerError>("@coffeebuddy/kafka/ConsumerError")(
  "ConsumerError",
  {
    /**
     * - `"unavailable"`: nothing was heard from the cluster for the configured time.
     * - `"fenced"`: another member took over this instance id.
     * - `"crashed"`: the driver gave up, or the run loop died.
     * - `"closed"`: the consumer was used after it was stopped.
     * - `"subscription"`: subscriptions on this consumer contradict each other.
     */
    reason: Schema.Literal("unavailable", "fenced", "crashed", "closed", "subscription"),
    groupId: Schema.String,
    description: Schema.String,
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `consumer of group "${this.groupId}": ${this.reason}: ${this.description}`
  }
}

/**
 * The position is not (or no longer) in the partition's log, and `autoOffsetReset` is `"fail"`.
 *
 * @since 0.1.0
 * @category errors
 */
export class OffsetOutOfRangeError extends Schema.TaggedError<OffsetOutOfRangeError>(
  "@coffeebuddy/kafka/OffsetOutOfRangeError"
)("OffsetOutOfRangeError", {
  topic: Schema.String,
  partition: Schema.Number,
  /** The offset asked for; absent where the group had none committed. */
  offset: Schema.optional(Schema.BigInt),
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    const where = `${this.topic}[${this.partition}]`
    return this.offset === undefined
      ? `${where}: the group has no committed offset, and autoOffsetReset is "fail"`
      : `${where}: offset ${this.offset} is not in the log, and autoOffsetReset is "fail"`
  }
}

/**
 * A key, value or header could not be turned into bytes. Nothing was sent.
 *
 * @since 0.1.0
 * @category errors
 */
export class SerializationError extends Schema.TaggedError<SerializationError>("@coffeebuddy/kafka/SerializationError")(
  "SerializationError",
  {
    topic: Schema.String,
    part: Schema.Literal("key", "value", "header"),
    /** What the serde or the schema said. */
    reason: Schema.String,
    /** Which of the records given to `sendAll`, by index; absent for a single `send`. */
    records: Schema.optional(Schema.Array(Schema.Number)),
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.topic}: the ${this.part} can not be serialized: ${this.reason}`
  }
}

/**
 * Bytes from Kafka are not what the topic's serde expects. Holds everything needed to look at the record, or to send
 * it to a dead-letter topic unchanged.
 *
 * @since 0.1.0
 * @category errors
 */
export class DeserializationError extends Schema.TaggedError<DeserializationError>(
  "@coffeebuddy/kafka/DeserializationError"
)("DeserializationError", {
  topic: Schema.String,
  partition: Schema.Number,
  offset: Schema.BigInt,
  part: Schema.Literal("key", "value"),
  /** The bytes of the part that failed; `null` for a tombstone or an absent key. */
  bytes: Schema.NullOr(Schema.Uint8ArrayFromBase64),
  /** The record's headers, in order. */
  headers: Schema.Array(Schema.Tuple(Schema.String, Schema.NullOr(Schema.Uint8ArrayFromBase64))),
  reason: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.topic}[${this.partition}]@${this.offset}: the ${this.part} can not be deserialized: ${this.reason}`
  }
}

/**
 * A topic exists, and contradicts its definition.
 *
 * @since 0.1.0
 * @category errors
 */
export class TopicMismatchError extends Schema.TaggedError<TopicMismatchError>("@coffeebuddy/kafka/TopicMismatchError")(
  "TopicMismatchError",
  {
    differences: Schema.Array(Schema.Struct({
      topic: Schema.String,
      /** `"partitions"`, `"replicationFactor"`, or the name of a config entry. */
      setting: Schema.String,
      expected: Schema.String,
      actual: Schema.String
    }))
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `topics differ from their definitions:\n${
      this.differences.map((d) => `  ${d.topic}: ${d.setting} is ${d.actual}, defined as ${d.expected}`).join("\n")
    }`
  }
}

/**
 * The group has members, and what was asked for is done to a group without any: their consumers would overwrite it, or
 * be cut off. Nothing was changed.
 *
 * @since 0.1.0
 * @category errors
 */
export class GroupActiveError extends Schema.TaggedError<GroupActiveError>("@coffeebuddy/kafka/GroupActiveError")(
  "GroupActiveError",
  {
    operation: Schema.String,
    groupId: Schema.String,
    /** As the broker names it, for instance `"Stable"`. */
    state: Schema.String,
    /** How many there are, where that is known. */
    members: Schema.optional(Schema.Number),
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    const members = this.members === undefined
      ? "members"
      : `${this.members} ${this.members === 1 ? "member" : "members"}`
    return `${this.operation}: group "${this.groupId}" is ${this.state} with ${members}: stop its consumers first`
  }
}

/**
 * A worker's handler did not end within its `timeout`, and was interrupted. It counts as a failure like any other.
 *
 * @since 0.1.0
 * @category errors
 */
export class HandlerTimeoutError extends Schema.TaggedError<HandlerTimeoutError>(
  "@coffeebuddy/kafka/HandlerTimeoutError"
)("HandlerTimeoutError", {
  topic: Schema.String,
  partition: Schema.Number,
  /** Of the record, or of the first of a batch. */
  offset: Schema.BigInt,
  attempt: Schema.Number,
  /** How long it was given, in milliseconds. */
  millis: Schema.Number
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.topic}[${this.partition}]@${this.offset}: the handler did not end within ${this.millis} ms (attempt ${this.attempt})`
  }
}

/**
 * A worker's handler threw, or died: the program has a fault. It is not tried again unless `retryWhile` says so.
 *
 * @since 0.1.0
 * @category errors
 */
export class HandlerDefectError extends Schema.TaggedError<HandlerDefectError>("@coffeebuddy/kafka/HandlerDefectError")(
  "HandlerDefectError",
  {
    topic: Schema.String,
    partition: Schema.Number,
    /** Of the record, or of the first of a batch. */
    offset: Schema.BigInt,
    attempt: Schema.Number,
    /** What it threw, as text. */
    reason: Schema.String,
    cause
  }
) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.topic}[${this.partition}]@${this.offset}: the handler died (attempt ${this.attempt}): ${this.reason}`
  }
}

/**
 * A worker could not send a record to its dead-letter topic, or to a retry topic: that is missing, or refuses it. The
 * record's offset was not committed.
 *
 * @since 0.1.0
 * @category errors
 */
export class ForwardError extends Schema.TaggedError<ForwardError>("@coffeebuddy/kafka/ForwardError")("ForwardError", {
  purpose: Schema.Literal("dead-letter", "retry-topic"),
  /** Where it was to go. */
  target: Schema.String,
  topic: Schema.String,
  partition: Schema.Number,
  /** Of the record, or of the first of a batch. */
  offset: Schema.BigInt,
  /** What the producer said. */
  reason: Schema.String,
  cause
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    const kind = this.purpose === "dead-letter" ? "dead-letter" : "retry"
    return `${this.topic}[${this.partition}]@${this.offset}: not sent to the ${kind} topic "${this.target}": ${this.reason}`
  }
}

/**
 * A record of a dead-letter topic has no headers that say where it came from: a worker did not write it.
 *
 * @since 0.1.0
 * @category errors
 */
export class MalformedDeadLetterError extends Schema.TaggedError<MalformedDeadLetterError>(
  "@coffeebuddy/kafka/MalformedDeadLetterError"
)("MalformedDeadLetterError", {
  topic: Schema.String,
  partition: Schema.Number,
  offset: Schema.BigInt
}) {
  override toJSON(): unknown {
    return json(this)
  }
  override get message(): string {
    return `${this.topic}[${this.partition}]@${this.offset}: it has no headers that say where it came from`
  }
}

/**
 * Any error of this library.
 *
 * @since 0.1.0
 * @category errors
 */
export const KafkaError = Schema.Union(
  KafkaConnectionError,
  KafkaAuthenticationError,
  KafkaAuthorizationError,
  KafkaTimeoutError,
  KafkaRequestError,
  UnsupportedFeatureError,
  UnknownTopicError,
  ProducerError,
  ProducerFencedError,
  TransactionError,
  BufferFullError,
  CommitError,
  ConsumerError,
  OffsetOutOfRangeError,
  SerializationError,
  DeserializationError,
  TopicMismatchError,
  GroupActiveError,
  HandlerTimeoutError,
  HandlerDefectError,
  ForwardError,
  MalformedDeadLetterError
)

/**
 * @since 0.1.0
 * @category errors
 */
export type KafkaError = typeof KafkaError.Type

/**
 * What a request to the cluster can fail with, whatever the request.
 *
 * @since 0.1.0
 * @category errors
 */
export type ClientError =
  | KafkaConnectionError
  | KafkaAuthenticationError
  | KafkaAuthorizationError
  | KafkaTimeoutError
  | KafkaRequestError

/**
 * What a stream of a consumer can fail with.
 *
 * @since 0.1.0
 * @category errors
 */
export type StreamError =
  | ConsumerError
  | ClientError
  | UnknownTopicError
  | UnsupportedFeatureError
  | OffsetOutOfRangeError
  | CommitError
  | DeserializationError

/**
 * Whether a value is an error of this library.
 *
 * @example
 * ```ts
 * import { KafkaError } from "@coffeebuddy/kafka"
 *
 * const error = new KafkaError.KafkaTimeoutError({ operation: "fetch metadata", millis: 5000 })
 * console.log(KafkaError.isKafkaError(error)) // true
 * ```
 *
 * @since 0.1.0
 * @category guards
 */
export const isKafkaError = (u: unknown): u is KafkaError => KafkaError.members.some((member) => u instanceof member)
