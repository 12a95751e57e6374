/** What is wrong with how a worker is to be made, before anything of it is. */
import type * as ConfigError from "effect/ConfigError"
import type * as Either from "effect/Either"
import type * as Consumer from "../../Consumer.ts"
import type { Options } from "../../ConsumerWorker.ts"
import * as Topic from "../../Topic.ts"
import { ConfigProblems } from "../configProblems.ts"
import { millisOf } from "../duration.ts"
import * as Reading from "../reading.ts"

const readsItself = (source: Consumer.Source, deadLetter: Options["deadLetter"]): boolean => {
  if (deadLetter === undefined || typeof deadLetter === "boolean" || Topic.isPattern(source)) return false
  const slug = typeof deadLetter === "string" ? deadLetter : deadLetter.slug
  return (Topic.isTopic(source) ? [source] : source).some((topic) => topic.slug === slug)
}

/** What contradicts itself, or says nothing. */
export const check = <E, R>(
  source: Consumer.Source,
  options: Options<E, R>,
  batchSize: number | undefined
): Either.Either<void, ConfigError.ConfigError> => {
  const problems = new ConfigProblems()
  const refuse = (name: string, ok: boolean, reason: string): void => {
    if (!ok) problems.add(["ConsumerWorker", name], reason)
  }
  const { deadLetter, onDecodeFailure, retry, retryTopics, timeout } = options
  const dead = deadLetter !== undefined && deadLetter !== false
  refuse(
    "batchSize",
    batchSize === undefined || (Number.isInteger(batchSize) && batchSize > 0),
    "must be a whole number above zero"
  )
  refuse(
    "timeout",
    timeout === undefined || (millisOf(timeout) ?? 0) > 0,
    "must be a duration above zero: leave it out where there is no limit"
  )
  refuse(
    "deadLetter",
    typeof deadLetter !== "string" || Topic.isValidName(deadLetter),
    `"${String(deadLetter)}" is no topic name`
  )
  refuse(
    "deadLetter",
    !readsItself(source, deadLetter),
    "is a topic that the worker reads: its dead letters would come back to it without end"
  )
  refuse("deadLetterWhen", options.deadLetterWhen === undefined || dead, "is set, and there is no deadLetter topic")
  refuse(
    "onDecodeFailure",
    onDecodeFailure === undefined || ["fail", "skip", "dead-letter"].includes(onDecodeFailure),
    `must be "fail", "skip" or "dead-letter", and is ${String(onDecodeFailure)}`
  )
  refuse(
    "onDecodeFailure",
    onDecodeFailure !== "dead-letter" || dead,
    "is \"dead-letter\", and there is no deadLetter topic"
  )
  refuse(
    "retryWhile",
    options.retryWhile === undefined || retry !== undefined || retryTopics !== undefined,
    "is set, and there is neither retry nor retryTopics"
  )
  refuse(
    "retryTopics",
    retryTopics === undefined || (Topic.isTopic(source) && source.slug === retryTopics.slug),
    `are those of the topic "${retryTopics?.slug}": the worker must read that one, and no other`
  )
  refuse(
    "retryTopics",
    retryTopics?.order !== "key" || options.ordering !== "unordered",
    "keep the order of keys, and ordering is \"unordered\": use order \"none\""
  )
  for (const { option, reason } of Reading.ofForEach(options)) refuse(option, false, reason)
  return problems.orElse(() => undefined)
}
