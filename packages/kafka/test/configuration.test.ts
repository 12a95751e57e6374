import * as KafkaConfig from "@coffeebuddy/kafka/KafkaConfig"
import { describe, expect, it } from "@effect/vitest"
import { ConfigProvider, Duration, Effect } from "effect"
import { readFileSync } from "node:fs"
import { fileOrValueNames, plainNames } from "../src/engine/environment.ts"

/** The rows of the table in docs/configuration.md. */
const rows = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8")
  .split("\n")
  .filter((line) => line.startsWith("| `KAFKA_"))
  .map((line) => {
    const [names = "", code = "", type = "", otherwise = "", meaning = ""] = line.split("|").slice(1).map((cell) =>
      cell.trim()
    )
    return { names: names.match(/KAFKA_[A-Z_]+/g) ?? [], code, type, otherwise, meaning }
  })

const load = (environment: Readonly<Record<string, string>>) =>
  Effect.withConfigProvider(KafkaConfig.fromEnv, ConfigProvider.fromMap(new Map(Object.entries(environment))))

describe("docs/configuration.md", () => {
  it("lists every variable that is read, once, and no other", () => {
    expect(rows.flatMap(({ names }) => names).toSorted()).toEqual(
      [...plainNames, ...fileOrValueNames.flatMap((name) => [name, `${name}_FILE`])].toSorted()
    )
  })

  it("says of each where it is in code, its type, its default and what it means", () => {
    for (const { code, meaning, otherwise, type } of rows) {
      expect(code).toMatch(/^`(brokers|clientId|topicPrefix|security|connectionTimeout|requestTimeout)`/)
      expect(type).not.toBe("")
      expect(otherwise).not.toBe("")
      expect(meaning).toMatch(/\.$/)
    }
  })

  it.effect("its defaults are those of the code", () =>
    Effect.gen(function*() {
      const brokers = { KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092" }
      const unset = yield* load(brokers)
      const documented = rows.flatMap(({ names: [name = ""], otherwise }) => {
        const value = /^`([^`]+)`$/.exec(otherwise)?.[1]
        return value === undefined || name.startsWith("KAFKA_SSL") ? [] : [[name, value] as const]
      })
      expect(documented.map(([name]) => name)).toEqual([
        "KAFKA_CLIENT_ID",
        "KAFKA_CONNECTION_TIMEOUT",
        "KAFKA_REQUEST_TIMEOUT",
        "KAFKA_SECURITY_PROTOCOL"
      ])
      const set = yield* load({ ...brokers, ...Object.fromEntries(documented) })
      expect(JSON.stringify(set)).toBe(JSON.stringify(unset))
      expect(set.clientId).toBe(KafkaConfig.defaults.clientId)
      expect(Duration.equals(set.connectionTimeout, KafkaConfig.defaults.connectionTimeout)).toBe(true)
      expect(Duration.equals(set.requestTimeout, KafkaConfig.defaults.requestTimeout)).toBe(true)

      const ssl = yield* load({ ...brokers, KAFKA_SECURITY_PROTOCOL: "SSL" })
      expect(ssl.security._tag === "Ssl" && (yield* ssl.security.tls).rejectUnauthorized).toBe(true)
    }))

  it.effect("its choices are all that the code allows", () =>
    Effect.gen(function*() {
      for (
        const name of ["KAFKA_SECURITY_PROTOCOL", "KAFKA_SASL_MECHANISM", "KAFKA_SSL_REJECT_UNAUTHORIZED"] as const
      ) {
        const type = rows.find(({ names }) => names[0] === name)?.type ?? ""
        const choices = [...type.matchAll(/`([^`]+)`/g)].map(([, choice = ""]) => choice.toUpperCase())
        const error = yield* Effect.flip(load({
          KAFKA_BOOTSTRAP_SERVERS: "kafka-1:9092",
          KAFKA_SECURITY_PROTOCOL: "SASL_SSL",
          [name]: "none of them"
        }))
        expect(String(error)).toContain(`expected one of ${choices.join(", ")}, found`)
      }
    }))
})
