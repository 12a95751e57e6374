/** What Java writes and reads, and a producer's session. */
import { expect, layer } from "@effect/vitest"
import * as Context from "effect/Context"
import * as Effect from "effect/Effect"
import * as Layer from "effect/Layer"
import { javaConsume, javaProduce } from "../../../../scripts/kafka/index.ts"
import { makeTopic, readLog, record, send, summary, values } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import type { Sessions } from "./Sessions.ts"
class Kafka extends Context.Tag("Kafka")<Kafka, RealKafka.OwnKafka>() {
  static readonly layer = Layer.scoped(Kafka, RealKafka.start())
}

const bytes = (text: string) => new TextEncoder().encode(text)
const text = (value: Uint8Array | null) => value === null ? null : new TextDecoder().decode(value)

export const withJava = ({ name, open }: Sessions): void => {
  RealKafka.suiteOfOwn(`records between ${name} and Java`, () => {
    layer(Kafka.layer, { excludeTestServices: true, timeout: "60 seconds" })((it) => {
      it.scoped("headers arrive in order, several under one name, empty and null ones told apart", () =>
        Effect.gen(function*() {
          const { bootstrapServers, cluster } = yield* Kafka
          const topic = yield* makeTopic(bootstrapServers)
          const session = yield* open(bootstrapServers)
          const headers = [
            ["b", bytes("1")],
            ["a", null],
            ["b", bytes("")],
            ["10", bytes("ten")],
            ["2", bytes("two")],
            ["a", bytes("\u00e9")],
            ["", bytes("no name")]
          ] as const
          yield* send(session, [{
            topic,
            partition: 0,
            records: [
              record("with", { key: bytes("key"), headers, timestamp: 1_700_000_000_000n }),
              record(null, { key: bytes(""), timestamp: 999n }),
              record("", { timestamp: 1000n })
            ]
          }])
          const read = yield* Effect.promise(() => javaConsume(cluster, topic))
          expect(read.map((one) => [text(one.key), text(one.value), one.timestamp, one.offset])).toEqual([
            ["key", "with", 1_700_000_000_000n, 0n],
            ["", null, 999n, 1n],
            [null, "", 1000n, 2n]
          ])
          expect(read[0]?.headers.map(([name, value]) => [name, text(value)])).toEqual(
            headers.map(([name, value]) => [name, text(value)])
          )
          expect(read[1]?.headers).toEqual([])
        }))

      for (const compression of ["gzip", "snappy", "lz4", "zstd"] as const) {
        it.scoped(`what is compressed by ${compression} is read by Java, and Java's by us`, () =>
          Effect.gen(function*() {
            const { bootstrapServers, cluster } = yield* Kafka
            const texts = Array.from({ length: 500 }, (_, i) => `record ${i} ${"espresso ".repeat(i % 50)}`)
            const ours = yield* makeTopic(bootstrapServers)
            const session = yield* open(bootstrapServers, { compression })
            const sent = texts.map((text) => record(text))
            expect(summary(yield* send(session, [{ topic: ours, partition: 0, records: sent }]))).toEqual(["stored@0"])
            expect(values(yield* readLog(bootstrapServers, ours))).toEqual(texts)
            const read = yield* Effect.promise(() => javaConsume(cluster, ours))
            expect(read.map((one) => text(one.value))).toEqual(texts)

            const theirs = yield* makeTopic(bootstrapServers)
            yield* Effect.promise(() =>
              javaProduce(cluster, texts.map((text) => ({ topic: theirs, partition: 0, value: bytes(text) })), {
                properties: { "compression.type": compression }
              })
            )
            expect(values(yield* readLog(bootstrapServers, theirs))).toEqual(texts)
          }))
      }
    })
  })
}
