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

const numbers = new Set([
  "delete.retention.ms",
  "file.delete.delay.ms",
  "flush.messages",
  "flush.ms",
  "index.interval.bytes",
  "local.retention.bytes",
  "local.retention.ms",
  "max.compaction.lag.ms",
  "max.message.bytes",
  "message.timestamp.after.max.ms",
  "message.timestamp.before.max.ms",
  "min.cleanable.dirty.ratio",
  "min.compaction.lag.ms",
  "min.insync.replicas",
  "retention.bytes",
  "retention.ms",
  "segment.bytes",
  "segment.index.bytes",
  "segment.jitter.ms",
  "segment.ms"
])

const choices: Readonly<Record<string, ReadonlyArray<string>>> = {
  "cleanup.policy": ["delete", "compact", "compact,delete", "delete,compact"],
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

/** What is wrong with settings, if anything. */
export const problem = (entries: Readonly<Record<string, string>>): string | undefined => {
  for (const [name, value] of Object.entries(entries)) {
    const allowed = choices[name]
    if (allowed !== undefined) {
      if (!allowed.includes(value)) return `${name} is "${value}", and must be one of ${allowed.join(", ")}`
    } else if (numbers.has(name)) {
      if (value.trim() === "" || Number.isNaN(Number(value))) return `${name} is "${value}", which is not a number`
    } else if (!others.has(name)) return `unknown topic config name: ${name}`
  }
  return undefined
}
