/**
 * One broker: a JVM with its own folder and ports, which may be stopped, killed, frozen and started again.
 */
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs/promises"
import * as path from "node:path"
import { setTimeout as sleep } from "node:timers/promises"
import type { Distribution } from "./distribution.ts"
import { KafkaFailure } from "./errors.ts"
import { aliveBrokers } from "./metadata.ts"
import { spawnBound } from "./process.ts"

export interface KafkaBroker {
  /** As clients see it in the metadata; also the number to pass to `cluster.broker`. */
  readonly nodeId: number
  /** Where the first listener of this broker is, `host:port`. */
  readonly address: string
  /** Where this broker keeps its log of what it did, for when a test goes wrong. */
  readonly logFile: string
  /** Where its partitions are, each in a folder `topic-number`. */
  readonly dataDirectory: string
  readonly running: boolean
  /** The process, while it runs. */
  readonly pid: number | undefined
  /** Stops as an operator does: SIGTERM, then leadership moves away, connections close, everything is on disk. */
  readonly stop: () => Promise<void>
  /** SIGKILL: what was not on disk yet is lost, nobody is told. */
  readonly kill: () => Promise<void>
  /** Starts again with the same ports and the same data. Resolves when the broker serves requests. */
  readonly start: () => Promise<void>
  /** SIGSTOP: connections stay open and nobody answers. */
  readonly pause: () => void
  /** SIGCONT: goes on after `pause`. */
  readonly resume: () => void
}

export interface BrokerOptions {
  readonly distribution: Distribution
  readonly nodeId: number
  readonly address: string
  /** Where the other brokers come in, without a lock. */
  readonly internalAddress: string
  /** The folder of this broker, which has `server.properties` in it. */
  readonly directory: string
  readonly dataDirectory: string
  /** The folder to remove when we are killed. */
  readonly root: string
  readonly jvmOptions: ReadonlyArray<string>
  readonly startTimeoutMs: number
  readonly stopTimeoutMs: number
}

/** The end of a log, for a message. */
export const tail = async (file: string, lines = 30): Promise<string> => {
  const text = await fs.readFile(file, "utf8").catch(() => "")
  return text.trimEnd().split("\n").slice(-lines).join("\n")
}

/** Asks until it is so, or the time is over. */
export const waitUntil = async (condition: () => boolean | Promise<boolean>, timeoutMs: number): Promise<boolean> => {
  const deadline = Date.now() + timeoutMs
  while (!(await condition())) {
    if (Date.now() > deadline) return false
    await sleep(25)
  }
  return true
}

export const makeBroker = (options: BrokerOptions): KafkaBroker => {
  const { directory, nodeId } = options
  const logFile = path.join(directory, "broker.log")
  let child: ChildProcess | undefined

  const isRunning = (): boolean => child !== undefined && child.exitCode === null && child.signalCode === null

  const start = async (): Promise<void> => {
    if (isRunning()) throw new KafkaFailure(`Broker ${nodeId} runs already`)
    // The log goes straight to a file, so that a broker never waits for our event loop.
    const log = await fs.open(logFile, "a")
    let started: ChildProcess
    try {
      started = spawnBound(
        options.distribution.java,
        [
          ...options.jvmOptions,
          "-cp",
          options.distribution.classPath,
          "kafka.Kafka",
          path.join(directory, "server.properties")
        ],
        { stdio: ["ignore", log.fd, log.fd], remove: options.root }
      )
    } finally {
      await log.close()
    }
    child = started
    let problem: Error | undefined
    started.once("error", (error) => {
      problem = error
    })
    // A program that forgets to close its cluster can still end, and takes the cluster with it.
    started.unref()

    let ready = false
    const decided = await waitUntil(async () => {
      ready = (await aliveBrokers(options.internalAddress)).includes(nodeId)
      return ready || problem !== undefined || !isRunning()
    }, options.startTimeoutMs)
    if (ready && isRunning()) return
    const why = decided
      ? problem?.message ?? `it ended with ${started.signalCode ?? `code ${started.exitCode}`}`
      : `it was not ready within ${options.startTimeoutMs} ms`
    await kill()
    throw new KafkaFailure(`Broker ${nodeId} did not start: ${why}. The end of its log:\n${await tail(logFile)}`)
  }

  const kill = async (): Promise<void> => {
    if (!isRunning()) return
    child?.kill("SIGKILL")
    await waitUntil(() => !isRunning(), 10_000)
  }

  const stop = async (): Promise<void> => {
    if (!isRunning()) return
    child?.kill("SIGCONT")
    child?.kill("SIGTERM")
    if (!(await waitUntil(() => !isRunning(), options.stopTimeoutMs))) {
      throw new KafkaFailure(
        `Broker ${nodeId} did not stop within ${options.stopTimeoutMs} ms; kill() always works. ` +
          `The end of its log:\n${await tail(logFile)}`
      )
    }
  }

  const signal = (name: "SIGSTOP" | "SIGCONT"): void => {
    if (!isRunning()) throw new KafkaFailure(`Broker ${nodeId} does not run`)
    child?.kill(name)
  }

  return {
    nodeId,
    address: options.address,
    logFile,
    dataDirectory: options.dataDirectory,
    get running() {
      return isRunning()
    },
    get pid() {
      return isRunning() ? child?.pid : undefined
    },
    start,
    stop,
    kill,
    pause: () => signal("SIGSTOP"),
    resume: () => signal("SIGCONT")
  }
}
