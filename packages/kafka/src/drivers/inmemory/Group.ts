/**
 * One group as its coordinator keeps it: the classic protocol's state machine, and the committed offsets.
 * Requests come in as calls, answers go out through callbacks, time comes from `Timers`.
 */
import * as Either from "effect/Either"
import type { OffsetAndMetadata } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import * as SessionTimeout from "../sessionTimeout.ts"
import { done, ok, refuse, type Reply } from "./Protocol.ts"
import type { Timers } from "./Timers.ts"

export type State = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable"

export type Partitions = ReadonlyArray<TopicPartition>

/** What a member tells the leader. */
export interface Metadata {
  readonly topics: ReadonlySet<string>
  readonly owned: Partitions
  readonly generation: number
}

export interface JoinRequest {
  /** Empty for a member that has none yet. */
  readonly memberId: string
  readonly instanceId: string | undefined
  readonly clientId: string
  readonly sessionTimeout: number
  readonly rebalanceTimeout: number
  /** The assignor's name. */
  readonly protocol: string
  readonly metadata: Metadata
}

export interface JoinReply {
  readonly memberId: string
  readonly generation: number
  readonly leader: string
  /** Everybody, for the leader; nobody for others. */
  readonly members: ReadonlyArray<{ readonly memberId: string; readonly metadata: Metadata }>
}

/** Who a request says it is from. A generation of -1: somebody who is no member. */
export interface Identity {
  readonly memberId: string
  readonly generation: number
  readonly instanceId?: string | undefined
}

export const nobody: Identity = { memberId: "", generation: -1 }

export interface MemberDescription {
  readonly memberId: string
  readonly clientId: string
  readonly instanceId: string | undefined
  readonly assignment: Partitions
}

export interface CommittedOffset extends OffsetAndMetadata {
  readonly committedAt: number
}

export interface GroupSettings {
  readonly initialRebalanceDelay: number
  readonly minSessionTimeout: number
  readonly maxSessionTimeout: number
}

interface Member {
  readonly memberId: string
  request: JoinRequest
  assignment: Partitions
  /** Waits for the next generation. */
  join: ((reply: Reply<JoinReply>) => void) | undefined
  /** Waits for the leader's assignment. */
  sync: ((reply: Reply<Partitions>) => void) | undefined
  /** Whether it has asked for its assignment in this generation. */
  synced: boolean
}

/** What survives its coordinator: the last generation whose assignment was known. */
interface Persisted {
  readonly generation: number
  readonly protocol: string | undefined
  readonly leader: string | undefined
  readonly members: ReadonlyArray<Member>
}

const sameTopics = (a: Metadata, b: Metadata): boolean =>
  a.topics.size === b.topics.size && [...a.topics].every((topic) => b.topics.has(topic))

const sameMetadata = (a: Metadata, b: Metadata): boolean => {
  const owned = new Set(b.owned.map(key))
  return sameTopics(a, b) && a.owned.length === owned.size && a.owned.every((tp) => owned.has(key(tp)))
}

export class Group {
  readonly groupId: string
  private readonly timers: Timers
  private readonly newMemberId: (clientId: string) => string
  private readonly settings: GroupSettings

  private current: State = "Empty"
  private generationId = 0
  private protocol: string | undefined
  private leader: string | undefined
  private readonly members = new Map<string, Member>()
  /** Member ids by instance id. */
  private readonly instances = new Map<string, string>()
  /** Ids given out whose owners have not joined yet. */
  private readonly reserved = new Set<string>()
  /** How much longer an empty group may wait for more members; `undefined` when it does not. */
  private initialDelay: number | undefined
  private hadMembers = false
  /** Whether somebody new came since it began to wait. */
  private newcomers = false
  private persisted: Persisted = { generation: 0, protocol: undefined, leader: undefined, members: [] }

  readonly offsets = new Map<Key, CommittedOffset>()
  /** Offsets of transactions that have not ended, by producer id. */
  private readonly pending = new Map<number, Map<Key, OffsetAndMetadata>>()
  private emptySince: number

  constructor(
    groupId: string,
    timers: Timers,
    newMemberId: (clientId: string) => string,
    settings: GroupSettings
  ) {
    this.groupId = groupId
    this.timers = timers
    this.newMemberId = newMemberId
    this.settings = settings
    this.emptySince = timers.now()
  }

  get state(): State {
    return this.current
  }

  get generation(): number {
    return this.generationId
  }

  /** `"consumer"` once it has had a member; `""` for one that only has offsets. */
  get protocolType(): string {
    return this.hadMembers ? "consumer" : ""
  }

  /** Its members. What they are assigned is known while the group is stable. */
  describe(): ReadonlyArray<MemberDescription> {
    return [...this.members.values()].map(({ assignment, memberId, request }) => ({
      memberId,
      clientId: request.clientId,
      instanceId: request.instanceId,
      assignment: this.current === "Stable" ? assignment : []
    }))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // joining
  // -------------------------------------------------------------------------------------------------------------------

  /** The first half of joining: an id to join with, so that a lost answer leaves no unknown member behind. */
  reserve(clientId: string): string {
    const memberId = this.newMemberId(clientId)
    this.reserved.add(memberId)
    return memberId
  }

  join(request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    const { instanceId, memberId, protocol, sessionTimeout } = request
    const { maxSessionTimeout, minSessionTimeout } = this.settings
    if (sessionTimeout < minSessionTimeout || sessionTimeout > maxSessionTimeout) {
      const reason = SessionTimeout.refusal(sessionTimeout, { shortest: minSessionTimeout, longest: maxSessionTimeout })
      return reply(refuse("INVALID_SESSION_TIMEOUT", this.groupId, reason))
    }
    if (this.protocol !== undefined && protocol !== this.protocol) {
      const reason = `group "${this.groupId}" uses ${this.protocol}, and this member only ${protocol}`
      return reply(refuse("INCONSISTENT_GROUP_PROTOCOL", this.groupId, reason))
    }
    const holder = instanceId === undefined ? undefined : this.instances.get(instanceId)
    if (memberId === "") {
      return holder === undefined
        ? this.add(this.newMemberId(request.clientId), request, reply)
        : this.replace(this.members.get(holder)!, request, reply)
    }
    if (holder !== undefined && holder !== memberId) return reply(refuse("FENCED_INSTANCE_ID", this.groupId))
    const member = this.members.get(memberId)
    if (member === undefined) {
      return this.reserved.delete(memberId)
        ? this.add(memberId, request, reply)
        : reply(refuse("UNKNOWN_MEMBER_ID", this.groupId))
    }
    // it did not get the answer to its last request, or has nothing new to say; but a leader may know of new partitions
    const settled = this.current === "CompletingRebalance" ||
      (this.current === "Stable" && this.leader !== memberId)
    if (settled && sameMetadata(member.request.metadata, request.metadata)) {
      this.keepAlive(member)
      return reply(ok(this.joinReply(member)))
    }
    member.request = request
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  private add(memberId: string, request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    const member: Member = { memberId, request, assignment: [], join: undefined, sync: undefined, synced: false }
    this.members.set(memberId, member)
    if (request.instanceId !== undefined) this.instances.set(request.instanceId, memberId)
    this.protocol ??= request.protocol
    this.newcomers = true
    this.hadMembers = true
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  /** Somebody comes with an instance id that is in use: a restarted process, who gets the place of the one before. */
  private replace(old: Member, request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    const memberId = this.newMemberId(request.clientId)
    old.join?.(refuse("FENCED_INSTANCE_ID", this.groupId))
    old.sync?.(refuse("FENCED_INSTANCE_ID", this.groupId))
    this.timers.clear(this.sessionKey(old.memberId))
    const member: Member = { ...old, memberId, request, join: undefined, sync: undefined }
    // in the same place of the order
    const all = [...this.members.values()].map((other) => other === old ? member : other)
    this.members.clear()
    for (const other of all) this.members.set(other.memberId, other)
    if (request.instanceId !== undefined) this.instances.set(request.instanceId, memberId)
    if (this.leader === old.memberId) this.leader = memberId
    if (this.current === "Stable" && sameTopics(old.request.metadata, request.metadata)) {
      // nobody has to move: it gets back what it had, and if it leads, has nothing to distribute
      this.keepAlive(member)
      this.persist()
      return reply(ok({ ...this.joinReply(member), members: [] }))
    }
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  private awaitJoin(member: Member, reply: (reply: Reply<JoinReply>) => void): void {
    // an earlier request of the same member has lost its sender
    member.join?.(refuse("REBALANCE_IN_PROGRESS", this.groupId))
    member.join = reply
    this.timers.clear(this.sessionKey(member.memberId))
  }

  private joinReply({ memberId }: Member): JoinReply {
    return {
      memberId,
      generation: this.generationId,
      leader: this.leader ?? "",
      members: this.leader === memberId
        ? [...this.members.values()].map(({ memberId, request }) => ({ memberId, metadata: request.metadata }))
        : []
    }
  }

  // -------------------------------------------------------------------------------------------------------------------
  // rebalancing
  // -------------------------------------------------------------------------------------------------------------------

  /** Everybody has to join again. */
  private rebalance(): void {
    const before = this.current
    this.current = "PreparingRebalance"
    if (before === "CompletingRebalance") {
      for (const member of this.members.values()) this.answerSync(member, refuse("REBALANCE_IN_PROGRESS", this.groupId))
    }
    if (before !== "PreparingRebalance") {
      this.timers.clear(this.syncKey)
      if (before === "Empty" && this.settings.initialRebalanceDelay > 0) {
        this.waitForMore(this.longestRebalanceTimeout())
      } else this.setRebalanceTimer()
    }
    this.completeIfAllJoined()
  }

  /** Members of a new group tend to come together: as long as there are new ones, it waits for more. */
  private waitForMore(longest: number): void {
    const delay = Math.min(this.settings.initialRebalanceDelay, longest)
    this.initialDelay = longest - delay
    this.newcomers = false
    this.timers.set(this.rebalanceKey, this.timers.now() + delay, () => {
      const left = this.initialDelay ?? 0
      if (this.newcomers && left > 0) return this.waitForMore(left)
      this.initialDelay = undefined
      this.setRebalanceTimer()
      this.completeIfAllJoined()
    })
  }

  /** As a change of the group's topics does. Whether there was a generation to end. */
  forceRebalance(): boolean {
    if (this.current !== "Stable" && this.current !== "CompletingRebalance") return false
    this.rebalance()
    return true
  }

  private longestRebalanceTimeout(): number {
    let timeout = 0
    for (const { request } of this.members.values()) timeout = Math.max(timeout, request.rebalanceTimeout)
    return timeout
  }

  private setRebalanceTimer(): void {
    const deadline = this.timers.now() + this.longestRebalanceTimeout()
    this.timers.set(this.rebalanceKey, deadline, () => this.complete())
  }

  private completeIfAllJoined(): void {
    if (this.initialDelay !== undefined) return
    for (const member of this.members.values()) if (member.join === undefined) return
    this.complete()
  }

  private complete(): void {
    this.timers.clear(this.rebalanceKey)
    // whoever did not come in time is out; but an instance keeps its place for as long as its session lasts
    for (const member of [...this.members.values()]) {
      if (member.join === undefined && member.request.instanceId === undefined) this.forget(member)
    }
    if (this.members.size === 0) return this.becomeEmpty()
    const joined = [...this.members.values()].filter((member) => member.join !== undefined)
    if (joined.length === 0) return this.setRebalanceTimer()
    if (!joined.some((member) => member.memberId === this.leader)) this.leader = joined[0]!.memberId
    this.generationId++
    this.current = "CompletingRebalance"
    for (const member of this.members.values()) member.synced = member.join === undefined
    this.timers.set(this.syncKey, this.timers.now() + this.longestRebalanceTimeout(), () => this.expireSync())
    const answers = joined.map((member) => {
      const answer = member.join!
      member.join = undefined
      this.keepAlive(member)
      return { answer, reply: this.joinReply(member) }
    })
    for (const { answer, reply } of answers) answer(ok(reply))
  }

  /** Whoever has joined and then not asked for its assignment is out. */
  private expireSync(): void {
    const late = [...this.members.values()].filter((member) => !member.synced)
    if (late.length === 0) return
    for (const member of late) this.forget(member)
    if (this.members.size === 0) this.becomeEmpty()
    else this.rebalance()
  }

  private becomeEmpty(): void {
    this.generationId++
    this.current = "Empty"
    this.leader = undefined
    this.protocol = undefined
    this.initialDelay = undefined
    this.emptySince = this.timers.now()
    this.timers.clear(this.rebalanceKey)
    this.timers.clear(this.syncKey)
    this.persist()
  }

  sync(from: Identity, assignment: ReadonlyMap<string, Partitions>, reply: (reply: Reply<Partitions>) => void): void {
    const valid = this.validate(from)
    if (Either.isLeft(valid)) return reply(Either.left(valid.left))
    const member = valid.right
    switch (this.current) {
      case "Empty":
      case "PreparingRebalance":
        return reply(refuse("REBALANCE_IN_PROGRESS", this.groupId))
      case "Stable":
        member.synced = true
        this.keepAlive(member)
        return reply(ok(member.assignment))
      case "CompletingRebalance": {
        member.sync?.(refuse("REBALANCE_IN_PROGRESS", this.groupId))
        member.sync = reply
        member.synced = true
        this.timers.clear(this.sessionKey(member.memberId))
        if (this.leader !== member.memberId) return
        for (const other of this.members.values()) other.assignment = assignment.get(other.memberId) ?? []
        this.current = "Stable"
        this.persist()
        for (const other of [...this.members.values()]) this.answerSync(other, ok(other.assignment))
      }
    }
  }

  private answerSync(member: Member, reply: Reply<Partitions>): void {
    const answer = member.sync
    if (answer === undefined) return
    member.sync = undefined
    this.keepAlive(member)
    answer(reply)
  }

  // -------------------------------------------------------------------------------------------------------------------
  // staying and leaving
  // -------------------------------------------------------------------------------------------------------------------

  heartbeat(from: Identity): Reply<void> {
    return Either.flatMap(this.validate(from), (member) => {
      this.keepAlive(member)
      return this.current === "PreparingRebalance" ? refuse("REBALANCE_IN_PROGRESS", this.groupId) : done
    })
  }

  leave(memberId: string): Reply<void> {
    const wasReserved = this.reserved.delete(memberId)
    return this.remove(memberId) || wasReserved ? done : refuse("UNKNOWN_MEMBER_ID", this.groupId)
  }

  /** By its own wish, or because its session is over. */
  remove(memberId: string): boolean {
    const member = this.members.get(memberId)
    if (member === undefined) return false
    this.forget(member)
    if (this.members.size === 0) this.becomeEmpty()
    else this.rebalance()
    return true
  }

  private forget(member: Member): void {
    const { instanceId } = member.request
    this.members.delete(member.memberId)
    this.timers.clear(this.sessionKey(member.memberId))
    if (instanceId !== undefined) this.instances.delete(instanceId)
    if (this.leader === member.memberId) this.leader = undefined
    member.join?.(refuse("UNKNOWN_MEMBER_ID", this.groupId))
    member.sync?.(refuse("UNKNOWN_MEMBER_ID", this.groupId))
  }

  /** A member that waits for an answer can't send heartbeats, and needs none. */
  private keepAlive(member: Member): void {
    if (member.join !== undefined || member.sync !== undefined) return
    const deadline = this.timers.now() + member.request.sessionTimeout
    this.timers.set(this.sessionKey(member.memberId), deadline, () => this.remove(member.memberId))
  }

  /** The sender, if it is who it says, in the generation it says. */
  private validate({ generation, instanceId, memberId }: Identity): Reply<Member> {
    const holder = instanceId === undefined ? memberId : this.instances.get(instanceId)
    if (holder !== undefined && holder !== memberId) return refuse("FENCED_INSTANCE_ID", this.groupId)
    const member = this.members.get(memberId)
    if (holder === undefined || member === undefined) return refuse("UNKNOWN_MEMBER_ID", this.groupId)
    return generation === this.generationId ? ok(member) : refuse("ILLEGAL_GENERATION", this.groupId)
  }

  private persist(): void {
    this.persisted = {
      generation: this.generationId,
      protocol: this.protocol,
      leader: this.leader,
      members: [...this.members.values()].map((member) => ({ ...member, join: undefined, sync: undefined }))
    }
  }

  /** Another broker takes over and reads what was kept. Whoever waited for an answer has lost its connection. */
  failOver(): void {
    this.timers.clear(this.rebalanceKey)
    this.timers.clear(this.syncKey)
    for (const { memberId } of this.members.values()) this.timers.clear(this.sessionKey(memberId))
    this.members.clear()
    this.instances.clear()
    this.reserved.clear()
    this.initialDelay = undefined
    const { generation, leader, members, protocol } = this.persisted
    this.generationId = generation
    this.protocol = protocol
    this.leader = leader
    this.current = members.length === 0 ? "Empty" : "Stable"
    for (const persisted of members) {
      const member = { ...persisted }
      this.members.set(member.memberId, member)
      if (member.request.instanceId !== undefined) this.instances.set(member.request.instanceId, member.memberId)
      this.keepAlive(member)
    }
  }

  private sessionKey(memberId: string): string {
    return `session/${this.groupId}/${memberId}`
  }

  private get rebalanceKey(): string {
    return `rebalance/${this.groupId}`
  }

  private get syncKey(): string {
    return `sync/${this.groupId}`
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets
  // -------------------------------------------------------------------------------------------------------------------

  /** Whether whom a request says it is from may commit. */
  mayCommit(from: Identity, transactional: boolean): Reply<void> {
    if (from.generation < 0 && this.current === "Empty") return done
    if (from.generation < 0 && from.memberId === "" && from.instanceId === undefined) {
      return transactional
        ? done
        : refuse("UNKNOWN_MEMBER_ID", this.groupId, "the group has members, and only they may commit")
    }
    return Either.flatMap(this.validate(from), (member) => {
      if (transactional) return done
      if (this.current === "CompletingRebalance") return refuse("REBALANCE_IN_PROGRESS", this.groupId)
      this.keepAlive(member)
      return done
    })
  }

  commit(from: Identity, offsets: ReadonlyArray<OffsetAndMetadata>): Reply<void> {
    return Either.map(this.mayCommit(from, false), () => this.store(offsets))
  }

  private store(offsets: Iterable<OffsetAndMetadata>): void {
    const committedAt = this.timers.now()
    for (const { metadata, offset, partition, topic } of offsets) {
      this.offsets.set(key({ topic, partition }), { topic, partition, offset, metadata, committedAt })
    }
  }

  /** For when the producer's transaction is committed. */
  storePending(producerId: number, offsets: ReadonlyArray<OffsetAndMetadata>): void {
    const pending = this.pending.get(producerId) ?? new Map<Key, OffsetAndMetadata>()
    this.pending.set(producerId, pending)
    for (const offset of offsets) pending.set(key(offset), offset)
  }

  endPending(producerId: number, committed: boolean): void {
    const pending = this.pending.get(producerId)
    this.pending.delete(producerId)
    if (committed && pending !== undefined) this.store(pending.values())
  }

  /** Whether a transaction may still change what is committed. */
  isPending(tp: TopicPartition): boolean {
    for (const offsets of this.pending.values()) if (offsets.has(key(tp))) return true
    return false
  }

  /** Forgets offsets committed before a time, if nobody was a member since. */
  expireOffsets(before: number): void {
    if (this.current !== "Empty" || this.emptySince > before) return
    for (const [k, { committedAt }] of this.offsets) if (committedAt <= before) this.offsets.delete(k)
  }

  forgetTopic(topic: string): void {
    for (const [k, offset] of this.offsets) if (offset.topic === topic) this.offsets.delete(k)
  }
}
