import type { SendError } from "@coffeebuddy/kafka/KafkaClient"
import * as Producer from "@coffeebuddy/kafka/Producer"
import type { RecordMetadata } from "@coffeebuddy/kafka/ProducerRecord"
import * as Serde from "@coffeebuddy/kafka/Serde"
import * as Topic from "@coffeebuddy/kafka/Topic"
import { describe, expectTypeOf, it } from "@effect/vitest"
import * as Config from "effect/Config"
import type * as Effect from "effect/Effect"
import * as Schema from "effect/Schema"
import * as Stream from "effect/Stream"

const Order = Schema.Struct({ cups: Schema.Number })
const Orders = Topic.make("orders", { key: Serde.string, value: Serde.json(Order) })
const Deletable = Topic.make("orders", { key: Serde.nullable(Serde.string), value: Serde.nullable(Serde.int64) })
const value = { cups: 2 }

/** Never called: these have to compile, or must not. */
const mustNotCompile = () => {
  Producer.send(Orders, { key: "a", value })
  // @ts-expect-error -- the key is a string
  Producer.send(Orders, { key: 1, value })
  // @ts-expect-error -- a key that is null was not allowed for
  Producer.send(Orders, { key: null, value })
  // @ts-expect-error -- the key is missing
  Producer.send(Orders, { value })
  // @ts-expect-error -- the value is an order
  Producer.send(Orders, { key: "a", value: "two espressi" })
  // @ts-expect-error -- a tombstone was not allowed for
  Producer.send(Orders, { key: "a", value: null })
  // @ts-expect-error -- an order has its cups as a number
  Producer.send(Orders, { key: "a", value: { cups: "2" } })
  // @ts-expect-error -- a header is text or bytes
  Producer.send(Orders, { key: "a", value, headers: { retries: 3 } })

  Producer.send(Deletable, { key: null, value: null })
  // @ts-expect-error -- an int64 is a bigint
  Producer.send(Deletable, { key: "a", value: 1 })

  Producer.sendAll(Orders, [{ key: "a", value }])
  // @ts-expect-error -- one of them is wrong
  Producer.sendAll(Orders, [{ key: "a", value }, { key: 2, value }])
  // @ts-expect-error -- the value is an order
  Producer.enqueue(Orders, { key: "a", value: 3 })
  // @ts-expect-error -- the value is an order
  Producer.enqueueAll(Orders, [{ key: "a", value: 3 }])

  Stream.make({ key: "a", value }).pipe(Producer.produce(Orders))
  // @ts-expect-error -- the key is a string
  Stream.make({ key: 1, value }).pipe(Producer.produce(Orders))
  Stream.make(1).pipe(Producer.produceMap(Orders, (cups) => ({ key: "a", value: { cups } })))
  // @ts-expect-error -- the value is an order
  Stream.make(1).pipe(Producer.produceMap(Orders, (cups) => ({ key: "a", value: cups })))
  Stream.make({ key: "a", value }).pipe(Stream.run(Producer.sink(Orders)))
  // @ts-expect-error -- the key is a string
  Stream.make({ key: 1, value }).pipe(Stream.run(Producer.sink(Orders)))

  Producer.layerConfig({ linger: Config.duration("LINGER"), acks: Config.literal("all", "leader")("ACKS") })
  // @ts-expect-error -- there is no such choice
  Producer.layer({ acks: "some" })
}

interface Cipher {
  readonly _: unique symbol
}
declare const Secrets: Topic.Topic<"secrets", string, string, Cipher>

describe("the types of a producer", () => {
  it("are those of the topic", () => {
    expectTypeOf(mustNotCompile).toBeFunction()
    expectTypeOf(Producer.send(Orders, { key: "a", value })).toEqualTypeOf<
      Effect.Effect<RecordMetadata, Producer.ProduceError, Producer.Producer>
    >()
    expectTypeOf(Producer.enqueue<"orders", string, { readonly cups: number }, never>).returns.toEqualTypeOf<
      Effect.Effect<Effect.Effect<RecordMetadata, SendError>, Producer.ProduceError, Producer.Producer>
    >()
  })

  it("ask for what the serdes need", () => {
    const send = () => Producer.send(Secrets, { key: "a", value: "b" })
    expectTypeOf(send).returns.toEqualTypeOf<
      Effect.Effect<RecordMetadata, Producer.ProduceError, Producer.Producer | Cipher>
    >()
    const produce = () => Stream.make({ key: "a", value: "b" }).pipe(Producer.produce(Secrets))
    expectTypeOf(produce).returns.toEqualTypeOf<
      Stream.Stream<RecordMetadata, Producer.ProduceError, Producer.Producer | Cipher>
    >()
  })
})
