import { describe, expect, it } from "@effect/vitest"
import * as Either from "effect/Either"
import * as Settings from "../../src/engine/consumer/Settings.ts"

const none = {
  awaitedRevoke: true,
  cooperative: false,
  perPartitionDemand: true,
  transactionalGroupMetadata: false,
  staticMembership: false,
  consumerProtocol: false
}
const all = { ...none, cooperative: true, staticMembership: true, consumerProtocol: true }

const reasons = (options: Settings.Options, capabilities = all): string =>
  Either.match(Settings.make(options, capabilities), { onLeft: String, onRight: () => "accepted" })

describe("a consumer's settings", () => {
  it("the defaults contradict nothing", () => {
    expect(reasons({ groupId: "group" })).toBe("accepted")
    expect(reasons({ groupId: "group" }, none)).toBe("accepted")
  })

  it("contradictions are refused with their reason", () => {
    expect(reasons({ groupId: "" })).toContain("groupId")
    expect(reasons({ groupId: "g", sessionTimeout: 6000, heartbeatInterval: 3000 })).toContain(
      "third of sessionTimeout"
    )
    expect(reasons({ groupId: "g", revokeTimeout: "60 seconds" })).toContain("not below rebalanceTimeout")
    expect(reasons({ groupId: "g", commitTimeout: 100, fetch: { maxWait: 200 } })).toContain("not above fetch.maxWait")
    expect(reasons({ groupId: "g", prefetch: { partitionBytes: 1024 } })).toContain("one fetch would not fit")
    expect(reasons({ groupId: "g", maxPollRecords: 0 })).toContain("maxPollRecords")
  })

  it("all of them at once", () => {
    const text = reasons({ groupId: "", maxPollRecords: -1, prefetch: { partitionBytes: 1 } })
    for (const name of ["groupId", "maxPollRecords", "partitionBytes"]) expect(text).toContain(name)
  })

  it("a value that is none is told with what was found and what is allowed", () => {
    // as a program without types has it, or a Config that reads text
    const odd = (options: object) => reasons({ groupId: "g", ...options })
    expect(odd({ sessionTimeout: "soon" })).toContain("expected a duration above zero of at most 24 days")
    expect(odd({ sessionTimeout: "soon" })).toContain("found \"soon\"")
    expect(odd({ stopTimeout: "Infinity" })).toContain("stopTimeout")
    expect(odd({ stopTimeout: -1 })).toContain("stopTimeout")
    expect(odd({ stopTimeout: Number.NaN })).toContain("stopTimeout")
    expect(odd({ unavailableAfter: "40 days" })).toContain("found \"40 days\"")
    expect(odd({ autoOffsetReset: "first" })).toContain(
      `expected one of "earliest", "latest", "fail", found "first"`
    )
    expect(odd({ rebalanceGate: "no" })).toContain("expected one of true, false, found \"no\"")
    expect(odd({ prefetch: { totalRecords: Number.NaN } })).toContain("found \"NaN\"")
    expect(odd({ fetch: { minBytes: 1.5 } })).toContain("expected a whole number above zero, found \"1.5\"")
  })

  it("names are not empty, and the protocol has room for them", () => {
    expect(reasons({ groupId: "g".repeat(32_767) })).toBe("accepted")
    expect(reasons({ groupId: "ü".repeat(20_000) })).toContain("at most 32767 bytes, found one of 40000")
    expect(reasons({ groupId: "g", groupInstanceId: "" })).toContain("groupInstanceId")
  })

  it("what the driver can't do is refused", () => {
    expect(reasons({ groupId: "g", rebalanceProtocol: "cooperative" }, none)).toContain("no incremental rebalancing")
    expect(reasons({ groupId: "g", groupInstanceId: "one" }, none)).toContain("no static membership")
    expect(reasons({ groupId: "g", rebalanceProtocol: "cooperative", groupInstanceId: "one" })).toBe("accepted")
    expect(reasons({ groupId: "g", groupProtocol: "consumer" }, none)).toContain("no groups of KIP-848")
    expect(reasons({ groupId: "g", groupProtocol: "consumer" })).toBe("accepted")
    expect(reasons({ groupId: "g", groupProtocol: "consumer", rebalanceProtocol: "eager" })).toContain("never eager")
  })
})
