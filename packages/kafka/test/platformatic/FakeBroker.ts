/** A broker that answers as a test says, for what no real one does. */
import type { Writer } from "@platformatic/kafka"
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import * as Net from "node:net"

const library = await import("@platformatic/kafka")

export interface Request {
  readonly apiKey: number
  readonly apiVersion: number
  readonly correlationId: number
}

/** A whole answer as bytes; or none; or the end of the connection. */
export type Answer = Buffer | "silence" | "hang up"

export const apiKeys = {
  metadata: 3,
  findCoordinator: 10,
  saslHandshake: 17,
  apiVersions: 18,
  saslAuthenticate: 36,
  consumerGroupHeartbeat: 68
} as const

/** Their answers have the header of old. */
const plain: ReadonlySet<number> = new Set([apiKeys.apiVersions, apiKeys.saslHandshake])

/** With the length and the header that an answer has. */
export const framed = ({ apiKey, correlationId }: Pick<Request, "apiKey" | "correlationId">, body: Writer): Buffer => {
  const header = library.Writer.create().appendInt32(correlationId)
  if (!plain.has(apiKey)) header.appendTaggedFields()
  return header.appendFrom(body).prependLength().buffer
}

export const versions = (
  request: Request,
  ranges: ReadonlyArray<readonly [key: number, min: number, max: number]>,
  errorCode = 0
): Buffer =>
  framed(
    request,
    library.Writer.create()
      .appendInt16(errorCode)
      .appendArray([...ranges], (w, [key, min, max]) => w.appendInt16(key).appendInt16(min).appendInt16(max))
      .appendInt32(0)
      .appendTaggedFields()
  )

/** One that says of itself that it speaks everything. */
export const anyVersions = (request: Request): Buffer =>
  versions(request, Array.from({ length: 70 }, (_, key) => [key, 0, 99] as const))

/** Listens until the scope ends. Answers its address. It ends no connection by itself, as one that is frozen. */
export const start = (answer: (request: Request) => Answer): Effect.Effect<string, never, Scope.Scope> =>
  Effect.map(
    Effect.acquireRelease(
      Effect.async<readonly [Net.Server, Set<Net.Socket>]>((resume) => {
        const sockets = new Set<Net.Socket>()
        const server = Net.createServer({ allowHalfOpen: true }, (socket) => {
          sockets.add(socket)
          socket.on("error", () => undefined)
          let bytes = Buffer.alloc(0)
          socket.on("data", (chunk) => {
            bytes = Buffer.concat([bytes, chunk])
            while (bytes.length >= 4 && bytes.length >= 4 + bytes.readInt32BE(0)) {
              const request = {
                apiKey: bytes.readInt16BE(4),
                apiVersion: bytes.readInt16BE(6),
                correlationId: bytes.readInt32BE(8)
              }
              bytes = bytes.subarray(4 + bytes.readInt32BE(0))
              const found = answer(request)
              if (found === "hang up") socket.destroy()
              else if (found !== "silence") socket.write(found)
            }
          })
        })
        server.listen(0, "127.0.0.1", () => resume(Effect.succeed([server, sockets])))
      }),
      ([server, sockets]) =>
        Effect.sync(() => {
          for (const one of sockets) one.destroy()
          server.close()
        })
    ),
    ([server]) => `127.0.0.1:${(server.address() as Net.AddressInfo).port}`
  )

/** Metadata of a cluster that consists of the broker at this address alone, if any, and has these topics of one partition. */
export const cluster = (
  request: Request,
  { address, topics = [] }: { readonly address?: string; readonly topics?: ReadonlyArray<string> } = {}
): Buffer => {
  const [host = "", port] = address?.split(":") ?? []
  return framed(
    request,
    library.Writer.create()
      .appendInt32(0)
      .appendArray(
        address === undefined ? [] : [1],
        (w, nodeId) => w.appendInt32(nodeId).appendString(host).appendInt32(Number(port)).appendString(null)
      )
      .appendString("fake")
      .appendInt32(-1)
      .appendArray([...topics], (w, name) => {
        w.appendInt16(0).appendString(name).appendUUID("00000000-0000-0000-0000-000000000007").appendBoolean(false)
        w.appendArray([0], (w, partition) => {
          w.appendInt16(0).appendInt32(partition).appendInt32(1).appendInt32(0)
          for (let i = 0; i < 3; i++) w.appendArray([1], (w, broker) => w.appendInt32(broker), true, false)
        })
        w.appendInt32(0)
      })
      .appendTaggedFields()
  )
}

/** Whoever is asked about, this broker coordinates it. */
export const coordinator = (request: Request, address: string): Buffer => {
  const [host = "", port] = address.split(":")
  return framed(
    request,
    library.Writer.create()
      .appendInt32(0)
      .appendArray([""], (w, key) => {
        w.appendString(key).appendInt32(1).appendString(host).appendInt32(Number(port))
        w.appendInt16(0).appendString(null)
      })
      .appendTaggedFields()
  )
}
