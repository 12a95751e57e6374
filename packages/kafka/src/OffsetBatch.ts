/**
 * Offsets to commit, as a value: for each partition the furthest one.
 *
 * @since 0.1.0
 */
import { dual } from "effect/Function"
import { type Pipeable, pipeArguments } from "effect/Pipeable"
import * as Predicate from "effect/Predicate"
import type * as ConsumerRecord from "./ConsumerRecord.ts"

/**
 * @since 0.1.0
 * @category symbols
 */
export const TypeId = "~@coffeebuddy/kafka/OffsetBatch"

/**
 * @since 0.1.0
 * @category symbols
 */
export type TypeId = typeof TypeId

/**
 * For each assignment of a partition, the next offset to be read. Committing it says that everything before is done.
 *
 * @since 0.1.0
 * @category models
 */
export interface OffsetBatch extends Pipeable {
  readonly [TypeId]: TypeId
  readonly offsets: ReadonlyMap<ConsumerRecord.Assignment, bigint>
}

const Proto = {
  [TypeId]: TypeId as TypeId,
  pipe() {
    return pipeArguments(this, arguments)
  }
}

const fromMap = (offsets: ReadonlyMap<ConsumerRecord.Assignment, bigint>): OffsetBatch =>
  Object.assign(Object.create(Proto), { offsets })

const raise = (
  offsets: Map<ConsumerRecord.Assignment, bigint>,
  assignment: ConsumerRecord.Assignment,
  offset: bigint
): void => {
  const known = offsets.get(assignment)
  if (known === undefined || known < offset) offsets.set(assignment, offset)
}

/**
 * @since 0.1.0
 * @category constructors
 */
export const empty: OffsetBatch = fromMap(new Map())

/**
 * The offsets that say that these records are processed.
 *
 * @since 0.1.0
 * @category constructors
 */
export const make = (records: Iterable<ConsumerRecord.Any>): OffsetBatch => {
  const offsets = new Map<ConsumerRecord.Assignment, bigint>()
  for (const record of records) raise(offsets, record.assignment, record.nextOffset)
  return fromMap(offsets)
}

/**
 * @since 0.1.0
 * @category guards
 */
export const isOffsetBatch = (u: unknown): u is OffsetBatch => Predicate.hasProperty(u, TypeId)

/**
 * @since 0.1.0
 * @category getters
 */
export const isEmpty = (self: OffsetBatch): boolean => self.offsets.size === 0

/**
 * Both: for each partition the furthest offset. Associative, commutative, and merging a batch with itself changes
 * nothing.
 *
 * @since 0.1.0
 * @category combinators
 */
export const merge: {
  (that: OffsetBatch): (self: OffsetBatch) => OffsetBatch
  (self: OffsetBatch, that: OffsetBatch): OffsetBatch
} = dual(2, (self: OffsetBatch, that: OffsetBatch): OffsetBatch => {
  const offsets = new Map(self.offsets)
  for (const [assignment, offset] of that.offsets) raise(offsets, assignment, offset)
  return fromMap(offsets)
})

/**
 * With one more record.
 *
 * @since 0.1.0
 * @category combinators
 */
export const add: {
  (record: ConsumerRecord.Any): (self: OffsetBatch) => OffsetBatch
  (self: OffsetBatch, record: ConsumerRecord.Any): OffsetBatch
} = dual(2, (self: OffsetBatch, record: ConsumerRecord.Any): OffsetBatch => merge(self, make([record])))
