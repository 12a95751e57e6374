import type * as Consumer from "@coffeebuddy/kafka/Consumer"
import * as KafkaConfig from "@coffeebuddy/kafka/KafkaConfig"
import { describe, expect, it } from "@effect/vitest"
import { Config, ConfigProvider, Duration, Effect, Either } from "effect"
import { readFileSync } from "node:fs"
import * as Settings from "../src/engine/consumer/Settings.ts"
import { fileOrValueNames, plainNames } from "../src/engine/environment.ts"

const document = readFileSync(new URL("../../../docs/configuration.md", import.meta.url), "utf8")

/** The rows of the table of variables. */
const rows = document
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

/** A table of options that are given in code or as `Config`s: by it the options are read, set and compared. */
const optionsOf = (section: string) => {
  const start = document.indexOf(`\n## ${section}\n`)
  const end = document.indexOf("\n## ", start + 1)
  return document.slice(start, end)
    .split("\n")
    .filter((line) => line.startsWith("| `"))
    .map((line) => {
      const [option = "", type = "", otherwise = "", meaning = ""] = line.split("|").slice(1).map((cell) => cell.trim())
      return {
        path: option.replaceAll("`", ""),
        type,
        choices: Array.from(type.matchAll(/`([^`]+)`/g), ([, choice = ""]) => choice),
        otherwise: /^`([^`]+)`/.exec(otherwise)?.[1],
        meaning
      }
    })
}

type Option = ReturnType<typeof optionsOf>[number]

/** How a program would read such an option. */
const configOf = ({ choices, path, type }: Option): Config.Config<unknown> => {
  if (choices.join() === "true,false") return Config.boolean(path)
  if (choices.length > 0) return Config.string(path)
  return type === "duration" ? Config.duration(path) : type === "text" ? Config.string(path) : Config.integer(path)
}

/** `{ fetch: { maxBytes: … } }` of `fetch.maxBytes`. */
const nested = <A>(entries: ReadonlyArray<readonly [path: string, value: A]>): Record<string, A> => {
  const out: Record<string, unknown> = {}
  for (const [path, value] of entries) {
    const [first = "", second] = path.split(".")
    if (second === undefined) out[first] = value
    else out[first] = { ...(out[first] as object | undefined), [second]: value }
  }
  // one level deeper it is the same again
  return out as Record<string, A>
}

/** The options as they are read from a provider of these texts. */
const read = (options: ReadonlyArray<Option>, texts: ReadonlyArray<readonly [path: string, text: string]>) =>
  Effect.withConfigProvider(
    Config.unwrap<Readonly<Record<string, unknown>>>(
      nested(texts.map(([path]) => [path, configOf(options.find((one) => one.path === path)!)]))
    ),
    ConfigProvider.fromMap(new Map(texts), { pathDelim: "/" })
  )

type Documented<O, Nested extends keyof O = never> =
  | Exclude<keyof O & string, Nested>
  | { [K in Nested]-?: `${K & string}.${keyof NonNullable<O[K]> & string}` }[Nested & string]

/** Complete, or it does not compile. */
const complete = <Name extends string>(names: { readonly [K in Name]: true }): ReadonlyArray<string> =>
  Object.keys(names)

describe("docs/configuration.md on consumers", () => {
  const options = optionsOf("Consumer")
  const capabilities = {
    awaitedRevoke: true,
    cooperative: true,
    perPartitionDemand: true,
    transactionalGroupMetadata: true,
    staticMembership: true,
    consumerProtocol: true
  }
  const settings = (given: object) => Settings.make({ groupId: "group", ...given }, capabilities)

  it("lists every option, once, and no other", () => {
    expect(options.map(({ path }) => path).toSorted()).toEqual(
      complete<Documented<Consumer.Options, "fetch" | "prefetch">>({
        groupId: true,
        autoOffsetReset: true,
        isolationLevel: true,
        groupInstanceId: true,
        rebalanceProtocol: true,
        groupProtocol: true,
        rebalanceGate: true,
        revokeTimeout: true,
        rebalanceTimeout: true,
        sessionTimeout: true,
        heartbeatInterval: true,
        commitTimeout: true,
        stopTimeout: true,
        unavailableAfter: true,
        stalledAfter: true,
        maxPollRecords: true,
        "fetch.maxBytesPerPartition": true,
        "fetch.maxBytes": true,
        "fetch.minBytes": true,
        "fetch.maxWait": true,
        "prefetch.partitionBytes": true,
        "prefetch.partitionRecords": true,
        "prefetch.totalBytes": true,
        "prefetch.totalRecords": true
      }).toSorted()
    )
    for (const { meaning, type } of options) {
      expect(type).toMatch(/^(text|duration|records|bytes|`.*`)$/)
      expect(meaning).toMatch(/\.$/)
    }
  })

  it.effect("its defaults are those of the code, when they are read as text", () =>
    Effect.gen(function*() {
      const texts = options.flatMap(({ otherwise, path }) =>
        otherwise === undefined ? [] : [[path, otherwise] as const]
      )
      expect(texts).toHaveLength(options.length - 2)
      expect(yield* settings(yield* read(options, texts))).toEqual(yield* settings({}))
    }))

  it.effect("every option takes effect, when it is read as text", () =>
    Effect.gen(function*() {
      // with room on both sides of each
      const base = {
        rebalanceTimeout: "10 minutes",
        revokeTimeout: "1 second",
        sessionTimeout: "10 minutes",
        fetch: { maxBytesPerPartition: 1000 }
      }
      const before = JSON.stringify(yield* settings(base))
      const without = yield* Effect.filter(options, (option) =>
        Effect.gen(function*() {
          const { choices, otherwise, path, type } = option
          const otherwiseThan = type === "duration" ? ["20 seconds", "4 seconds"] : ["9000000", "another"]
          const [one, another] = choices.length > 0 ? choices.filter((choice) => choice !== otherwise) : otherwiseThan
          const set = (text: string) =>
            Effect.flatMap(read(options, [[path, text]]), (given) => settings({ ...base, ...given }))
          // one of them contradicts no other option
          const after = yield* Effect.orElse(set(one ?? ""), () => set(another ?? ""))
          return JSON.stringify(after) === before
        }))
      expect(without).toEqual([])
    }))

  it("its choices are all that the code allows", () => {
    for (const { choices, path } of options) {
      if (choices.length === 0) continue
      const wrong = settings(nested([[path, "none of them"]]))
      expect(String(Either.isLeft(wrong) && wrong.left).replaceAll("\"", "")).toContain(
        `expected one of ${choices.join(", ")}, found none of them`
      )
    }
  })
})
