/** `check` on a real broker that asks who one is: each refusal at its step, and no secret in any output. */
import { assert, layer as sharing } from "@effect/vitest"
import { ConfigProvider, Effect, Layer } from "effect"
import * as Crypto from "node:crypto"
import * as Admin from "../../src/Admin.ts"
import * as KafkaConfig from "../../src/KafkaConfig.ts"
import * as KafkaJs from "../../src/KafkaJs.ts"
import * as TopicRegistry from "../../src/TopicRegistry.ts"
import { type Environment, layer, prefixes, SecuredKafka } from "../security/SecuredKafka.ts"
import * as RealKafka from "../support/RealKafka.ts"
import { cliOn, type Options } from "./support.ts"

const unique = (prefix: string): string => `${prefix}${Crypto.randomBytes(5).toString("hex")}`

const create = (topics: ReadonlyArray<string>, env: Environment) =>
  Admin.createTopics(topics.map((topic) => ({ topic, partitions: 1 }))).pipe(
    Effect.provide(Admin.layer.pipe(
      Layer.provide(KafkaJs.layer),
      Layer.provide(TopicRegistry.layer),
      Layer.provide(KafkaConfig.layerEnv),
      Layer.provide(Layer.setConfigProvider(ConfigProvider.fromMap(new Map(Object.entries(env)))))
    ))
  )

const step = (sign: string, name: string, text: RegExp): RegExp => new RegExp(`^${sign} ${name} .*${text.source}`, "m")

RealKafka.suiteOfOwn("coffeebuddy-kafka and the security of a real Kafka", () => {
  sharing(layer, { excludeTestServices: true, timeout: "120 seconds" })((it) => {
    it.effect("each refusal stops it at its step, and says what to check without the secret", () =>
      Effect.gen(function*() {
        const kafka = yield* SecuredKafka
        const readable = unique(prefixes.readable)
        const others = unique("others-")
        yield* create([readable, others], kafka.operator)
        const alice = kafka.files({ listener: "sasl_ssl", mechanism: "SCRAM-SHA-512", user: "alice" })
        const wrong = "not-the-password"
        const cli = (args: ReadonlyArray<string>, env: Environment, options: Options = {}) =>
          Effect.tap(cliOn(KafkaJs.layer, args, { ...options, env }), ({ err, out }) =>
            Effect.sync(() => {
              for (const secret of [...kafka.secrets, wrong]) assert.notInclude(out + err, secret)
            }))

        const well = yield* cli(["check", readable], alice)
        assert.strictEqual(well.code, 0, well.out)
        assert.match(well.out, step("✓", "authenticate", /SASL_SSL by SCRAM-SHA-512/))

        const { KAFKA_SASL_PASSWORD_FILE: _, ...nobody } = alice
        const password = yield* cli(["check"], { ...nobody, KAFKA_SASL_PASSWORD: wrong })
        assert.strictEqual(password.code, 1)
        assert.match(password.out, step("✗", "authenticate", /authentication by scram-sha-512 failed/))

        const untrusted = yield* cli(["check"], { ...alice, KAFKA_SSL_CA_FILE: kafka.strangers.caFile })
        assert.strictEqual(untrusted.code, 1)
        assert.match(untrusted.out, step("✗", "authenticate", /certificate/))

        const hidden = yield* cli(["check", others], alice)
        assert.strictEqual(hidden.code, 1)
        assert.match(hidden.out, step("✗", "authorise", new RegExp(`not authorized on topic "${others}"`)))

        const group = yield* cli(["check", "--group", "not-hers"], alice)
        assert.strictEqual(group.code, 1)
        assert.match(group.out, step("✗", "authorise", /not authorized on group "not-hers"/))

        const unwritable = yield* cli(["produce", readable], alice, { input: ["tea\n"] })
        assert.strictEqual(unwritable.code, 1)
        assert.match(unwritable.err, new RegExp(`not authorized on topic "${readable}"`))
      }))
  })
})
