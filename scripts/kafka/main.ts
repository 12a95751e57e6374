/** The command `npm run kafka`: a real Kafka until Ctrl-C. */
import { parseArgs } from "node:util"
import { startKafka } from "./cluster.ts"
import { defaultVersion } from "./distribution.ts"
import { clientEnvironment } from "./environment.ts"
import { KafkaFailure, KafkaUnavailable } from "./errors.ts"
import { allListeners } from "./listeners.ts"

const help = `Starts a real Kafka on this machine and keeps it until Ctrl-C. Its data goes with it.

  npm run kafka -- [options]

  --version VERSION      Kafka's version (KAFKA_VERSION, else ${defaultVersion}; 3.9.1 works too)
  --brokers N            how many brokers (1)
  --partitions N         partitions of topics that do not say how many (1)
  --port PORT            port of the first broker, if it is free (9092)
  --listeners A,B        how clients come in (plaintext); also ssl, mtls, sasl_plaintext, sasl_ssl
  --acls                 everybody but the user admin needs ACLs (and who has no name: plaintext, ssl)
  --set NAME=VALUE       a further setting for server.properties, as often as you like
  --help                 this text

It needs Java 17, and Maven the first time, which fetches Kafka's jars into the cache (COFFEEBUDDY_KAFKA_CACHE or
~/.cache/coffeebuddy-kafka).
`

const wholeNumber = (name: string, text: string): number => {
  if (!/^[1-9]\d*$/.test(text)) throw new TypeError(`--${name} takes a number from 1 on, not "${text}"`)
  return Number(text)
}

const readArguments = () => {
  const { values } = parseArgs({
    options: {
      version: { type: "string" },
      brokers: { type: "string", default: "1" },
      partitions: { type: "string", default: "1" },
      port: { type: "string", default: "9092" },
      listeners: { type: "string", default: "plaintext" },
      acls: { type: "boolean", default: false },
      set: { type: "string", multiple: true, default: [] },
      help: { type: "boolean", default: false }
    }
  })
  return {
    help: values.help,
    version: values.version,
    brokers: wholeNumber("brokers", values.brokers),
    partitions: wholeNumber("partitions", values.partitions),
    port: wholeNumber("port", values.port),
    acls: values.acls,
    listeners: values.listeners.split(",").map((name) => {
      const found = allListeners.find((listener) => listener === name)
      if (found === undefined) throw new TypeError(`--listeners takes ${allListeners.join(", ")}, not "${name}"`)
      return found
    }),
    properties: Object.fromEntries(values.set.map((setting) => {
      const at = setting.indexOf("=")
      if (at < 1) throw new TypeError(`--set takes NAME=VALUE, not "${setting}"`)
      return [setting.slice(0, at), setting.slice(at + 1)]
    }))
  }
}

const main = async (): Promise<number> => {
  let options: ReturnType<typeof readArguments>
  try {
    options = readArguments()
  } catch (cause) {
    process.stderr.write(`${cause instanceof Error ? cause.message : String(cause)}\n\n${help}`)
    return 2
  }
  if (options.help) {
    process.stdout.write(help)
    return 0
  }
  const asked = new Promise<void>((resolve) => {
    const parent = process.ppid
    // It also keeps this process alive for as long as nobody asks it to end.
    const watch = setInterval(() => {
      // npm's shell does not pass a SIGTERM on: it just goes.
      if (process.env["npm_lifecycle_event"] !== undefined && process.ppid !== parent) end()
    }, 250)
    const end = (): void => {
      clearInterval(watch)
      resolve()
    }
    for (const signal of ["SIGINT", "SIGTERM", "SIGHUP"] as const) process.once(signal, end)
  })
  const begun = Date.now()
  const say = (line: string): void => void process.stderr.write(`${line}\n`)
  try {
    const cluster = await Promise.race([startKafka({ ...options, log: say }), asked])
    // Asked to end while it was starting: what was started ends with us.
    if (cluster === undefined) return 0
    say(`Kafka ${cluster.version} is ready after ${((Date.now() - begun) / 1000).toFixed(1)} s. Ctrl-C ends it.`)
    say(`  logs: ${cluster.brokers.map((broker) => broker.logFile).join(" ")}`)
    for (const listener of cluster.listeners) {
      if (cluster.listeners.length > 1) process.stdout.write(`# ${listener}\n`)
      for (const [name, value] of Object.entries(clientEnvironment(cluster, { listener }))) {
        process.stdout.write(`export ${name}=${value}\n`)
      }
    }
    await asked
    await cluster.close()
    say("Kafka has ended and its data is gone.")
    return 0
  } catch (cause) {
    if (!(cause instanceof KafkaUnavailable || cause instanceof KafkaFailure)) throw cause
    say(cause.message)
    return 1
  }
}

process.exit(await main())
