/**
 * The sequence numbers of an idempotent producer: the broker takes a batch only if it follows on the one before, and
 * recognises one that it has already by its first number.
 */

/** Who a producer is to the brokers. */
export interface ProducerIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
  /**
   * Whether brokers take into its transaction by themselves what it writes, and raise its epoch at the end of each: the
   * second part of KIP-890.
   */
  readonly entersByItself?: boolean
}

/** They are int32, and begin again after the largest. */
const modulus = 2 ** 31

export const following = (sequence: number, records: number): number => (sequence + records) % modulus

/**
 * A producer id with its epoch, and how far each partition has come. What was sent under it and not answered is sent
 * again under it, or never.
 */
export class Identity implements ProducerIdentity {
  readonly producerId: bigint
  readonly producerEpoch: number
  readonly entersByItself: boolean
  private readonly sequences = new Map<string, Map<number, number>>()

  constructor({ entersByItself = false, producerEpoch, producerId }: ProducerIdentity) {
    this.producerId = producerId
    this.producerEpoch = producerEpoch
    this.entersByItself = entersByItself
  }
  /** The number of the next record. */
  next(topic: string, partition: number): number {
    return this.sequences.get(topic)?.get(partition) ?? 0
  }
  /** So many records were stored. */
  advance(topic: string, partition: number, records: number): void {
    let partitions = this.sequences.get(topic)
    if (partitions === undefined) this.sequences.set(topic, partitions = new Map())
    partitions.set(partition, following(partitions.get(partition) ?? 0, records))
  }
}
