/**
 * Real Kafka cannot run on this machine at all: no Java, no Maven, or nothing to download it from. Tests on real Kafka
 * are skipped for this reason, and only for this one.
 */
export class KafkaUnavailable extends Error {
  readonly _tag = "KafkaUnavailable"
  override readonly name = "KafkaUnavailable"
}

/**
 * Real Kafka can run here, and yet something went wrong: a broker did not start, died, or a tool failed. The message
 * ends with the tail of what the process said.
 */
export class KafkaFailure extends Error {
  readonly _tag = "KafkaFailure"
  override readonly name = "KafkaFailure"
}
