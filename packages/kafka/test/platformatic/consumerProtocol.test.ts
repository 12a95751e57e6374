import { assert, describe, expect, it } from "@effect/vitest"
import * as Library from "@platformatic/kafka"
import * as FastCheck from "effect/FastCheck"
import * as Protocol from "../../src/drivers/platformatic/consumerProtocol.ts"
import * as TopicPartition from "../../src/TopicPartition.ts"

const partitions = FastCheck.uniqueArray(
  FastCheck.tuple(FastCheck.constantFrom("a", "b", "ä.c"), FastCheck.nat({ max: 50 })),
  { selector: ([topic, partition]) => `${topic}:${partition}` }
).map((pairs) => pairs.map(([topic, partition]) => TopicPartition.make(topic, partition)))

const keys = (all: ReadonlyArray<TopicPartition.TopicPartition>) => all.map(TopicPartition.key).sort()

const peer = (memberId: string, topics: ReadonlyArray<string>, groupInstanceId?: string): Protocol.Peer => ({
  memberId,
  groupInstanceId,
  topics: new Set(topics),
  owned: [],
  generation: -1
})

const shown = (assignment: ReadonlyMap<string, ReadonlyArray<TopicPartition.TopicPartition>>) =>
  Object.fromEntries([...assignment].map(([memberId, all]) => [memberId, all.map(TopicPartition.format).join(" ")]))

describe("what members of a classic group tell each other", () => {
  it("a subscription says the topics, what is held, and since which generation", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.uniqueArray(FastCheck.constantFrom("a", "b", "ä.c")),
        partitions,
        FastCheck.integer({ min: -1, max: 2 ** 31 - 1 }),
        (topics, owned, generation) => {
          const found = Protocol.decodePeer(
            Library,
            "m",
            null,
            Protocol.encodeSubscription(Library, topics, owned, generation)
          )
          assert.deepStrictEqual([...found.topics].sort(), [...topics].sort())
          assert.deepStrictEqual(keys(found.owned), keys(owned))
          assert.strictEqual(found.generation, generation)
        }
      )
    )
  })

  it("an assignment says what to read", () => {
    FastCheck.assert(FastCheck.property(partitions, (given) => {
      const encoded = Protocol.encodeAssignment(Library, given)
      assert.deepStrictEqual(keys(Protocol.decodeAssignment(Library, encoded)), keys(given))
    }))
    expect(Protocol.decodeAssignment(Library, Buffer.alloc(0))).toEqual([])
  })

  it("the subscription of a Java consumer is read, in each of its versions", () => {
    // version, one topic "a", user data of CooperativeStickyAssignor: the generation; "a" with 0 and 2; the generation
    const topics = "00000001000161"
    const owned = "00000001000161000000020000000000000002"
    const read = (hex: string) => Protocol.decodePeer(Library, "m", undefined, Buffer.from(hex, "hex"))
    expect(read(`0000${topics}ffffffff`)).toMatchObject({ owned: [], generation: -1 })
    expect(read(`0001${topics}0000000400000007${owned}`)).toMatchObject({
      topics: new Set(["a"]),
      owned: [TopicPartition.make("a", 0), TopicPartition.make("a", 2)],
      generation: 7
    })
    expect(read(`0003${topics}ffffffff${owned}00000009ffff`)).toMatchObject({ generation: 9 })
  })

  it("a member that can't be understood gets nothing, and does no harm", () => {
    FastCheck.assert(FastCheck.property(FastCheck.uint8Array({ maxLength: 40 }), (bytes) => {
      const found = Protocol.decodePeer(Library, "m", null, Buffer.from(bytes))
      assert.strictEqual(found.memberId, "m")
    }))
    expect([...Protocol.decodePeer(Library, "m", null, Buffer.from("0001ff", "hex")).topics]).toEqual([])
  })

  it("range gives the same numbers of all topics to the same member, as Java does", () => {
    const peers = [peer("c", ["a", "b"]), peer("a", ["a", "b"], "z"), peer("b", ["b"])]
    const found = Protocol.assign("range", peers, (topic) => topic === "a" ? 3 : 4)
    expect(shown(found)).toEqual({ a: "a[0] a[1] b[0] b[1]", b: "b[2]", c: "a[2] b[3]" })
  })

  it("roundrobin is even, past those who do not read the topic, and leaves each what it held as far as that is even", () => {
    const peers = [peer("b", ["a"]), peer("a", ["a", "b"])]
    const count = (topic: string) => topic === "a" ? 3 : 2
    const found = Protocol.assign("roundrobin", peers, count)
    expect([...found.values()].map((all) => all.length).sort()).toEqual([2, 3])
    const held = { ...peer("z", ["a"]), owned: [TopicPartition.make("a", 0)], generation: 1 }
    expect(shown(Protocol.assign("roundrobin", [peer("a", ["a"]), held], () => 1))).toEqual({ a: "", z: "a[0]" })
  })

  it("whatever the strategy, each partition that somebody may read goes to one of those, once nobody holds any", () => {
    FastCheck.assert(
      FastCheck.property(
        FastCheck.constantFrom("range", "roundrobin", "cooperative-sticky"),
        FastCheck.array(FastCheck.subarray(["a", "b", "c"]), { minLength: 1, maxLength: 6 }),
        FastCheck.record({ a: FastCheck.nat({ max: 9 }), b: FastCheck.nat({ max: 9 }), c: FastCheck.nat({ max: 9 }) }),
        (strategy, subscriptions, counts) => {
          const peers = subscriptions.map((topics, i) => peer(`m${i}`, topics, i % 2 === 0 ? undefined : `i${i}`))
          const count = (topic: string): number => counts[topic as keyof typeof counts]
          const found = Protocol.assign(strategy, peers, count)
          const given: Array<string> = []
          for (const [memberId, all] of found) {
            const { topics } = peers.find((one) => one.memberId === memberId)!
            for (const tp of all) {
              assert.isTrue(topics.has(tp.topic))
              given.push(TopicPartition.key(tp))
            }
          }
          const wanted = [...new Set(subscriptions.flat())].flatMap((topic) =>
            Array.from({ length: count(topic) }, (_, partition) => TopicPartition.key({ topic, partition }))
          )
          assert.deepStrictEqual(given.sort(), wanted.sort())
        }
      )
    )
  })
})
