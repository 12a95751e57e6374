/**
 * One contender, once, in a process of its own: argument 1 its name, argument 2 the work as JSON. Prints JSON.
 */
import * as kafkajs from "./contenders/kafkajs.ts"
import * as library from "./contenders/library.ts"
import * as produce from "./contenders/produce.ts"
import type { ConsumeWork, Contender } from "./work.ts"

export const contenders: Record<string, Contender> = {
  "kafkajs eachBatch, bytes": kafkajs.bytes,
  "kafkajs eachBatch, JSON by hand": kafkajs.json,
  "kafkajs eachMessage, bytes": kafkajs.eachMessage,
  "Consumer.stream, Serde.bytes": library.bytes,
  "Consumer.stream, Serde.json": library.json,
  "Consumer.forEach, partition, 16": library.forEachPartition,
  "Consumer.forEach, key, 16": library.forEachKey,
  "Consumer.forEach, unordered, 16": library.forEachUnordered,
  "Stream.mapEffect, 16": library.mapEffect,
  "kafkajs send, batches of 1,000": produce.rawBatches,
  "kafkajs send, one record, 1,000 callers": produce.rawSingles,
  "kafkajs send, one after the other": produce.rawLone,
  "Producer.sendAll, 1,000": produce.sendAll,
  "Producer.send, 1,000 fibers": produce.sendSingles,
  "Producer.send, one after the other": produce.sendLone
}

const [name, input] = process.argv.slice(2)
const contender = contenders[name ?? ""]
if (contender === undefined || input === undefined) throw new Error(`no contender is called "${name}"`)
const work = JSON.parse(input) as ConsumeWork & { readonly warmUp: number }

// once for the compiler, once for the clock
if (work.warmUp > 0) await contender({ ...work, groupId: `${work.groupId}-warm`, records: work.warmUp })
const cpu = process.cpuUsage()
const { records, seconds } = await contender(work)
const { system, user } = process.cpuUsage(cpu)
console.log(JSON.stringify({
  records,
  seconds,
  cpuSeconds: (system + user) / 1e6,
  peakRssBytes: process.resourceUsage().maxRSS * 1024
}))
process.exit(0)
