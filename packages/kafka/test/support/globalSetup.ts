/**
 * One Kafka for a whole run of vitest, started when the first test asks for it. It lives in vitest's main process; the
 * workers that run the tests ask for it over a local connection. A run without such tests starts nothing.
 */
import * as http from "node:http"
import * as net from "node:net"
import type { TestProject } from "vitest/node"
import { type KafkaCluster, KafkaFailure, KafkaUnavailable, startKafka } from "../../../../scripts/kafka/index.ts"
import type { Answer } from "./SharedKafka.ts"

const reach = (address: string): Promise<void> =>
  new Promise((resolve, reject) => {
    const at = address.lastIndexOf(":")
    const socket = net.connect({ host: address.slice(0, at), port: Number(address.slice(at + 1)), timeout: 5_000 })
    const fail = (why: string): void => {
      socket.destroy()
      reject(new KafkaFailure(`KAFKA_BOOTSTRAP_SERVERS names ${address}, which cannot be reached: ${why}`))
    }
    socket.once("timeout", () => fail("no answer within 5 s"))
    socket.once("error", (error) => fail(error.message))
    socket.once("connect", () => {
      socket.destroy()
      resolve()
    })
  })

export default (project: TestProject) => {
  let own: Promise<KafkaCluster> | undefined
  const find = async (): Promise<Answer> => {
    try {
      const given = process.env["KAFKA_BOOTSTRAP_SERVERS"]
      if (given) {
        await Promise.any(given.split(",").map((address) => reach(address.trim()))).catch((cause: AggregateError) => {
          throw cause.errors[0]
        })
        return { _tag: "Available", kafka: { bootstrapServers: given, version: undefined } }
      }
      own = startKafka({ log: (line) => void process.stderr.write(`${line}\n`) })
      const { bootstrapServers, version } = await own
      return { _tag: "Available", kafka: { bootstrapServers, version } }
    } catch (cause) {
      return {
        _tag: cause instanceof KafkaUnavailable ? "Unavailable" : "Failed",
        reason: cause instanceof Error ? cause.message : String(cause)
      }
    }
  }
  let answer: Promise<Answer> | undefined
  const server = http.createServer((_, response) => {
    answer ??= find()
    answer.then((found) => response.end(JSON.stringify(found)))
  })
  return new Promise<() => Promise<void>>((resolve) => {
    server.listen(0, "127.0.0.1", () => {
      server.unref()
      project.provide("sharedKafka", (server.address() as net.AddressInfo).port)
      resolve(async () => {
        server.close()
        server.closeAllConnections()
        await (await own?.catch(() => undefined))?.close()
      })
    })
  })
}
