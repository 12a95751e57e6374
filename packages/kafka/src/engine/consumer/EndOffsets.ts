/**
 * Where partitions end from which nothing comes, because there is nothing or because their buffers are full: looked up
 * for those who watch, who would otherwise not know how far such a partition is behind.
 */
import * as Effect from "effect/Effect"
import type * as TopicPartition from "../../TopicPartition.ts"
import type { EngineContext } from "./EngineContext.ts"
import type { PartitionBuffer } from "./PartitionBuffer.ts"

/** How long nothing has to have come, in milliseconds. */
const QUIET = 10_000
/** How soon after its assignment a partition is looked at, in milliseconds. */
const ROUND = 1000

/** Goes on until it is interrupted. What fails is asked again in a later round. */
export const watch = (
  loop: Pick<EngineContext, "emit" | "now" | "partitions" | "session" | "settings">
): Effect.Effect<never> => {
  const { emit, session, settings } = loop
  let heard = new Map<PartitionBuffer, { readonly fetched: bigint; readonly at: number }>()

  const quiet = (): ReadonlyArray<PartitionBuffer> => {
    const now = loop.now()
    const before = heard
    heard = new Map()
    const found: Array<PartitionBuffer> = []
    for (const partition of loop.partitions.values()) {
      if (partition.status !== "active") continue
      const last = before.get(partition)
      const moved = last === undefined ? partition.highWatermark !== undefined : last.fetched !== partition.fetched
      const due = !moved && (last === undefined || now - last.at >= QUIET)
      if (due) found.push(partition)
      heard.set(partition, { fetched: partition.fetched, at: moved || due || last === undefined ? now : last.at })
    }
    return found
  }

  const tell = (offsets: ReadonlyMap<TopicPartition.Key, bigint>, of: ReadonlyArray<PartitionBuffer>): void => {
    if (!emit.enabled) return
    emit({
      _tag: "EndOffsets",
      groupId: settings.groupId,
      offsets: of.flatMap((partition) => {
        const offset = offsets.get(partition.key)
        return offset === undefined || partition.status !== "active" ? [] : [{ ...partition.topicPartition, offset }]
      })
    })
  }

  const round = Effect.suspend(() => {
    const partitions = quiet()
    return partitions.length === 0 ? Effect.void : Effect.matchEffect(
      session.offsets(partitions.map((one) => one.topicPartition), "latest"),
      {
        onFailure: (error) => Effect.logTrace("the ends of partitions could not be looked up", error),
        onSuccess: (offsets) => Effect.sync(() => tell(offsets, partitions))
      }
    )
  })

  return Effect.forever(Effect.zipRight(Effect.sleep(ROUND), round))
}
