/** What asking for each compression answers where no library for it is installed. */
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import { register } from "node:module"
import { prepare } from "../../../src/drivers/kafkajs/compression.ts"

const hook = `
  const hidden = ["snappy", "lz4-napi", "@mongodb-js/zstd"]
  export const resolve = (name, context, next) => {
    if (!hidden.includes(name)) return next(name, context)
    throw Object.assign(new Error("Cannot find package " + name), { code: "ERR_MODULE_NOT_FOUND" })
  }`
register(`data:text/javascript,${encodeURIComponent(hook)}`)

for (const type of ["none", "gzip", "snappy", "lz4", "zstd"] as const) {
  const answer = await Effect.runPromise(Effect.either(prepare(type)))
  console.log(`${type}: ${Either.isRight(answer) ? "ready" : `${answer.left._tag}: ${answer.left.message}`}`)
}
