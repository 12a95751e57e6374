/**
 * The settings of a topic: which there are, which values they take, and Kafka's defaults for those that do something.
 */
export const defaults = {
  "cleanup.policy": "delete",
  "compression.type": "producer",
  "delete.retention.ms": "86400000",
  "max.message.bytes": "1048588",
  "message.timestamp.type": "CreateTime",
  "min.insync.replicas": "1",
  "retention.bytes": "-1",
  "retention.ms": "604800000",
  "segment.bytes": "1073741824"
} as const

export type Effective = keyof typeof defaults

/** The smallest value of each number. */
const numbers: Readonly<Record<string, number>> = {
  "delete.retention.ms": 0,
  "file.delete.delay.ms": 0,
  "flush.messages": 1,
  "flush.ms": 0,
  "index.interval.bytes": 0,
  "local.retention.bytes": -2,
  "local.retention.ms": -2,
  "max.compaction.lag.ms": 1,
  "max.message.bytes": 0,
  "message.timestamp.after.max.ms": 0,
  "message.timestamp.before.max.ms": 0,
  "min.cleanable.dirty.ratio": 0,
  "min.compaction.lag.ms": 0,
  "min.insync.replicas": 1,
  "retention.bytes": -1,
  "retention.ms": -1,
  "segment.bytes": 14,
  "segment.index.bytes": 4,
  "segment.jitter.ms": 0,
  "segment.ms": 1
}

const choices: Readonly<Record<string, ReadonlyArray<string>>> = {
  "cleanup.policy": ["delete", "compact"],
  "compression.type": ["uncompressed", "zstd", "lz4", "snappy", "gzip", "producer"],
  "message.timestamp.type": ["CreateTime", "LogAppendTime"],
  "preallocate": ["true", "false"],
  "remote.storage.enable": ["true", "false"],
  "unclean.leader.election.enable": ["true", "false"]
}

const others = new Set([
  "compression.gzip.level",
  "compression.lz4.level",
  "compression.zstd.level",
  "follower.replication.throttled.replicas",
  "leader.replication.throttled.replicas"
])

/** Those whose value is a list, separated by commas. */
const lists = new Set(["cleanup.policy"])

/** What is wrong with settings, if anything. */
export const problem = (entries: Readonly<Record<string, string>>): string | undefined => {
  for (const [name, value] of Object.entries(entries)) {
    const allowed = choices[name]
    const least = numbers[name]
    if (allowed !== undefined) {
      const values = lists.has(name) ? value.split(",").map((one) => one.trim()) : [value]
      if (!values.every((one) => allowed.includes(one))) {
        return `${name} is "${value}", and must be one of ${allowed.join(", ")}`
      }
    } else if (least !== undefined) {
      const whole = name !== "min.cleanable.dirty.ratio"
      if (value.trim() === "" || !(Number(value) >= least) || (whole && !/^[+-]?\d+$/.test(value.trim()))) {
        return `${name} is "${value}", and must be a ${whole ? "whole " : ""}number of ${least} or more`
      }
    } else if (!others.has(name)) return `unknown topic config name: ${name}`
  }
  return undefined
}
