/**
 * How old the oldest unread record is, found out by asking where the log stood at a time: a bisection over time, with
 * as few questions as may be, since each is a request.
 */
import * as Effect from "effect/Effect"
import * as TopicPartition from "../../TopicPartition.ts"

/** A partition in which something is unread, and the offset of the oldest such record. */
export interface Behind {
  readonly topicPartition: TopicPartition.TopicPartition
  readonly unread: bigint
}

/** The first offset not older than a time (milliseconds since 1970), for each partition. */
export type OffsetsAt<E> = (
  partitions: ReadonlyArray<TopicPartition.TopicPartition>,
  timestamp: bigint
) => Effect.Effect<ReadonlyMap<TopicPartition.Key, bigint>, E>

/** The answer is between these two ages, in milliseconds. */
interface Bracket {
  readonly behind: Behind
  readonly above: number
  readonly upTo: number
}

/** Narrow enough: to a second, or to a sixty-fourth of itself where that is more. */
const settled = ({ above, upTo }: Bracket): boolean =>
  Number.isFinite(upTo) && upTo - above <= Math.max(1000, upTo / 64)

/** Partitions that have the same question are asked about in one request. */
const ask = <E>(
  offsetsAt: OffsetsAt<E>,
  now: number,
  questions: ReadonlyArray<readonly [age: number, behind: Behind]>
): Effect.Effect<ReadonlyArray<boolean>, E> => {
  const byAge = new Map<number, Array<TopicPartition.TopicPartition>>()
  for (const [age, { topicPartition }] of questions) {
    const partitions = byAge.get(age)
    if (partitions === undefined) byAge.set(age, [topicPartition])
    else partitions.push(topicPartition)
  }
  return Effect.forEach(
    byAge,
    ([age, partitions]) =>
      Effect.map(
        offsetsAt(partitions, BigInt(Math.max(0, Math.floor(now - age)))),
        (offsets) => [age, offsets] as const
      ),
    { concurrency: 4 }
  ).pipe(Effect.map((answers) => {
    const found = new Map(answers)
    return questions.map(([age, { topicPartition, unread }]) => {
      const offset = found.get(age)?.get(TopicPartition.key(topicPartition))
      return offset === undefined || offset <= unread
    })
  }))
}

/**
 * The age of each partition's oldest unread record in milliseconds, rounded up: to a second, or by two per cent where
 * that is more. Takes timestamps to rise with the offsets.
 */
export const timeLag = <E>(
  partitions: ReadonlyArray<Behind>,
  now: number,
  offsetsAt: OffsetsAt<E>
): Effect.Effect<ReadonlyMap<TopicPartition.Key, number>, E> =>
  Effect.gen(function*() {
    const out = new Map<TopicPartition.Key, number>()
    let open: ReadonlyArray<Bracket> = partitions.map((behind) => ({ behind, above: 0, upTo: Infinity }))
    while (open.length > 0) {
      const questions = open.map((bracket): readonly [number, Behind] => [
        bracket.upTo === Infinity
          ? Math.min(now, Math.max(1000, bracket.above * 2))
          : Math.round((bracket.above + bracket.upTo) / 2),
        bracket.behind
      ])
      const within = yield* ask(offsetsAt, now, questions)
      const next: Array<Bracket> = []
      for (const [index, bracket] of open.entries()) {
        const age = questions[index]?.[0] ?? now
        // nothing is older than 1970
        const narrowed = within[index] === true || age >= now
          ? { ...bracket, upTo: age }
          : { ...bracket, above: age }
        if (settled(narrowed)) out.set(TopicPartition.key(bracket.behind.topicPartition), narrowed.upTo)
        else next.push(narrowed)
      }
      open = next
    }
    return out
  })
