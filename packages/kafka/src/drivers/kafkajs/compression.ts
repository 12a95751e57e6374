/**
 * Compression for kafkajs, which has gzip alone: the rest comes from libraries that an application installs when it
 * needs them.
 *
 * kafkajs keeps its codecs in one object for the whole process. Codecs are put there only where kafkajs has none and
 * nobody else has put one, so that what an application chose for itself stays.
 */
import * as Effect from "effect/Effect"
import KafkaJs, { CompressionTypes } from "kafkajs"
import { promisify } from "node:util"
import * as Zlib from "node:zlib"
import type { CompressionType } from "../../KafkaClient.ts"
import { UnsupportedFeatureError } from "../../KafkaError.ts"

type Transform = (data: Buffer) => Promise<Buffer>

/** From bytes to bytes, as the record format wants them. */
interface Algorithm {
  readonly compress: Transform
  readonly decompress: Transform
}

/** What kafkajs wants. */
interface Codec {
  readonly compress: (encoder: { readonly buffer: Buffer }) => Promise<Buffer>
  readonly decompress: Transform
}

type Optional = Exclude<CompressionType, "none" | "gzip">

const types: Readonly<Record<CompressionType, CompressionTypes>> = {
  none: CompressionTypes.None,
  gzip: CompressionTypes.GZIP,
  snappy: CompressionTypes.Snappy,
  lz4: CompressionTypes.LZ4,
  zstd: CompressionTypes.ZSTD
}

// ---------------------------------------------------------------------------------------------------------------------
// libraries
// ---------------------------------------------------------------------------------------------------------------------

const missing = (type: Optional, what: string, cause: unknown): UnsupportedFeatureError =>
  new UnsupportedFeatureError({
    driver: "kafkajs",
    feature: `${type} compression`,
    reason: `install ${what}${isNotFound(cause) ? "" : `, which is there and can not be loaded: ${String(cause)}`}`
  })

const isNotFound = (cause: unknown): boolean =>
  cause instanceof Error && "code" in cause &&
  (cause.code === "ERR_MODULE_NOT_FOUND" || cause.code === "MODULE_NOT_FOUND")

/** Loads a library that may not be there, so that neither types nor bundlers insist on it. */
const library = async <A>(type: Optional, name: string, what = `the package "${name}"`): Promise<A> => {
  try {
    const loaded = await import(name) as A & { readonly default?: A }
    return loaded.default ?? loaded
  } catch (cause) {
    throw missing(type, what, cause)
  }
}

const load: Readonly<Record<Optional, () => Promise<Algorithm>>> = {
  snappy: async () => {
    const snappy = await library<{ readonly compress: Transform; readonly uncompress: Transform }>("snappy", "snappy")
    return {
      compress: (data) => toXerial(data, snappy.compress),
      decompress: (data) => fromXerial(data, snappy.uncompress)
    }
  },
  lz4: async () => {
    const lz4 = await library<{ readonly compressFrame: Transform; readonly decompressFrame: Transform }>(
      "lz4",
      "lz4-napi"
    )
    return { compress: lz4.compressFrame, decompress: lz4.decompressFrame }
  },
  zstd: async () => {
    // Node has it from 22.15 on
    const node = Zlib as { readonly zstdCompress?: unknown; readonly zstdDecompress?: unknown }
    if (isZlib(node.zstdCompress) && isZlib(node.zstdDecompress)) {
      return { compress: promisify(node.zstdCompress), decompress: promisify(node.zstdDecompress) }
    }
    return await library<Algorithm>(
      "zstd",
      "@mongodb-js/zstd",
      "the package \"@mongodb-js/zstd\", or run Node 22.15 or later"
    )
  }
}

const isZlib = (f: unknown): f is (data: Buffer, callback: (error: Error | null, result: Buffer) => void) => void =>
  typeof f === "function"

// ---------------------------------------------------------------------------------------------------------------------
// snappy as Kafka has it
// ---------------------------------------------------------------------------------------------------------------------

/** Java's snappy library puts a header and blocks with their lengths around what it compresses. */
const xerialHeader = Buffer.from([0x82, 0x53, 0x4e, 0x41, 0x50, 0x50, 0x59, 0, 0, 0, 0, 1, 0, 0, 0, 1])
const xerialMagic = 8
const xerialBlock = 32 * 1024

export const toXerial = async (data: Buffer, compress: Transform): Promise<Buffer> => {
  const out: Array<Buffer> = [xerialHeader]
  for (let from = 0; from < data.length; from += xerialBlock) {
    const block = await compress(data.subarray(from, from + xerialBlock))
    const length = Buffer.alloc(4)
    length.writeInt32BE(block.length)
    out.push(length, block)
  }
  return Buffer.concat(out)
}

export const fromXerial = async (data: Buffer, uncompress: Transform): Promise<Buffer> => {
  // other clients do without
  if (!data.subarray(0, xerialMagic).equals(xerialHeader.subarray(0, xerialMagic))) return await uncompress(data)
  const out: Array<Buffer> = []
  for (let at = xerialHeader.length; at < data.length;) {
    const from = at + 4
    const to = from + data.readInt32BE(at)
    if (to < from || to > data.length) throw new RangeError("a snappy block is cut short")
    out.push(await uncompress(data.subarray(from, to)))
    at = to
  }
  return Buffer.concat(out)
}

// ---------------------------------------------------------------------------------------------------------------------
// kafkajs's codecs
// ---------------------------------------------------------------------------------------------------------------------

const codec = (type: Optional): Codec => ({
  compress: async ({ buffer }) => (await load[type]()).compress(buffer),
  decompress: async (data) => (await load[type]()).decompress(data)
})

/** kafkajs's own placeholders throw. */
const isVacant = (make: unknown): boolean => {
  if (typeof make !== "function") return true
  try {
    make()
    return false
  } catch (error) {
    return error instanceof KafkaJs.KafkaJSNotImplemented
  }
}

/**
 * Lets kafkajs read and write what there are libraries for; each is loaded when it is first needed. Without its library
 * such a batch fails with an error that names the package.
 */
export const install: Effect.Effect<void> = Effect.sync(() => {
  const codecs: { [type: number]: unknown } = KafkaJs.CompressionCodecs
  for (const type of ["snappy", "lz4", "zstd"] as const) {
    if (isVacant(codecs[types[type]])) codecs[types[type]] = () => codec(type)
  }
})

/**
 * kafkajs's number for a compression type, once it is certain that it can be written.
 */
export const prepare = (type: CompressionType): Effect.Effect<CompressionTypes, UnsupportedFeatureError> =>
  type === "none" || type === "gzip"
    ? Effect.succeed(types[type])
    : Effect.as(
      Effect.zipRight(
        install,
        Effect.tryPromise({
          try: load[type],
          catch: (error) => error instanceof UnsupportedFeatureError ? error : missing(type, "its library again", error)
        })
      ),
      types[type]
    )
