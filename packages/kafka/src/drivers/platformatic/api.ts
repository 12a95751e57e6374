/**
 * The requests that the driver makes of the library, each with the versions of the protocol it can speak, newest first.
 * This is all that is used of the library's low-level API beside `Connection`, `Writer` and `Reader`: the contract tests
 * pin it.
 */
import * as Effect from "effect/Effect"
import { UnsupportedFeatureError } from "../../KafkaError.ts"
import * as AdminApis from "./adminApis.ts"
import * as ConsumerApis from "./consumerApis.ts"
import type { Library } from "./library.ts"
import * as ProducerApis from "./producerApis.ts"
import { type Api, api, type Version } from "./versions.ts"

export { type Api, api, type Version } from "./versions.ts"

const define = (library: Library) => ({
  ...AdminApis.make(library),
  ...ConsumerApis.make(library),
  ...ProducerApis.make(library),
  metadata: api("Metadata", library.metadataV12.api),
  findCoordinator: api(
    "FindCoordinator",
    library.findCoordinatorV6.api,
    library.findCoordinatorV5.api,
    library.findCoordinatorV4.api
  )
})

/** @internal its type is made of the library's own, which a declaration could not name */
export type Apis = ReturnType<typeof define>

/** All of them, or which of them the library lacks. */
export const make = (library: Library): Effect.Effect<Apis, UnsupportedFeatureError> =>
  Effect.try({
    try: () => define(library),
    catch: (error) =>
      new UnsupportedFeatureError({
        driver: "platformatic",
        feature: "connection to Kafka",
        reason: `@platformatic/kafka is not as this driver knows it: ${
          error instanceof Error ? error.message : String(error)
        }`
      })
  })

/** What a broker speaks: the versions of each request, by its key. */
export type Spoken = ReadonlyMap<number, { readonly minVersion: number; readonly maxVersion: number }>

/** The newest version that the broker speaks too. */
export const choose = <Args extends ReadonlyArray<unknown>, A>(
  self: Api<Args, A>,
  spoken: Spoken
): Version<Args, A> | undefined => {
  const range = spoken.get(self.key)
  return range === undefined
    ? undefined
    : self.versions.find(({ version }) => version >= range.minVersion && version <= range.maxVersion)
}

/** Why there is no such version, for an error to say. */
export const mismatch = (self: Api<never, unknown>, spoken: Spoken): string => {
  const range = spoken.get(self.key)
  const ours = self.versions.map(({ version }) => version).sort((a, b) => a - b)
  if (range === undefined) {
    return `the broker has no ${self.name} request: it is not set up for it, or older than Kafka ${self.since}`
  }
  const { maxVersion, minVersion } = range
  return `the broker speaks versions ${minVersion} to ${maxVersion} of ${self.name}, and this driver ${
    ours.join(", ")
  }: ${
    ours.every((version) => version < minVersion)
      ? "the broker is newer than it knows, so look for a newer version of this library"
      : `it needs Kafka ${self.since} or later`
  }`
}
