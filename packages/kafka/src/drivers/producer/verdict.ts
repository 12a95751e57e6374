/**
 * What a failed attempt to produce means for a batch. Pure: the rules that keep a record from being lost or stored
 * twice are here.
 */
import type { Meaning, ProtocolCode } from "../errors.ts"

/**
 * - `"again"`: it may pass. `perhapsStored` says whether this attempt may have stored the batch, `stale` whether another
 *   broker may be the one to ask, `soon` that it will be over in a moment.
 * - `"stored"`: the broker has these very records already.
 * - `"refused"`: not stored by this attempt, and would not be next time. `answered` says that the broker, which
 *   recognises what it has, refused the very batch.
 * - `"lost"`: perhaps stored, and the next time would end in the same way.
 * - `"estranged"`: the broker and we disagree about the sequence: it takes a fresh producer id. Not stored by this
 *   attempt.
 * - `"fenced"`: a newer producer has the transactional id. Not stored.
 */
export type Verdict =
  | { readonly _tag: "again"; readonly perhapsStored: boolean; readonly stale: boolean; readonly soon: boolean }
  | { readonly _tag: "stored" }
  | { readonly _tag: "refused"; readonly answered: boolean; readonly tooLarge: boolean }
  | { readonly _tag: "lost" }
  | { readonly _tag: "estranged" }
  | { readonly _tag: "fenced" }

const refused: Verdict = { _tag: "refused", answered: false, tooLarge: false }

const again = (
  options: { readonly perhapsStored?: boolean; readonly stale?: boolean; readonly soon?: boolean }
): Verdict => ({
  _tag: "again",
  perhapsStored: options.perhapsStored ?? false,
  stale: options.stale ?? false,
  soon: options.soon ?? false
})

/**
 * - `"unsent"`: what comes before the produce request failed: a connection, metadata, adding to the transaction.
 * - `"sent"`: the produce request failed, or the broker's answer for this partition is an error.
 */
export type Stage = "unsent" | "sent"

/** What went wrong, as its driver reads it. */
export interface Failed {
  /** The broker's answer, if there is one. */
  readonly answered: ProtocolCode | undefined
  readonly meaning: Meaning
}

export const judge = ({ answered, meaning: found }: Failed, stage: Stage, transactional: boolean): Verdict => {
  if (answered !== undefined) return judgeAnswer(answered.code, answered.retriable, stage, transactional)
  switch (found._tag) {
    // said before anything else is sent on a connection
    case "Authentication":
    case "Authorization":
      return refused
    case "Ours":
      return judgeUnanswered(
        found.error._tag === "KafkaConnectionError" || found.error._tag === "KafkaTimeoutError",
        stage
      )
    case "Protocol":
      return judgeUnanswered(found.retriable, stage)
    default:
      return again({ perhapsStored: stage === "sent", stale: true })
  }
}

const judgeUnanswered = (passing: boolean, stage: Stage): Verdict =>
  passing
    ? again({ perhapsStored: stage === "sent", stale: true })
    : stage === "sent"
    ? { _tag: "lost" }
    : refused

const judgeAnswer = (code: string, retriable: boolean, stage: Stage, transactional: boolean): Verdict => {
  switch (code) {
    case "DUPLICATE_SEQUENCE_NUMBER":
      return { _tag: "stored" }
    case "MESSAGE_TOO_LARGE":
    case "RECORD_LIST_TOO_LARGE":
      return { _tag: "refused", answered: stage === "sent", tooLarge: true }
    case "NOT_LEADER_OR_FOLLOWER":
    case "LEADER_NOT_AVAILABLE":
    case "FENCED_LEADER_EPOCH":
    case "UNKNOWN_LEADER_EPOCH":
    case "UNKNOWN_TOPIC_OR_PARTITION":
    case "REPLICA_NOT_AVAILABLE":
    case "BROKER_NOT_AVAILABLE":
      return again({ stale: true })
    case "CONCURRENT_TRANSACTIONS":
      return again({ soon: true })
    case "OUT_OF_ORDER_SEQUENCE_NUMBER":
    case "UNKNOWN_PRODUCER_ID":
      return { _tag: "estranged" }
    case "INVALID_PRODUCER_ID_MAPPING":
    case "INVALID_PRODUCER_EPOCH":
    case "PRODUCER_FENCED":
      return { _tag: transactional ? "fenced" : "estranged" }
    // appended, and then something did not follow in time
    case "NOT_ENOUGH_REPLICAS_AFTER_APPEND":
    case "REQUEST_TIMED_OUT":
    case "NETWORK_EXCEPTION":
    case "KAFKA_STORAGE_ERROR":
    case "UNKNOWN":
    case "UNKNOWN_SERVER_ERROR":
      return again({ perhapsStored: stage === "sent", stale: true })
    default:
      return retriable ? again({}) : { _tag: "refused", answered: stage === "sent", tooLarge: false }
  }
}
