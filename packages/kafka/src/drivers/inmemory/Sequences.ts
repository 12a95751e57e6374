/**
 * What a partition remembers of idempotent producers, to store each batch once and in order.
 */
import { done, refuse, type Reply } from "./Protocol.ts"

interface Batch {
  readonly first: number
  readonly count: number
  readonly baseOffset: bigint
}

interface State {
  epoch: number
  next: number
  /** The last five, as in Kafka. */
  recent: Array<Batch>
}

const modulus = 2 ** 31

export class Sequences {
  private readonly producers = new Map<number, State>()

  /** Where the batch is stored already, if it is. */
  duplicate(producerId: number, epoch: number, first: number, count: number): bigint | undefined {
    const state = this.producers.get(producerId)
    if (state === undefined || state.epoch !== epoch) return undefined
    return state.recent.find((batch) => batch.first === first && batch.count === count)?.baseOffset
  }

  /** Whether the batch comes next. */
  check(producerId: number, epoch: number, first: number): Reply<void> {
    const state = this.producers.get(producerId)
    if (state === undefined) return done
    if (epoch < state.epoch) return refuse("INVALID_PRODUCER_EPOCH")
    const next = epoch > state.epoch ? 0 : state.next
    return first === next
      ? done
      : refuse("OUT_OF_ORDER_SEQUENCE_NUMBER", undefined, `sequence ${first} where ${next} comes next`)
  }

  store(producerId: number, epoch: number, batch: Batch): void {
    const state = this.producers.get(producerId)
    const recent = state === undefined || state.epoch !== epoch ? [] : state.recent
    recent.push(batch)
    if (recent.length > 5) recent.shift()
    this.producers.set(producerId, { epoch, next: (batch.first + batch.count) % modulus, recent })
  }
}
