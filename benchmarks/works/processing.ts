import { type Bench, inNode } from "../harness/model.ts"

const forEach = (handlerMillis: number, concurrency: number, share: number): Bench => ({
  name: `forEach, ${handlerMillis} ms, ${concurrency} at once`,
  about: handlerMillis === 0
    ? `A handler that does nothing, ${concurrency} at once, in each ordering.`
    : `A handler that waits ${handlerMillis} ms, ${concurrency} at once, in each ordering.`,
  share,
  contenders: [
    inNode("Stream.mapEffect", ["library", "mapEffect"], { handlerMillis, concurrency }),
    ...["partition", "key", "unordered"].map((ordering) =>
      inNode(`Consumer.forEach, ${ordering}`, ["library", "forEach"], { handlerMillis, concurrency, ordering })
    )
  ]
})

/** A handler for each record. */
export const processing: ReadonlyArray<Bench> = [
  forEach(0, 1, 0.2),
  forEach(0, 16, 0.2),
  forEach(0, 256, 0.2),
  forEach(1, 1, 0.002),
  forEach(1, 16, 0.02),
  forEach(1, 256, 0.1)
]
