/** Goes from the configuration to the topics, step by step, and says how far it gets. */
import * as Args from "@effect/cli/Args"
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import * as Option from "effect/Option"
import * as Stream from "effect/Stream"
import * as Admin from "../../Admin.ts"
import * as Consumer from "../../Consumer.ts"
import type { TopicDescription } from "../../KafkaClient.ts"
import * as KafkaConfig from "../../KafkaConfig.ts"
import type { KafkaError } from "../../KafkaError.ts"
import * as TopicRegistry from "../../TopicRegistry.ts"
import * as cluster from "../cluster.ts"
import { Failed, linesOf } from "../failures.ts"
import { Stdio } from "../Stdio.ts"
import { counted, escapeLine } from "../text.ts"
import * as topics from "./topics.ts"

const steps = ["configuration", "reach", "authenticate", "authorise", "topics"] as const
type Step = (typeof steps)[number]

/** A step that went wrong, and why. Those after it are not tried. */
class Stopped {
  readonly _tag = "Stopped"
  readonly step: Step
  readonly why: ReadonlyArray<string>
  constructor(step: Step, why: ReadonlyArray<string>) {
    this.step = step
    this.why = why
  }
}

const stopped = (step: Step) => (error: unknown) => new Stopped(step, linesOf(error))

const securityOf = ({ security }: KafkaConfig.Service): string => {
  switch (security._tag) {
    case "Plaintext":
      return "PLAINTEXT"
    case "Ssl":
      return "SSL"
    case "Sasl":
      return `${security.over._tag === "Ssl" ? "SASL_SSL" : "SASL_PLAINTEXT"} by ${security.mechanism.toUpperCase()}`
  }
}

const configurationOf = (config: KafkaConfig.Service): string =>
  [
    config.brokers.join(","),
    securityOf(config),
    `client id ${config.clientId}`,
    ...config.topicPrefix === undefined ? [] : [`topic prefix ${config.topicPrefix}`]
  ].join(", ")

/** Which step a failure to connect belongs to. */
const connectingStep = (error: KafkaError): Step => {
  switch (error._tag) {
    case "KafkaAuthenticationError":
      return "authenticate"
    case "KafkaAuthorizationError":
      return "authorise"
    default:
      return "reach"
  }
}

/**
 * One record of a topic is looked at, or the place where there will be one: enough to know that it may be read. A
 * partition without a leader can't be asked; the last step tells of it.
 */
const readOne = ({ partitions, topic }: TopicDescription, admin: Admin.Service) =>
  Effect.gen(function*() {
    const led = partitions.filter(({ leader }) => leader !== undefined).map(({ partition }) => ({ topic, partition }))
    const earliest = yield* admin.listOffsets(led, "earliest")
    const latest = yield* admin.listOffsets(led, "latest")
    const ends = latest.map((end, index) => ({ ...end, empty: end.offset === earliest[index]?.offset }))
    const one = ends.find(({ empty }) => !empty) ?? ends[0]
    if (one === undefined) return
    const consumer = yield* Consumer.make({
      groupId: "coffeebuddy-kafka",
      // a transaction that is open is not waited for
      isolationLevel: "read_uncommitted",
      stopTimeout: "5 seconds",
      unavailableAfter: "30 seconds"
    })
    const start = one.empty ? one.offset : one.offset - 1n
    yield* Stream.runDrain(
      consumer.streamUntil(cluster.bytesOf(topic), { offsets: new Map([[one.partition, one.offset]]) }, {
        partitions: [{ partition: one.partition, offset: start }]
      })
    )
  }).pipe(Effect.scoped)

/** What is there of the topics asked for, or of all under the prefix if none is; all that may be refused is tried. */
const look = (
  admin: Admin.Service,
  prefix: string | undefined,
  asked: ReadonlyArray<string>,
  group: Option.Option<string>
) =>
  Effect.gen(function*() {
    const registry = yield* TopicRegistry.make({ prefix })
    const visible = yield* admin.listTopics()
    const missing: Array<string> = []
    const there: Array<string> = []
    for (const name of asked) {
      // a name that is not listed may be there and hidden
      const described = yield* admin.describeTopics([name]).pipe(
        Effect.catchTag("UnknownTopicError", (error) => Effect.sync(() => void missing.push(...linesOf(error))))
      )
      if (described === undefined) continue
      yield* Effect.forEach(described, (topic) => readOne(topic, admin), { discard: true })
      there.push(name)
    }
    if (Option.isSome(group)) yield* admin.groupOffsets(group.value)
    const rows = yield* topics.describe(
      admin,
      asked.length > 0 ? there : visible.filter((name) => registry.slug(name) !== undefined)
    )
    const unwell = rows.filter((row) => row.unwell > 0).map((row) =>
      `${escapeLine(row.topic)}: ${counted(row.unwell, "partition")} of ${row.partitions} without a leader, ` +
      "or with replicas that are behind"
    )
    return { visible, there, rows, problems: [...missing, ...unwell] }
  })

const describe = (row: topics.TopicRow): string =>
  `${escapeLine(row.topic)}: ${counted(row.partitions, "partition")}, ` +
  `${counted(row.replicas, "replica")} of each, ${counted(row.records, "record")}`

export const command = Command.make("check", {
  envFile: cluster.envFile,
  group: Options.text("group").pipe(
    Options.withDescription("Whether this group's offsets may be seen. It is not joined."),
    Options.optional
  ),
  topics: Args.text({ name: "topic" }).pipe(
    Args.withDescription("Topics that must be there and readable. KAFKA_TOPIC_PREFIX is put before each."),
    Args.repeated
  )
}, ({ envFile, group, topics: wanted }) =>
  Effect.gen(function*() {
    const stdio = yield* Stdio
    const driver = yield* cluster.Driver
    const label = (step: Step): string => step.padEnd(13)
    const done = (step: Step, found: string, details: ReadonlyArray<string> = []) =>
      stdio.write(
        [`${stdio.style("green", "✓")} ${label(step)}  ${escapeLine(found)}`, ...details.map((line) => `    ${line}`)]
          .map((line) => `${line}\n`).join("")
      )
    const begin = (step: Step) => stdio.progress(`… ${step}`)

    const onCluster = (config: KafkaConfig.Service) =>
      Effect.scoped(Effect.gen(function*() {
        yield* begin("reach")
        const connected = Effect.flatMap(
          Admin.make,
          (admin) => Effect.map(admin.describeCluster, (cluster) => ({ admin, cluster }))
        )
        const attempt = yield* Effect.either(connected)
        if (Either.isLeft(attempt)) {
          const step = connectingStep(attempt.left)
          if (step !== "reach") yield* done("reach", "a broker answers")
          if (step === "authorise") yield* done("authenticate", securityOf(config))
          return yield* Effect.fail(stopped(step)(attempt.left))
        }
        const { admin, cluster: { brokers, clusterId, controller } } = attempt.right
        yield* done(
          "reach",
          `${counted(brokers.length, "broker")} of cluster ${clusterId}: ` +
            brokers.map(({ host, id, port }) => `${id} at ${host}:${port}${id === controller ? " (controller)" : ""}`)
              .join(", ")
        )
        yield* done(
          "authenticate",
          config.security._tag === "Plaintext" ? "PLAINTEXT: nobody is asked who they are" : securityOf(config)
        )

        yield* begin("authorise")
        const asked = [...new Set(wanted.map((one) => cluster.nameOf(one, config.topicPrefix)))]
        const looked = yield* Effect.either(look(admin, config.topicPrefix, asked, group))
        if (Either.isLeft(looked)) {
          if (looked.left._tag === "KafkaAuthorizationError") {
            return yield* Effect.fail(stopped("authorise")(looked.left))
          }
          yield* done("authorise", "nothing was refused")
          return yield* Effect.fail(stopped("topics")(looked.left))
        }
        const { problems, rows, there, visible } = looked.right
        yield* done(
          "authorise",
          [
            `${counted(visible.length, "topic")} to be seen`,
            ...there.length === 0 ? [] : [`${there.join(", ")} may be read`],
            ...Option.isNone(group) ? [] : [`offsets of group ${group.value} may be seen`]
          ].join(", ")
        )
        if (problems.length > 0) return yield* Effect.fail(new Stopped("topics", problems))
        const none = config.topicPrefix === undefined
          ? "there are none"
          : `there are none under the prefix ${config.topicPrefix}`
        yield* done(
          "topics",
          rows.length === 0 ? none : `${counted(rows.length, "topic")} with all partitions led and in sync`,
          asked.length === 0 ? [] : rows.map(describe)
        )
      })).pipe(Effect.provide(cluster.layerOf(driver, config)))

    const outcome = yield* Effect.gen(function*() {
      const config = yield* Effect.mapError(KafkaConfig.fromEnv, stopped("configuration"))
      yield* done("configuration", configurationOf(config))
      yield* onCluster(config)
    }).pipe(
      cluster.withEnvFile(envFile),
      Effect.catchTags({
        InputError: (error) => Effect.succeed(stopped("configuration")(error)),
        ConfigError: (error) => Effect.succeed(stopped("configuration")(error))
      }),
      Effect.catchTag("Stopped", Effect.succeed)
    )
    if (outcome === undefined) return
    const { step, why } = outcome
    yield* stdio.write(
      [
        `${stdio.style("red", "✗")} ${label(step)}  ${why[0] ?? ""}`,
        ...why.slice(1).map((line) => `    ${line}`),
        ...steps.slice(steps.indexOf(step) + 1).map((later) => stdio.style("dim", `- ${label(later)}  skipped`))
      ].map((line) => `${line}\n`).join("")
    )
    return yield* new Failed({ message: undefined })
  })).pipe(
    Command.withDescription(
      "Checks configuration, connection, authentication, authorisation and topics, and says what is wrong with the first that is."
    )
  )
