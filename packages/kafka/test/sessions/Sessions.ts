/**
 * A driver's sessions, for suites that every driver on a real cluster has to pass below the public API.
 */
import type * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { AdminSession, ProducerSession, ProducerSessionOptions } from "../../src/KafkaClient.ts"
import type { ClientError, KafkaError } from "../../src/KafkaError.ts"
import type { Faults } from "../kafkajs/support.ts"

export interface Sessions {
  readonly name: string
  readonly open: (
    brokers: string,
    options?: Partial<ProducerSessionOptions>,
    faults?: Faults
  ) => Effect.Effect<ProducerSession, never, Scope.Scope>
  /** Where it may fail, within a connection timeout of a second. */
  readonly tryOpen: (brokers: string) => Effect.Effect<ProducerSession, KafkaError, Scope.Scope>
  readonly openAdmin: (brokers: string) => Effect.Effect<AdminSession, ClientError, Scope.Scope>
}
