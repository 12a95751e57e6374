import * as Partitioner from "@coffeebuddy/kafka/Partitioner"
import { assert, describe, it } from "@effect/vitest"
import { readFileSync } from "node:fs"

/**
 * 1,200 random keys with what kafka-clients 4.1.1 makes of them: `hex hash partitions partition`, from
 * `Utils.murmur2(key)` and `BuiltInPartitioner.partitionForKey(key, partitions)`. All lengths from 0 to 39, every fifth
 * key of bytes above 0x7f only.
 */
const vectors = readFileSync(new URL("./murmur2.vectors.txt", import.meta.url), "utf8").trimEnd().split("\n").map(
  (line) => {
    const [key, hash, partitions, partition] = line.split(" ")
    return {
      key: new Uint8Array(Buffer.from(key!, "hex")),
      hash: Number(hash),
      partitions: Number(partitions),
      partition: Number(partition)
    }
  }
)

describe("Partitioner", () => {
  it("hashes as Java does", () => {
    assert.strictEqual(vectors.length, 1200)
    for (const { hash, key } of vectors) assert.strictEqual(Partitioner.murmur2(key), hash)
  })

  it("puts a key where Java's default partitioner puts it", () => {
    for (const { key, partition, partitions } of vectors) {
      assert.strictEqual(Partitioner.java(key, partitions, "orders"), partition)
    }
  })

  it("reads no further than the key where it is a view into a larger buffer", () => {
    for (const { hash, key } of vectors.slice(0, 100)) {
      const larger = new Uint8Array(key.length + 10).fill(0xff)
      larger.set(key, 3)
      assert.strictEqual(Partitioner.murmur2(larger.subarray(3, 3 + key.length)), hash)
    }
  })

  it("leaves records without a key to the producer", () => {
    assert.isUndefined(Partitioner.java(null, 3, "orders"))
  })
})
