/** The last that Kafka can write down. */
const last = 0x7fffffffffffffffn

/**
 * The first whole millisecond since 1970 that is not before a time, as records have them; `undefined` for what is no
 * time at all. What lies before 1970 is its beginning: to Kafka, negative numbers stand for the ends of a log.
 */
export const notBefore = (time: bigint | number | Date): bigint | undefined => {
  if (typeof time === "bigint") return time < 0n ? 0n : time > last ? last : time
  const millis = Math.ceil(Number(time))
  if (Number.isNaN(millis)) return undefined
  return millis <= 0 ? 0n : millis >= Number(last) ? last : BigInt(millis)
}
