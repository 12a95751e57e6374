/**
 * Which partition a record goes to.
 *
 * @since 0.1.0
 */

/**
 * Chooses among the partitions `0` to `partitionCount - 1` of a topic. It has to give the same answer for the same key,
 * or records of a key lose their order. `undefined` leaves the choice to the producer, which fills one partition's
 * batch after the other.
 *
 * It is called once for each record without an explicit partition, so it should be quick. Where it throws or answers a
 * partition that does not exist, the record's caller gets a `ProducerError`.
 *
 * @example
 * ```ts
 * import { Partitioner } from "@coffeebuddy/kafka"
 *
 * // a shop's orders together, whatever the rest of the key "shop/order" is
 * const byShop: Partitioner.Partitioner = (key, partitionCount) =>
 *   key === null ? undefined : Partitioner.forKey(key.subarray(0, key.indexOf(0x2f)), partitionCount)
 * ```
 *
 * @since 0.1.0
 * @category models
 */
export type Partitioner = (key: Uint8Array | null, partitionCount: number, topic: string) => number | undefined

/**
 * The 32-bit hash of Java's `org.apache.kafka.common.utils.Utils.murmur2`, as a signed integer.
 *
 * @since 0.1.0
 * @category hashing
 */
export const murmur2 = (bytes: Uint8Array): number => {
  const m = 0x5bd1e995
  const length = bytes.length
  const tail = length & ~3
  let h = 0x9747b28c ^ length
  for (let i = 0; i < tail; i += 4) {
    let k = bytes[i]! | (bytes[i + 1]! << 8) | (bytes[i + 2]! << 16) | (bytes[i + 3]! << 24)
    k = Math.imul(k, m)
    k ^= k >>> 24
    h = Math.imul(h, m) ^ Math.imul(k, m)
  }
  const left = length - tail
  if (left > 0) {
    if (left > 2) h ^= bytes[tail + 2]! << 16
    if (left > 1) h ^= bytes[tail + 1]! << 8
    h = Math.imul(h ^ bytes[tail]!, m)
  }
  h = Math.imul(h ^ (h >>> 13), m)
  return h ^ (h >>> 15)
}

/**
 * Where Java's default partitioner puts a key.
 *
 * @since 0.1.0
 * @category hashing
 */
export const forKey = (key: Uint8Array, partitionCount: number): number => (murmur2(key) & 0x7fffffff) % partitionCount

/**
 * Keys where Java's default partitioner puts them; records without a key to one partition until its batch is full or
 * sent, then to another. The producer's default.
 *
 * @since 0.1.0
 * @category partitioners
 */
export const java: Partitioner = (key, partitionCount) => key === null ? undefined : forKey(key, partitionCount)
