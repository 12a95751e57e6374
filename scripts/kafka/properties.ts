/** The settings of a broker, chosen for a quick start and for tests. */
export interface NodePorts {
  readonly nodeId: number
  readonly host: string
  readonly client: number
  readonly controller: number
}

export const serverProperties = (options: {
  readonly node: NodePorts
  readonly nodes: ReadonlyArray<NodePorts>
  readonly directory: string
  readonly partitions: number
  readonly extra: Readonly<Record<string, string>> | undefined
}): string => {
  const { node, nodes } = options
  const replicas = String(Math.min(nodes.length, 3))
  const inSync = nodes.length >= 3 ? "2" : "1"
  const settings: Record<string, string> = {
    "process.roles": "broker,controller",
    "node.id": String(node.nodeId),
    "controller.quorum.voters": nodes.map((_) => `${_.nodeId}@${_.host}:${_.controller}`).join(","),
    "controller.listener.names": "CONTROLLER",
    listeners: `PLAINTEXT://${node.host}:${node.client},CONTROLLER://${node.host}:${node.controller}`,
    "advertised.listeners": `PLAINTEXT://${node.host}:${node.client}`,
    "listener.security.protocol.map": "CONTROLLER:PLAINTEXT,PLAINTEXT:PLAINTEXT",
    "inter.broker.listener.name": "PLAINTEXT",
    "log.dirs": `${options.directory}/data`,
    "num.partitions": String(options.partitions),
    "auto.create.topics.enable": "false",
    "default.replication.factor": replicas,
    "min.insync.replicas": inSync,
    // Groups and transactions: few partitions, so that the first member and the first transaction do not wait long.
    "group.initial.rebalance.delay.ms": "0",
    "group.min.session.timeout.ms": "1000",
    "offsets.topic.num.partitions": "5",
    "offsets.topic.replication.factor": replicas,
    "transaction.state.log.num.partitions": "5",
    "transaction.state.log.replication.factor": replicas,
    "transaction.state.log.min.isr": inSync,
    ...options.extra
  }
  return Object.entries(settings).map(([key, value]) => `${key}=${value}\n`).join("")
}
