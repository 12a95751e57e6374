import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import { eventually } from "../conformance/support.ts"
import { groupName, readers } from "../kafkajs/consumerSupport.ts"
import { Faults, makeTopic } from "../kafkajs/support.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { platformatic } from "./consumerSupport.ts"
import { platformatic as sessions } from "./sessions.ts"

const consumerGroupHeartbeat = 68

RealKafka.suite("a member of a group of KIP-848, through Platformatic", ({ bootstrapServers: brokers }) => {
  const { join } = readers(platformatic)

  it.scopedLive("leaves a group although it never heard that it had joined", () =>
    Effect.gen(function*() {
      const [topic, group, faults] = [yield* makeTopic(brokers), groupName(), new Faults()]
      const admin = yield* sessions.openAdmin(brokers)
      const members = Effect.map(admin.describeGroups([group]), ([found]) => found!.members.length)
      faults.arm({ kind: "lose", times: Infinity, apiKey: consumerGroupHeartbeat })
      yield* Effect.scoped(Effect.zipRight(
        join(brokers, group, [topic], { faults, options: { groupProtocol: "consumer" } }),
        eventually("that it has joined", members, (many) => many === 1)
      ))
      expect(yield* members).toBe(0)
    }))
})
