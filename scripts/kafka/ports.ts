import * as net from "node:net"

const isFree = (port: number, host: string): Promise<boolean> =>
  new Promise((resolve) => {
    const server = net.createServer()
    server.once("error", () => resolve(false))
    server.listen({ port, host, exclusive: true }, () => server.close(() => resolve(true)))
  })

/**
 * Ports that nobody listens on. They lie below the range from which systems choose the ports of outgoing connections,
 * so that a broker that is down for a while finds its port free when it comes back.
 */
export const freePorts = async (
  count: number,
  options: { readonly host: string; readonly preferred?: number | undefined }
): Promise<ReadonlyArray<number>> => {
  const found = new Set<number>()
  if (options.preferred !== undefined && (await isFree(options.preferred, options.host))) found.add(options.preferred)
  for (let attempt = 0; found.size < count && attempt < 1_000; attempt++) {
    const port = 15_000 + Math.floor(Math.random() * 17_000)
    if (!found.has(port) && (await isFree(port, options.host))) found.add(port)
  }
  if (found.size < count) throw new Error(`No ${count} free ports on ${options.host}`)
  return [...found]
}
