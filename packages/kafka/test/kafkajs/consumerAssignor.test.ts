import { describe, expect, it } from "@effect/vitest"
import * as FastCheck from "effect/FastCheck"
import { AssignerProtocol } from "kafkajs"
import * as Assignor from "../../src/drivers/kafkajs/consumerAssignor.ts"

const name = FastCheck.stringMatching(/^[a-zA-Z0-9._-]{1,20}$/)

describe("what members tell each other through kafkajs", () => {
  it.prop(
    "a leader learns what each member subscribes to and held",
    [
      FastCheck.uniqueArray(name, { maxLength: 5 }),
      FastCheck.array(FastCheck.record({ topic: name, partition: FastCheck.nat() }), { maxLength: 20 }),
      FastCheck.integer()
    ],
    ([topics, owned, generation]) => {
      expect(Assignor.decodeMember("m", Assignor.encodeMember(topics, { owned, generation }))).toEqual({
        memberId: "m",
        topics: new Set(topics),
        owned,
        generation
      })
    }
  )

  it("a plain kafkajs member, or one with user data of its own, is taken for one that held nothing", () => {
    const { MemberMetadata } = AssignerProtocol
    for (
      const userData of [Buffer.alloc(0), Buffer.from("{"), Buffer.from("7"), Buffer.from(`{"owned":[["a"],[1,2]]}`)]
    ) {
      expect(Assignor.decodeMember("m", MemberMetadata.encode({ version: 0, topics: ["a"], userData }))).toEqual({
        memberId: "m",
        topics: new Set(["a"]),
        ...Assignor.nothingOwned
      })
    }
  })

  it("a plain kafkajs member reads the assignment", () => {
    const encoded = Assignor.encodeAssignment([
      { topic: "a", partition: 0 },
      { topic: "__proto__", partition: 1 },
      { topic: "a", partition: 2 }
    ])
    const decoded = AssignerProtocol.MemberAssignment.decode(encoded)
    expect(decoded?.assignment["a"]).toEqual([0, 2])
    expect(Assignor.name).toBe("RoundRobinAssigner")
  })
})
