/**
 * The producer's options in docs/configuration.md, held against the code.
 */
import { assert, describe, it } from "@effect/vitest"
import * as Duration from "effect/Duration"
import * as Either from "effect/Either"
import * as fs from "node:fs"
import { check } from "../../src/engine/producer/settings.ts"
import type * as Producer from "../../src/Producer.ts"

const text = fs.readFileSync(new URL("../../../../docs/configuration.md", import.meta.url), "utf8")
const section = text.slice(text.indexOf("\n## Producer\n")).split(/\n## (?!Producer\n)/)[0] ?? ""
const rows = section.split("\n").filter((line) => line.startsWith("| `")).map((line) => {
  const [, option = "", type = "", otherwise = "", meaning = ""] = line.split("|").map((cell) => cell.trim())
  return { option: option.replaceAll("`", ""), type, otherwise: otherwise.replaceAll("`", ""), meaning }
})

/** Every option there is: it does not compile with one too many or too few. */
const names: { readonly [Name in keyof Required<Producer.Options>]: true } = {
  clientId: true,
  acks: true,
  idempotent: true,
  compression: true,
  linger: true,
  batchSize: true,
  maxRequestSize: true,
  bufferMemory: true,
  onBufferFull: true,
  onUnknownOutcome: true,
  deliveryTimeout: true,
  requestTimeout: true,
  closeTimeout: true,
  transactionalId: true,
  transactionTimeout: true,
  partitioner: true
}

describe("the producer in docs/configuration.md", () => {
  it("has every option, and no other", () => {
    assert.deepStrictEqual(rows.map(({ option }) => option).toSorted(), Object.keys(names).toSorted())
    for (const { meaning, type } of rows) {
      assert.notStrictEqual(type, "")
      assert.match(meaning, /\.$/)
    }
  })

  it("has the defaults of the code", () => {
    const settings = new Map<string, unknown>(Object.entries(Either.getOrThrow(check({}))))
    for (const { option, otherwise, type } of rows) {
      if (["clientId", "transactionalId", "partitioner"].includes(option)) continue
      const documented = type === "duration"
        ? Duration.toMillis(Duration.decode(otherwise as Duration.DurationInput))
        : type === "bytes"
        ? Number(otherwise)
        : otherwise
      const actual = settings.get(option)
      assert.strictEqual(typeof actual === "boolean" ? String(actual) : actual, documented, option)
    }
  })

  it("names every choice", () => {
    for (const { option, type } of rows) {
      const choices = [...type.matchAll(/`([^`]+)`/g)].map(([, choice]) => choice!)
      for (const choice of choices) {
        const value = choice === "true" ? true : choice === "false" ? false : choice
        assert.isTrue(Either.isRight(check({ [option]: value })), `${option}: ${choice}`)
      }
    }
    assert.isTrue(Either.isLeft(check({ acks: "some" as "all" })))
  })
})
