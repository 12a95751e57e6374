/**
 * A consumer's partitions: which it has, where it stands in each, and the records after that.
 */
import * as Clock from "effect/Clock"
import * as Effect from "effect/Effect"
import * as Either from "effect/Either"
import type * as Scope from "effect/Scope"
import type { ConsumerSessionOptions, Demand, Fetched } from "../../KafkaClient.ts"
import type { Key, TopicPartition } from "../../TopicPartition.ts"
import { key } from "../../TopicPartition.ts"
import type { Alarm } from "../alarm.ts"
import type { Cluster } from "./Cluster.ts"
import type { Partitions } from "./Group.ts"
import { backoff, type Lifeline } from "./Lifeline.ts"
import { type Slice, view } from "./Log.ts"
import type { Link, Network } from "./Network.ts"
import { clientError, type Failure, refused, type Reply } from "./Protocol.ts"

interface Held {
  readonly topicPartition: TopicPartition
  /** `undefined` until somebody says from where. */
  position: bigint | undefined
  /** About to be given away: not fetched any more. */
  leaving: boolean
  /** A request for it is on the wire. */
  inFlight: boolean
  /** How often it could not be fetched, one time after the other. */
  failures: number
  /** Not fetched again before. */
  retryAt: number
}

type Positioned = Held & { readonly position: bigint }

const canBeFetched = (held: Held, now: number): held is Positioned =>
  held.position !== undefined && !held.leaving && !held.inFlight && held.retryAt <= now

/** What a fetch asks for one partition. */
interface Want {
  readonly held: Held
  readonly from: bigint
  readonly maxBytes: number
}

/** What it brought. */
interface Answer {
  readonly held: Held
  readonly from: bigint
  readonly answer: Either.Either<Slice, Failure>
}

const failAll = (wants: ReadonlyArray<Want>, failure: Failure): ReadonlyArray<Answer> =>
  wants.map(({ from, held }) => ({ held, from, answer: Either.left(failure) }))

export type FetchOptions = Pick<
  ConsumerSessionOptions,
  "isolationLevel" | "fetchMaxBytes" | "fetchMaxBytesPerPartition" | "fetchMinBytes" | "fetchMaxWait"
>

export class Fetcher {
  private readonly cluster: Cluster
  private readonly network: Network
  private readonly link: Link
  private readonly lifeline: Lifeline
  private readonly options: FetchOptions
  private readonly scope: Scope.Scope
  private readonly partitions = new Map<Key, Held>()
  /** Something happened that a waiting `poll` must look at. */
  private readonly news: Alarm
  private woken = false
  /** Who is served first. */
  private turn = 0
  /** Since when the broker holds back a fetch that has too little to return. */
  private heldBackSince: number | undefined
  /** What came from the wire and has not been taken. */
  private landed: Array<Answer> = []

  constructor(
    cluster: Cluster,
    network: Network,
    link: Link,
    lifeline: Lifeline,
    options: FetchOptions,
    news: Alarm,
    scope: Scope.Scope
  ) {
    this.cluster = cluster
    this.network = network
    this.link = link
    this.lifeline = lifeline
    this.options = options
    this.scope = scope
    this.news = news
  }

  // -------------------------------------------------------------------------------------------------------------------
  // what it has
  // -------------------------------------------------------------------------------------------------------------------

  get owned(): Partitions {
    return [...this.partitions.values()].map(({ topicPartition }) => topicPartition)
  }

  has(tp: TopicPartition): boolean {
    return this.partitions.has(key(tp))
  }

  add(partitions: Partitions): void {
    for (const topicPartition of partitions) {
      this.partitions.set(key(topicPartition), {
        topicPartition,
        position: undefined,
        leaving: false,
        inFlight: false,
        failures: 0,
        retryAt: 0
      })
    }
  }

  remove(partitions: Partitions): void {
    for (const tp of partitions) this.partitions.delete(key(tp))
    this.news.ring()
  }

  stopFetching(partitions: Partitions): void {
    for (const tp of partitions) {
      const held = this.partitions.get(key(tp))
      if (held !== undefined) held.leaving = true
    }
  }

  seek(k: Key, offset: bigint): void {
    const held = this.partitions.get(k)
    if (held !== undefined) {
      held.position = offset
      held.failures = 0
      held.retryAt = 0
    }
    this.news.ring()
  }

  wake(): void {
    this.woken = true
    this.news.ring()
  }

  /** Lets a waiting `poll` look again. */
  nudge(): void {
    this.news.ring()
  }

  // -------------------------------------------------------------------------------------------------------------------
  // fetching
  // -------------------------------------------------------------------------------------------------------------------

  /** What can be fetched, by leader, and in each whoever waited longest first. */
  private wanted(demand: ReadonlyMap<Key, Demand>, now: number): ReadonlyMap<number | undefined, ReadonlyArray<Want>> {
    const byLeader = new Map<number | undefined, Array<Want>>()
    const keys = [...demand.keys()]
    for (let i = 0; i < keys.length; i++) {
      const k = keys[(this.turn + i) % keys.length]!
      const held = this.partitions.get(k)
      if (held === undefined || !canBeFetched(held, now)) continue
      const leader = this.cluster.leaderOf(held.topicPartition)
      const wants = byLeader.get(leader) ?? []
      byLeader.set(leader, wants)
      wants.push({
        held,
        from: held.position,
        maxBytes: Math.min(demand.get(k)!.maxBytes, this.options.fetchMaxBytesPerPartition)
      })
    }
    return byLeader
  }

  /** What the broker answers to one request. */
  private read(wants: ReadonlyArray<Want>): Reply<ReadonlyArray<Answer>> {
    const answers: Array<Answer> = []
    let budget = this.options.fetchMaxBytes
    for (const { from, held, maxBytes } of wants) {
      if (budget <= 0) break
      const bytes = Math.min(maxBytes, budget)
      const slice = this.cluster.read(held.topicPartition, from, bytes, this.options.isolationLevel)
      if (Either.isRight(slice)) {
        budget -= slice.right.bytes
        answers.push({ held, from, answer: Either.right(slice.right) })
      } else answers.push({ held, from, answer: Either.left(refused(slice.left)) })
    }
    return Either.right(answers)
  }

  private fetchNow(demand: ReadonlyMap<Key, Demand>, now: number): Array<Answer> {
    const answers: Array<Answer> = []
    for (const [leader, wants] of this.wanted(demand, now)) {
      const answer = this.network.now(this.link, () => leader, "fetch", () => this.read(wants))
      answers.push(...Either.getOrElse(answer, (failure) => failAll(wants, failure)))
    }
    return answers
  }

  /** Requests that take their time: they land when they land. */
  private send(demand: ReadonlyMap<Key, Demand>, now: number): Effect.Effect<void> {
    return Effect.suspend(() =>
      Effect.forEach(this.wanted(demand, now), ([leader, wants]) => {
        for (const { held } of wants) held.inFlight = true
        return this.network.call(this.link, () => leader, "fetch", () => this.read(wants)).pipe(
          Effect.catchAll((failure) => Effect.succeed(failAll(wants, failure))),
          Effect.map((answers) => {
            for (const { held } of wants) held.inFlight = false
            this.landed.push(...answers)
            this.news.ring()
          }),
          Effect.forkIn(this.scope)
        )
      }, { discard: true })
    )
  }

  /** What of an answer is still of use, with the position moved past it. */
  private accept({ answer, from, held }: Answer): Fetched | undefined {
    const { topicPartition } = held
    // meanwhile it was given away, or somebody sought elsewhere
    if (this.partitions.get(key(topicPartition)) !== held || held.position !== from || held.leaving) return undefined
    if (Either.isRight(answer)) {
      const { bytes, highWatermark, nextOffset, records } = answer.right
      if (nextOffset === from) return undefined
      held.position = nextOffset
      return { _tag: "Chunk", topicPartition, records, view, bytes, nextOffset, highWatermark }
    }
    if (answer.left._tag !== "Refused") return undefined
    if (answer.left.refusal.code === "OFFSET_OUT_OF_RANGE") {
      // not fetched again before somebody says from where
      held.position = undefined
      return { _tag: "OutOfRange", topicPartition, offset: from }
    }
    const error = clientError("fetch", this.cluster.addresses, answer.left)
    if (error._tag !== "UnknownTopicError" && error._tag !== "KafkaAuthorizationError") return undefined
    held.position = undefined
    return { _tag: "Failed", topicPartition, error }
  }

  /** What has landed for those in demand; the rest may come to be demanded again. */
  private takeLanded(demand: ReadonlyMap<Key, Demand>): Array<Answer> {
    if (this.landed.length === 0) return []
    const taken: Array<Answer> = []
    const left: Array<Answer> = []
    for (const answer of this.landed) {
      const k = key(answer.held.topicPartition)
      if (demand.has(k)) taken.push(answer)
      else if (this.partitions.get(k) === answer.held) left.push(answer)
    }
    this.landed = left
    return taken
  }

  /** Remembers who can not be fetched at the moment, and tells the lifeline. */
  private note(answers: ReadonlyArray<Answer>, now: number): void {
    let heard = false
    let silence: Failure | undefined
    for (const { answer, held } of answers) {
      if (Either.isRight(answer)) {
        held.failures = 0
        held.retryAt = 0
        heard = true
      } else {
        held.retryAt = now + backoff(held.failures++)
        if (answer.left._tag === "Disconnected") silence = answer.left
        else heard = true
      }
    }
    if (heard) this.lifeline.heard(now, undefined)
    else if (silence !== undefined) this.lifeline.heard(now, silence)
  }

  /** Until when the broker holds this back because it is too little; `undefined` if it does not. */
  private heldBackUntil(answers: ReadonlyArray<Answer>, now: number): number | undefined {
    const { fetchMaxWait, fetchMinBytes } = this.options
    let bytes = 0
    let complete = false
    for (const { answer } of answers) {
      if (Either.isRight(answer)) bytes += answer.right.bytes
      else complete = true
    }
    if (!complete && bytes > 0 && bytes < fetchMinBytes) {
      this.heldBackSince ??= now
      if (now < this.heldBackSince + fetchMaxWait) return this.heldBackSince + fetchMaxWait
    }
    this.heldBackSince = undefined
    return undefined
  }

  /**
   * Waits until something arrives in what is demanded, or anything else happens: not beyond `until`. `peek`: what is there
   * already counts.
   */
  private arrival(demand: ReadonlyMap<Key, Demand>, now: number, until: number, peek: boolean): Effect.Effect<void> {
    return Effect.suspend(() => {
      const listener = () => this.news.ring()
      const stops = [this.cluster.listen(listener)]
      for (const k of demand.keys()) {
        const held = this.partitions.get(k)
        if (held === undefined || !canBeFetched(held, now)) continue
        const { partition, topic } = held.topicPartition
        const log = this.cluster.topics.get(topic)?.partitions[partition]
        if (log === undefined) continue
        stops.push(log.listen(listener))
        // it may have come since we looked
        if (peek && log.visibleEnd(this.options.isolationLevel) > held.position) listener()
      }
      return Effect.ensuring(
        this.news.sleep(until),
        Effect.sync(() => {
          for (const stop of stops) stop()
        })
      )
    })
  }

  /** When those that failed may be fetched again. */
  private nextRetry(demand: ReadonlyMap<Key, Demand>, now: number): number {
    let next = Number.POSITIVE_INFINITY
    for (const k of demand.keys()) {
      const held = this.partitions.get(k)
      if (held?.position !== undefined && held.retryAt > now) next = Math.min(next, held.retryAt)
    }
    return next
  }

  /** Ends early, with nothing, when `isDead` says so. */
  poll(
    demand: ReadonlyMap<Key, Demand>,
    maxWait: number,
    isDead: () => boolean
  ): Effect.Effect<ReadonlyArray<Fetched>> {
    return Effect.gen(this, function*() {
      let now = yield* Clock.currentTimeMillis
      for (const end = now + maxWait;; now = yield* Clock.currentTimeMillis) {
        if (isDead()) return []
        this.news.silence()
        const instant = this.network.isInstant(this.link, "fetch")
        if (!instant) yield* this.send(demand, now)
        const landed = this.takeLanded(demand)
        const answers = instant ? landed.concat(this.fetchNow(demand, now)) : landed
        this.note(answers, now)
        const heldBack = instant ? this.heldBackUntil(answers, now) : undefined
        const fetched: Array<Fetched> = []
        if (heldBack === undefined) {
          for (const answer of answers) {
            const one = this.accept(answer)
            if (one !== undefined) fetched.push(one)
          }
        }
        if (fetched.length > 0 || this.woken || now >= end) {
          this.woken = false
          this.turn++
          return fetched
        }
        const until = Math.min(end, heldBack ?? end, this.nextRetry(demand, now))
        yield* this.arrival(demand, now, until, heldBack === undefined)
      }
    })
  }
}
