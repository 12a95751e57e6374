/**
 * What a consumer is told whose session timeout the brokers refuse.
 */

/** The brokers' settings, by their names in Kafka. */
export const limits = { shortest: "group.min.session.timeout.ms", longest: "group.max.session.timeout.ms" } as const

/** In milliseconds. */
export interface Allowed {
  readonly shortest: number
  readonly longest: number
}

/**
 * Names our setting, and what is allowed where the brokers told.
 */
export const refusal = (sessionTimeout: number, allowed: Allowed | undefined): string =>
  `sessionTimeout of ${sessionTimeout} ms is refused: the brokers allow ${
    allowed === undefined
      ? `what lies between their ${limits.shortest} and ${limits.longest}`
      : `${allowed.shortest} to ${allowed.longest} ms (${limits.shortest} and ${limits.longest})`
  }`
