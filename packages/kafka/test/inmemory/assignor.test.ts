import { assert, describe, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import * as Assignor from "../../src/drivers/inmemory/Assignor.ts"
import { key, type TopicPartition } from "../../src/TopicPartition.ts"

const topics = ["a", "b", "c"] as const

const counts = FastCheck.record({
  a: FastCheck.integer({ min: 0, max: 8 }),
  b: FastCheck.integer({ min: 0, max: 8 }),
  c: FastCheck.integer({ min: 0, max: 8 })
})

const tp: FastCheck.Arbitrary<TopicPartition> = FastCheck.record({
  topic: FastCheck.constantFrom(...topics),
  partition: FastCheck.integer({ min: 0, max: 9 })
})

/** Members with whatever claims, even false ones. */
const members = FastCheck.array(
  FastCheck.record({
    topics: FastCheck.uniqueArray(FastCheck.constantFrom(...topics), { minLength: 1 }),
    owned: FastCheck.array(tp, { maxLength: 8 }),
    generation: FastCheck.integer({ min: -1, max: 3 })
  }),
  { minLength: 1, maxLength: 6 }
).map((all) =>
  all.map(({ generation, owned, topics }, i): Assignor.Subscriber => ({
    memberId: `m${i}`,
    topics: new Set(topics),
    owned,
    generation
  }))
)

const owners = (assignment: Assignor.Assignment): Map<string, string> => {
  const result = new Map<string, string>()
  for (const [memberId, partitions] of assignment) {
    for (const one of partitions) {
      assert.isFalse(result.has(key(one)), `${key(one)} has two owners`)
      result.set(key(one), memberId)
    }
  }
  return result
}

describe("Assignor", () => {
  it("every partition that somebody wants has exactly one owner, who wants it", () => {
    FastCheck.assert(FastCheck.property(members, counts, (members, counts) => {
      const owner = owners(Assignor.balanced(members, (topic) => counts[topic as "a"]))
      for (const topic of topics) {
        const wanted = members.some((member) => member.topics.has(topic))
        for (let partition = 0; partition < counts[topic]; partition++) {
          const memberId = owner.get(`${topic}:${partition}`)
          if (!wanted) assert.isUndefined(memberId)
          else assert.isTrue(members.find((member) => member.memberId === memberId)?.topics.has(topic))
        }
      }
      assert.strictEqual(
        owner.size,
        topics.reduce((sum, topic) => sum + (members.some(({ topics }) => topics.has(topic)) ? counts[topic] : 0), 0)
      )
    }))
  })

  it("no partition can be moved to make it more even", () => {
    FastCheck.assert(FastCheck.property(members, counts, (members, counts) => {
      const assignment = Assignor.balanced(members, (topic) => counts[topic as "a"])
      for (const [memberId, partitions] of assignment) {
        for (const { topic } of partitions) {
          for (const other of members) {
            if (other.memberId === memberId || !other.topics.has(topic)) continue
            assert.isTrue(partitions.length - assignment.get(other.memberId)!.length <= 1)
          }
        }
      }
    }))
  })

  it("what is balanced stays where it is", () => {
    FastCheck.assert(FastCheck.property(members, counts, (members, counts) => {
      const count = (topic: string) => counts[topic as "a"]
      const first = Assignor.balanced(members, count)
      const again = Assignor.balanced(
        members.map((member) => ({ ...member, owned: first.get(member.memberId)!, generation: 4 })),
        count
      )
      assert.deepStrictEqual(owners(again), new Map([...owners(first)].sort((a, b) => a[0] < b[0] ? -1 : 1)))
    }))
  })

  it("cooperatively, nobody is given what another one still claims", () => {
    FastCheck.assert(FastCheck.property(members, counts, (members, counts) => {
      const assignment = Assignor.cooperative(members, (topic) => counts[topic as "a"])
      const owner = owners(assignment)
      for (const member of members) {
        for (const one of member.owned) {
          const memberId = owner.get(key(one))
          assert.isTrue(memberId === undefined || memberId === member.memberId)
        }
      }
    }))
  })

  it("cooperatively, it is complete as soon as everybody has released what is not theirs", () => {
    FastCheck.assert(FastCheck.property(members, counts, (members, counts) => {
      const count = (topic: string) => counts[topic as "a"]
      let round = members
      let rounds = 0
      for (;;) {
        const assignment = Assignor.cooperative(round, count)
        const moved = round.some(({ memberId, owned }) => {
          const kept = new Set(assignment.get(memberId)!.map(key))
          return owned.some((one) => !kept.has(key(one)))
        })
        round = round.map((member) => ({ ...member, owned: assignment.get(member.memberId)!, generation: 4 + rounds }))
        if (!moved) break
        assert.isTrue(++rounds <= 3)
      }
      const wanted = topics.reduce(
        (sum, topic) => sum + (members.some(({ topics }) => topics.has(topic)) ? counts[topic] : 0),
        0
      )
      assert.strictEqual(round.reduce((sum, { owned }) => sum + owned.length, 0), wanted)
    }))
  })
})
