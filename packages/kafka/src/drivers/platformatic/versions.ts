/**
 * A request in all versions of the protocol that we can speak.
 */
import type { Connection as LibraryConnection } from "@platformatic/kafka"

/** One version of one request, as the library has it. */
export interface Version<Args extends ReadonlyArray<unknown>, A> {
  readonly key: number
  readonly version: number
  readonly async: (connection: LibraryConnection, ...args: Args) => Promise<A>
}

/** All versions that we can speak, newest first. They have the same arguments, and the same shape of answer. */
export interface Api<Args extends ReadonlyArray<unknown>, A> {
  readonly name: string
  readonly key: number
  readonly versions: readonly [Version<Args, A>, ...ReadonlyArray<Version<Args, A>>]
  /** The version of Kafka that has one of them first, for errors to say. */
  readonly since: string
}

export const api = <Args extends ReadonlyArray<unknown>, A>(
  name: string,
  first: Version<Args, A>,
  ...older: ReadonlyArray<Version<Args, A>>
): Api<Args, A> => ({ name, key: first.key, versions: [first, ...older], since: "3.2" })
