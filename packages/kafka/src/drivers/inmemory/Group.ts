/**
 * One group as its coordinator keeps it: the classic protocol's state machine, and the committed offsets.
 * Requests come in as calls, answers go out through callbacks, time comes from `Timers`.
 */
import type { OffsetAndMetadata } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import { done, ok, refuse, type Reply } from "./Protocol.ts"
import type { Timers } from "./Timers.ts"

export type State = "Empty" | "PreparingRebalance" | "CompletingRebalance" | "Stable"

/** What a member tells the leader. */
export interface Metadata {
  readonly topics: ReadonlySet<string>
  readonly owned: ReadonlyArray<TopicPartition>
  readonly generation: number
}

export interface JoinRequest {
  /** Empty for a member without an id. */
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

export type Partitions = ReadonlyArray<TopicPartition>

/** Who a request says it is from. */
export interface Identity {
  readonly memberId: string
  readonly generation: number
  readonly instanceId?: string | undefined
}

export interface CommittedOffset extends OffsetAndMetadata {
  readonly committedAt: number
}

interface Member {
  readonly memberId: string
  readonly instanceId: string | undefined
  readonly clientId: string
  request: JoinRequest
  assignment: Partitions
  join: ((reply: Reply<JoinReply>) => void) | undefined
  sync: ((reply: Reply<Partitions>) => void) | undefined
  /** Whether it has asked for its assignment in this generation. */
  synced: boolean
}

const sameSet = (a: ReadonlySet<string>, b: ReadonlySet<string>): boolean =>
  a.size === b.size && [...a].every((x) => b.has(x))

const sameMetadata = (a: Metadata, b: Metadata): boolean =>
  sameSet(a.topics, b.topics) && sameSet(new Set(a.owned.map(key)), new Set(b.owned.map(key)))

export class Group {
  readonly groupId: string
  private readonly timers: Timers
  private readonly newMemberId: (clientId: string) => string
  private readonly initialRebalanceDelay: number

  private current: State = "Empty"
  private generationId = 0
  private protocol: string | undefined
  private leader: string | undefined
  private readonly members = new Map<string, Member>()
  private readonly instances = new Map<string, string>()
  /** Ids given out whose owners have not joined yet. */
  private readonly reserved = new Set<string>()
  private initialDelayUntil: number | undefined

  readonly offsets = new Map<Key, CommittedOffset>()
  /** Offsets of transactions that have not ended, by producer id. */
  readonly pending = new Map<number, Map<Key, CommittedOffset>>()
  emptySince: number

  constructor(
    groupId: string,
    timers: Timers,
    newMemberId: (clientId: string) => string,
    initialRebalanceDelay: number
  ) {
    this.groupId = groupId
    this.timers = timers
    this.newMemberId = newMemberId
    this.initialRebalanceDelay = initialRebalanceDelay
    this.emptySince = timers.now()
  }

  get state(): State {
    return this.current
  }
  get generation(): number {
    return this.generationId
  }
  get leaderId(): string | undefined {
    return this.leader
  }
  describe(): ReadonlyArray<
    { memberId: string; clientId: string; instanceId: string | undefined; assignment: Partitions }
  > {
    return [...this.members.values()].map(({ assignment, clientId, instanceId, memberId }) => ({
      memberId,
      clientId,
      instanceId,
      assignment
    }))
  }

  // -------------------------------------------------------------------------------------------------------------------
  // membership
  // -------------------------------------------------------------------------------------------------------------------

  /** The first half of joining: an id to join with, so that a lost answer leaves no unknown member behind. */
  reserve(clientId: string): string {
    const memberId = this.newMemberId(clientId)
    this.reserved.add(memberId)
    return memberId
  }

  join(request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    if (this.members.size > 0 && this.protocol !== undefined && request.protocol !== this.protocol) {
      return reply(
        refuse(
          "INCONSISTENT_GROUP_PROTOCOL",
          this.groupId,
          `the group uses ${this.protocol}, this member only ${request.protocol}`
        )
      )
    }
    const { instanceId } = request
    const holder = instanceId === undefined ? undefined : this.instances.get(instanceId)
    if (request.memberId === "") {
      if (holder !== undefined) return this.replaceStatic(this.members.get(holder)!, request, reply)
      return this.add(this.newMemberId(request.clientId), request, reply)
    }
    if (instanceId !== undefined && holder !== undefined && holder !== request.memberId) {
      return reply(refuse("FENCED_INSTANCE_ID", this.groupId))
    }
    const member = this.members.get(request.memberId)
    if (member === undefined) {
      if (this.reserved.delete(request.memberId)) return this.add(request.memberId, request, reply)
      return reply(refuse("UNKNOWN_MEMBER_ID", this.groupId))
    }
    const unchanged = sameMetadata(member.request.metadata, request.metadata)
    if (this.current === "CompletingRebalance" && unchanged) {
      // it did not get the answer to its last request
      member.request = request
      return reply(ok(this.joinReply(member)))
    }
    if (this.current === "Stable" && unchanged && this.leader !== member.memberId) {
      member.request = request
      return reply(ok(this.joinReply(member)))
    }
    member.request = request
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  private add(memberId: string, request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    const member: Member = {
      memberId,
      instanceId: request.instanceId,
      clientId: request.clientId,
      request,
      assignment: [],
      join: undefined,
      sync: undefined,
      synced: false
    }
    this.members.set(memberId, member)
    if (request.instanceId !== undefined) this.instances.set(request.instanceId, memberId)
    this.protocol ??= request.protocol
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  /** A member with an instance id has come back under a new member id. */
  private replaceStatic(old: Member, request: JoinRequest, reply: (reply: Reply<JoinReply>) => void): void {
    const memberId = this.newMemberId(request.clientId)
    const sameTopics = sameSet(old.request.metadata.topics, request.metadata.topics)
    old.join?.(refuse("FENCED_INSTANCE_ID", this.groupId))
    old.sync?.(refuse("FENCED_INSTANCE_ID", this.groupId))
    this.timers.clear(this.sessionKey(old.memberId))
    const member: Member = { ...old, memberId, clientId: request.clientId, request, join: undefined, sync: undefined }
    // it keeps its place in the order of members
    const entries = [...this.members].map(([id, other]) =>
      id === old.memberId ? [memberId, member] as const : [id, other] as const
    )
    this.members.clear()
    for (const [id, other] of entries) this.members.set(id, other)
    this.instances.set(request.instanceId!, memberId)
    if (this.leader === old.memberId) this.leader = memberId
    if (this.current === "Stable" && sameTopics) {
      // nobody needs to move: it gets back what it had
      this.keepAlive(member)
      return reply(ok({ ...this.joinReply(member), members: [] }))
    }
    this.awaitJoin(member, reply)
    this.rebalance()
  }

  private awaitJoin(member: Member, reply: (reply: Reply<JoinReply>) => void): void {
    // a newer request of the same member replaces the older one
    member.join?.(refuse("REBALANCE_IN_PROGRESS", this.groupId))
    member.join = reply
    this.timers.clear(this.sessionKey(member.memberId))
  }

  /** Everybody has to join again. */
  private rebalance(): void {
    if (this.current === "Empty" && this.initialRebalanceDelay > 0) {
      this.initialDelayUntil = this.timers.now() + this.initialRebalanceDelay
    }
    if (this.current !== "PreparingRebalance") {
      if (this.current === "CompletingRebalance") {
        for (const member of this.members.values()) {
          this.answerSync(member, refuse("REBALANCE_IN_PROGRESS", this.groupId))
        }
        this.timers.clear(this.syncKey)
      }
      this.current = "PreparingRebalance"
      if (this.initialDelayUntil === undefined) this.setRebalanceTimer()
      else {
        this.timers.set(this.rebalanceKey, this.initialDelayUntil, () => {
          this.initialDelayUntil = undefined
          this.setRebalanceTimer()
          this.completeJoinIfAll()
        })
      }
    }
    this.completeJoinIfAll()
  }

  /** As an operator's tool or a changed topic would: whoever is stable has to join again. */
  forceRebalance(): boolean {
    if (this.current !== "Stable" && this.current !== "CompletingRebalance") return false
    this.rebalance()
    return true
  }

  private setRebalanceTimer(): void {
    let timeout = 0
    for (const { request } of this.members.values()) timeout = Math.max(timeout, request.rebalanceTimeout)
    this.timers.set(this.rebalanceKey, this.timers.now() + timeout, () => this.completeJoin())
  }

  private completeJoinIfAll(): void {
    if (this.current !== "PreparingRebalance" || this.initialDelayUntil !== undefined) return
    for (const member of this.members.values()) if (member.join === undefined) return
    this.completeJoin()
  }

  private completeJoin(): void {
    this.timers.clear(this.rebalanceKey)
    // those who did not come in time are out; an instance keeps its place until its session ends
    for (const member of [...this.members.values()]) {
      if (member.join === undefined && member.instanceId === undefined) this.forget(member)
    }
    if (this.members.size === 0) return this.becomeEmpty()
    const joined = [...this.members.values()].filter((member) => member.join !== undefined)
    if (joined.length === 0) return this.setRebalanceTimer()
    if (this.leader === undefined || !joined.some((member) => member.memberId === this.leader)) {
      this.leader = joined[0]!.memberId
    }
    this.generationId++
    this.current = "CompletingRebalance"
    for (const member of this.members.values()) member.synced = false
    let timeout = 0
    for (const member of joined) timeout = Math.max(timeout, member.request.rebalanceTimeout)
    this.timers.set(this.syncKey, this.timers.now() + timeout, () => this.expireSync())
    const replies = joined.map((member) => {
      const answer = member.join!
      member.join = undefined
      this.keepAlive(member)
      const reply = this.joinReply(member)
      return () => answer(ok(reply))
    })
    for (const answer of replies) answer()
  }

  /** Those who were told to ask for their assignment and did not are out. */
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
    this.initialDelayUntil = undefined
    this.emptySince = this.timers.now()
    this.timers.clear(this.rebalanceKey)
    this.timers.clear(this.syncKey)
  }

  private joinReply(member: Member): JoinReply {
    return {
      memberId: member.memberId,
      generation: this.generationId,
      leader: this.leader ?? "",
      members: this.leader === member.memberId
        ? [...this.members.values()].map(({ memberId, request }) => ({ memberId, metadata: request.metadata }))
        : []
    }
  }

  sync(from: Identity, assignment: ReadonlyMap<string, Partitions>, reply: (reply: Reply<Partitions>) => void): void {
    const valid = this.validate(from)
    if (valid !== undefined) return reply(valid)
    const member = this.members.get(from.memberId)!
    switch (this.current) {
      case "Empty":
        return reply(refuse("UNKNOWN_MEMBER_ID", this.groupId))
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

  heartbeat(from: Identity): Reply<void> {
    const valid = this.validate(from)
    if (valid !== undefined) return valid
    this.keepAlive(this.members.get(from.memberId)!)
    return this.current === "PreparingRebalance" ? refuse("REBALANCE_IN_PROGRESS", this.groupId) : done
  }

  leave(memberId: string): Reply<void> {
    this.reserved.delete(memberId)
    return this.remove(memberId) ? done : refuse("UNKNOWN_MEMBER_ID", this.groupId)
  }

  /** By its own wish, because its session expired, or by an administrator. */
  remove(memberId: string): boolean {
    const member = this.members.get(memberId)
    if (member === undefined) return false
    this.forget(member)
    if (this.current === "PreparingRebalance") {
      if (this.members.size === 0) this.becomeEmpty()
      else this.completeJoinIfAll()
    } else if (this.members.size === 0) this.becomeEmpty()
    else this.rebalance()
    return true
  }

  private forget(member: Member): void {
    this.members.delete(member.memberId)
    this.timers.clear(this.sessionKey(member.memberId))
    if (member.instanceId !== undefined && this.instances.get(member.instanceId) === member.memberId) {
      this.instances.delete(member.instanceId)
    }
    if (this.leader === member.memberId) this.leader = undefined
    member.join?.(refuse("UNKNOWN_MEMBER_ID", this.groupId))
    member.sync?.(refuse("UNKNOWN_MEMBER_ID", this.groupId))
  }

  private keepAlive(member: Member): void {
    if (member.join !== undefined || member.sync !== undefined) return
    const deadline = this.timers.now() + member.request.sessionTimeout
    this.timers.set(this.sessionKey(member.memberId), deadline, () => this.remove(member.memberId))
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

  /** `undefined` if the sender is who it says, in the generation it says. */
  private validate(from: Identity): Reply<never> | undefined {
    const holder = from.instanceId === undefined ? undefined : this.instances.get(from.instanceId)
    if (from.instanceId !== undefined && holder !== undefined && holder !== from.memberId) {
      return refuse("FENCED_INSTANCE_ID", this.groupId)
    }
    if (!this.members.has(from.memberId)) return refuse("UNKNOWN_MEMBER_ID", this.groupId)
    if (from.generation !== this.generationId) return refuse("ILLEGAL_GENERATION", this.groupId)
    return undefined
  }

  // -------------------------------------------------------------------------------------------------------------------
  // offsets
  // -------------------------------------------------------------------------------------------------------------------

  /** Whether offsets may be committed by whom a request says it is from. */
  mayCommit(from: Identity, transactional: boolean): Reply<void> {
    if (from.generation < 0 && this.current === "Empty") return done
    if (from.generation >= 0 || from.memberId !== "" || from.instanceId !== undefined) {
      const valid = this.validate(from)
      if (valid !== undefined) return valid
    } else if (!transactional) return refuse("UNKNOWN_MEMBER_ID", this.groupId)
    if (transactional) return done
    if (this.current === "CompletingRebalance") return refuse("REBALANCE_IN_PROGRESS", this.groupId)
    const member = this.members.get(from.memberId)
    if (member !== undefined) this.keepAlive(member)
    return done
  }

  commit(from: Identity, offsets: ReadonlyArray<OffsetAndMetadata>): Reply<void> {
    const may = this.mayCommit(from, false)
    if (may._tag === "Left") return may
    this.store(offsets)
    return done
  }

  store(offsets: ReadonlyArray<OffsetAndMetadata>): void {
    const committedAt = this.timers.now()
    for (const offset of offsets) this.offsets.set(key(offset), { ...offset, committedAt })
  }
}
