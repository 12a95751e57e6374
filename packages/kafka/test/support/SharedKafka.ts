/**
 * How a test asks vitest's main process for the Kafka that all tests of a run share; see `globalSetup.ts`.
 */
import * as http from "node:http"
import { inject } from "vitest"

/** A cluster that tests share. Each test makes topics and groups of its own. */
export interface SharedKafka {
  readonly bootstrapServers: string
  /** Kafka's version, where we chose it; `undefined` for the cluster of `KAFKA_BOOTSTRAP_SERVERS`. */
  readonly version: string | undefined
}

/** Why there is none: this machine cannot run one, or it could and something broke. */
export type Missing =
  | { readonly _tag: "Unavailable"; readonly reason: string }
  | { readonly _tag: "Failed"; readonly reason: string }

/** What the tests are told. */
export type Answer = Missing | { readonly _tag: "Available"; readonly kafka: SharedKafka }

declare module "vitest" {
  interface ProvidedContext {
    /** The port at which the main process answers. */
    sharedKafka: number
  }
}

/** Asks the main process for the shared Kafka. The first one to ask waits for its start. */
export const askForSharedKafka = (): Promise<Answer> =>
  new Promise((resolve, reject) => {
    http.get({ host: "127.0.0.1", port: inject("sharedKafka"), agent: false }, (response) => {
      response.setEncoding("utf8")
      let text = ""
      response.on("data", (chunk: string) => {
        text += chunk
      })
      response.on("end", () => resolve(JSON.parse(text) as Answer))
      response.on("error", reject)
    }).on("error", reject)
  })
