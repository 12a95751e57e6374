/**
 * A member of a group: a kafkajs consumer that is kept for that alone. All its partitions are paused; it joins, sends
 * heartbeats and leaves. It asks its keeper before each join, which kafkajs does by its partition assigner.
 */
import * as Effect from "effect/Effect"
import type {
  Assigner,
  Cluster,
  Consumer,
  GroupDescription,
  GroupMember,
  GroupMemberAssignment,
  PartitionMetadata
} from "kafkajs"
import type { ConsumerSessionOptions } from "../../KafkaClient.ts"
import * as TopicPartition from "../../TopicPartition.ts"
import { balanced } from "../inmemory/Assignor.ts"
import type * as Connection from "./connection.ts"
import * as Assignor from "./consumerAssignor.ts"
import { within } from "./consumerCluster.ts"
import type * as Gate from "./consumerGate.ts"
import { meaning, protocolCode } from "./errors.ts"
import * as Internals from "./internals.ts"

/** kafkajs looks around so often while nothing is to be fetched: it bounds how long leaving takes. In milliseconds. */
const tick = 100

/** The longest time between two heartbeats, in milliseconds: by them a rebalance is learnt that others wait for. */
const heartbeatAtMost = 250

/** How often kafkajs asks anew, with growing pauses from 50 ms on, before it is sent back to its heartbeats. */
const quickAsks = 3

/** How long leaving may take, in milliseconds: saying so, and kafkajs's own end. */
const leaveTimeout = { said: 1000, ended: 500 }

/** A retriable error sends kafkajs back to its loop and its heartbeats. */
class Later extends Error {
  readonly retriable = true
}

/** kafkajs takes this for an answer of the coordinator, and tries to join again after a moment. */
class Wait extends Error {
  readonly retriable = true
  readonly type = "REBALANCE_IN_PROGRESS"
}

class Closing extends Error {
  readonly retriable = false
}

/** Kinds of requests. */
const findCoordinator = 10
const joinGroup = 11
const heartbeat = 12
const syncGroup = 14

const hasMemberId = (u: unknown): u is { readonly memberId: string } =>
  typeof u === "object" && u !== null && "memberId" in u && typeof u.memberId === "string"

const held = "records in hand are being settled"

/**
 * Who decides for a member, and hears what becomes of it. Nothing is heard any more once it was told to leave.
 */
export interface Keeper {
  /** Whether it may join. */
  readonly ask: (why: Gate.Why) => Gate.Verdict
  /** Whether the answer would be that it may. */
  readonly mayJoin: () => boolean
  readonly owned: () => Assignor.Owned
  /** `generation` is `undefined` where it was not heard. `millis`: how long ago the request was sent. */
  readonly joined: (
    memberId: string,
    generation: number | undefined,
    partitions: Gate.Partitions,
    millis: number
  ) => void
  readonly heartbeat: (generation: number, millis: number) => void
  /** The coordinator answered as to a member. */
  readonly heard: (millis: number) => void
  /** A rebalance goes on; said again and again. */
  readonly rebalancing: () => void
  /** It gave up. */
  readonly crashed: (error: unknown) => void
  /** Says that a member is gone. Takes as long as it likes. */
  readonly leave: (memberId: string) => Effect.Effect<void>
}

/**
 * A kafkajs consumer, from its start until it has left.
 */
export class Member implements Internals.Listener {
  private readonly consumer: Consumer
  private closing = false
  /** Whether it may have sent a request to join that was not answered yet. */
  joining = true
  private readonly keeper: Keeper
  private readonly connection: Connection.Connection
  private readonly topics: ReadonlyArray<string>
  private cluster!: Internals.OpenCluster
  private memberId: string | undefined = undefined
  /** Told when a request to join is answered, one way or the other. */
  private named: (() => void) | undefined = undefined
  private generation: number | undefined = undefined
  /** How often it was answered since it joined a generation whose assignment it has not heard yet. */
  private unsynced = 0
  /** When the last request was sent that the coordinator answered as to a member, in milliseconds since 1970. */
  private confirmedAt = 0
  /** A join goes on. With several brokers kafkajs may come upon new partitions several times, and join for each. */
  private underway = false
  private rebalancing = false
  private quick = 0
  /** Why nobody tells who the coordinator is, where asking again is of no use. */
  private refusal: Error | undefined = undefined

  constructor(
    connection: Connection.Connection,
    options: ConsumerSessionOptions,
    topics: ReadonlySet<string>,
    keeper: Keeper
  ) {
    this.keeper = keeper
    this.connection = connection
    this.topics = [...topics]
    this.consumer = connection.kafka.consumer({
      groupId: options.groupId,
      sessionTimeout: options.sessionTimeout,
      rebalanceTimeout: options.rebalanceTimeout,
      heartbeatInterval: Math.min(options.heartbeatInterval, heartbeatAtMost),
      maxWaitTimeInMs: tick,
      allowAutoTopicCreation: false,
      // new partitions are noticed elsewhere, and settled before
      metadataMaxAge: 2 ** 31 - 1,
      readUncommitted: options.isolationLevel === "read_uncommitted",
      partitionAssigners: [(config) => this.assigner(config.cluster)],
      retry: {
        initialRetryTime: 50,
        multiplier: 1.5,
        maxRetryTime: 250,
        retries: 1_000_000,
        restartOnFailure: () => Promise.resolve(false)
      }
    })
    this.listen()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what kafkajs says
  // -------------------------------------------------------------------------------------------------------------------

  private listen(): void {
    const { consumer, keeper } = this
    const { CRASH, GROUP_JOIN, HEARTBEAT, REBALANCING } = consumer.events
    const hear = <Event>(f: (event: Event) => void) => (event: Event): void => {
      if (!this.closing) f(event)
    }
    consumer.on(
      GROUP_JOIN,
      hear(({ payload: { memberAssignment, memberId } }) => {
        this.stirred()
        this.underway = false
        this.unsynced = 0
        const partitions = Object.entries(memberAssignment).flatMap(([topic, partitions]) =>
          partitions.map((partition) => TopicPartition.make(topic, partition))
        )
        keeper.joined(memberId, this.memberId === memberId ? this.generation : undefined, partitions, this.age)
      })
    )
    consumer.on(
      HEARTBEAT,
      hear(({ payload }) => {
        this.stirred()
        keeper.heartbeat(payload.groupGenerationId, this.age)
      })
    )
    consumer.on(
      REBALANCING,
      hear(() => {
        this.stirred()
        this.underway = false
        this.rebalancing = true
        keeper.rebalancing()
      })
    )
    consumer.on(CRASH, hear(({ payload }) => keeper.crashed(payload.error)))
  }

  /** Something happened, and nobody waits for the answer to a join. */
  private stirred(): void {
    this.joining = false
    this.rebalancing = false
  }

  private get age(): number {
    return Date.now() - this.confirmedAt
  }

  answered(apiKey: number, answer: unknown, sentAt: number): void {
    if (apiKey === heartbeat || apiKey === syncGroup) this.confirmedAt = sentAt
    if (apiKey === findCoordinator) this.refusal = undefined
    if (apiKey === joinGroup && hasMemberId(answer) && "generationId" in answer) {
      this.memberId = answer.memberId
      this.named?.()
      this.generation = Number(answer.generationId)
      this.unsynced = 1
    } else if (apiKey === heartbeat && this.unsynced > 0 && this.unsynced++ >= 2) {
      // it was not told its partitions, and goes on as a member of the new generation with those of the old one
      throw new Wait("the rebalance was not completed")
    }
  }

  failed(apiKey: number, error: unknown, sentAt: number): void {
    // a member is heard as well while its group rebalances
    if (apiKey === heartbeat && !this.closing && protocolCode(error)?.code === "REBALANCE_IN_PROGRESS") {
      this.keeper.heard(Date.now() - sentAt)
    }
    if (apiKey === findCoordinator && error instanceof Error && meaning(error)._tag === "Authorization") {
      this.refusal = error
    }
    // the coordinator gives a name before it lets a new member in
    if (apiKey === joinGroup && hasMemberId(error)) this.memberId = error.memberId
    else this.underway = false
    if (apiKey === joinGroup) this.named?.()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what kafkajs asks
  // -------------------------------------------------------------------------------------------------------------------

  private assigner(cluster: Cluster): Assigner {
    const { keeper } = this
    // kafkajs joins although one of its topics has no leader, and lets us hear the generation
    this.cluster = Internals.opened(cluster, this)
    outlast(cluster, () => this.refusal)
    return {
      name: Assignor.name,
      version: Assignor.version,
      protocol: ({ topics }) => {
        if (this.closing) throw new Closing("leaving")
        if (this.underway) throw new Later("it is joining already")
        if (this.quick > 0 && !this.rebalancing && !keeper.mayJoin()) {
          if (++this.quick <= quickAsks) throw new Wait(held)
          this.quick = 0
          throw new Later(held)
        }
        this.quick = 0
        const why = this.rebalancing ? "rebalancing" : "unexplained"
        this.rebalancing = false
        switch (keeper.ask(why)) {
          case "go":
            this.joining = true
            this.underway = true
            return { name: Assignor.name, metadata: Assignor.encodeMember(topics, keeper.owned()) }
          case "later":
            this.quick = 1
            throw new Wait(held)
          case "wait":
            throw new Wait(held)
        }
      },
      assign: ({ members }) =>
        this.deal(cluster, members).catch((error: unknown) => {
          this.underway = false
          throw error
        })
    }
  }

  /** As the leader of the group: who gets what. */
  private async deal(
    cluster: Cluster,
    members: ReadonlyArray<GroupMember>
  ): Promise<Array<GroupMemberAssignment>> {
    const decoded = members.map((member) => Assignor.decodeMember(member.memberId, member.memberMetadata))
    const topics = new Set(decoded.flatMap((member) => [...member.topics]))
    const counts = new Map<string, number>()
    for (const topic of topics) {
      const known = cluster.findTopicPartitionMetadata(topic)
      const metadata = known.length > 0 ? known : await partitionsOf(cluster, topic)
      counts.set(topic, metadata.length)
    }
    return Array.from(balanced(decoded, (topic) => counts.get(topic) ?? 0), ([memberId, held]) => ({
      memberId,
      memberAssignment: Assignor.encodeAssignment(held)
    }))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what we say
  // -------------------------------------------------------------------------------------------------------------------

  /** Joins; ends when it has joined for the first time, or given up. */
  async start(): Promise<void> {
    await this.consumer.connect()
    await this.consumer.subscribe({ topics: [...this.topics] })
    const running = this.consumer.run({
      autoCommit: false,
      eachBatchAutoResolve: false,
      eachBatch: () => Promise.resolve()
    })
    // in time for the first fetch, and for good: what is paused stays so
    this.consumer.pause(this.topics.map((topic) => ({ topic })))
    await running
  }

  /** Whether it knows of fewer partitions than there are. */
  hasFewer(topics: ReadonlySet<string>, count: (topic: string) => number): boolean {
    return [...topics].some((topic) => count(topic) > this.cluster.findTopicPartitionMetadata(topic).length)
  }

  /** Makes it look at the metadata; it rejoins by itself where it finds new partitions. */
  learnPartitions(): Promise<void> {
    return this.cluster.refreshMetadata()
  }

  /** What the coordinator knows of a member. */
  async whereabouts(memberId: string): Promise<"gone" | "stable" | "rebalancing"> {
    const found: GroupDescription | undefined = await this.consumer.describeGroup()
    if (found?.members.some((member) => member.memberId === memberId) !== true) return "gone"
    return found.state === "Stable" ? "stable" : "rebalancing"
  }

  /** Who it is, or is about to be: once the coordinator has given it a name, the group waits for it. */
  private get name(): Effect.Effect<string | undefined> {
    return Effect.async((resume) => {
      const tell = (): void => resume(Effect.succeed(this.memberId))
      if (this.memberId !== undefined || !this.underway) tell()
      else this.named = tell
    })
  }

  /** Leaves the group, wherever kafkajs is with it, bounded in time. */
  get leave(): Effect.Effect<void> {
    return Effect.suspend(() => {
      this.closing = true
      const said = Effect.flatMap(
        this.name,
        (memberId) => memberId === undefined ? Effect.void : this.keeper.leave(memberId)
      )
      return Effect.zipRight(
        Effect.timeoutOption(Effect.interruptible(said), leaveTimeout.said),
        Effect.zipRight(
          Effect.sync(this.connection.kill),
          within(leaveTimeout.ended, () => this.consumer.disconnect())
        )
      )
    })
  }
}

/**
 * What an outage makes kafkajs give up on: it forgets its last broker, and takes it for final that no broker could tell
 * who the coordinator is.
 */
const outlast = (cluster: Cluster, refusal: () => Error | undefined): void => {
  // a broker that was not forgotten is connected to anew, and replaced by the next metadata if it moved
  cluster.removeBroker = () => {}
  const find = cluster.findGroupCoordinator.bind(cluster)
  cluster.findGroupCoordinator = (group) =>
    find(group).catch((error: unknown) => {
      // kafkajs keeps to itself that we may not know
      const refused = refusal()
      if (refused !== undefined) throw refused
      throw error instanceof Error && error.name === "KafkaJSGroupCoordinatorNotFound"
        ? Object.assign(error, { retriable: true })
        : error
    })
}

/** The partitions of a topic that only other members subscribe to. */
const partitionsOf = async (cluster: Cluster, topic: string): Promise<ReadonlyArray<PartitionMetadata>> => {
  const [nodeId] = cluster.getNodeIds()
  const broker = await cluster.findBroker({ nodeId: String(nodeId) })
  const { topicMetadata } = await broker.metadata([topic])
  return topicMetadata.find((found) => found.topic === topic)?.partitionMetadata ?? []
}
