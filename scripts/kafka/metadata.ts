/**
 * Asking a broker what it knows.
 */
import { Kafka, logLevel } from "kafkajs"

/**
 * The node ids of the brokers that a broker takes for alive. None while it cannot be reached, does not serve requests
 * yet, or does not know who leads the cluster.
 */
export const aliveBrokers = async (address: string): Promise<ReadonlyArray<number>> => {
  const admin = new Kafka({
    brokers: [address],
    clientId: "harness",
    logLevel: logLevel.NOTHING,
    connectionTimeout: 1_000,
    requestTimeout: 1_000,
    retry: { retries: 0 }
  }).admin()
  try {
    await admin.connect()
    const { brokers, controller } = await admin.describeCluster()
    return controller === null ? [] : brokers.map((broker) => broker.nodeId)
  } catch {
    return []
  } finally {
    await admin.disconnect()
  }
}
