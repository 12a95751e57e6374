/**
 * The partitions that a member holds: how they come, how they are given away, and how they are lost.
 */
import * as Deferred from "effect/Deferred"
import * as Effect from "effect/Effect"
import * as Fiber from "effect/Fiber"
import * as FiberId from "effect/FiberId"
import type * as Scope from "effect/Scope"
import * as TopicPartition from "../../TopicPartition.ts"
import type { Holding } from "../consumerSession.ts"

type Partitions = ReadonlyArray<TopicPartition.TopicPartition>

export class Held {
  private readonly holding: Holding
  private readonly scope: Scope.Scope
  private readonly held = new Map<TopicPartition.Key, TopicPartition.TopicPartition>()
  /** Somebody else has them, and we have not let go of them yet. */
  private lost = false
  private losing = Deferred.unsafeMake<void>(FiberId.none)

  constructor(holding: Holding, scope: Scope.Scope) {
    this.holding = holding
    this.scope = scope
  }

  get partitions(): Partitions {
    return [...this.held.values()]
  }

  get isLost(): boolean {
    return this.lost
  }

  has(topicPartition: TopicPartition.TopicPartition): boolean {
    return this.held.has(TopicPartition.key(topicPartition))
  }

  /** The group has given them away. Whoever waits for some of them to settle waits no more. */
  lose(): void {
    this.lost = true
    Deferred.unsafeDone(this.losing, Effect.void)
  }

  /** Lets go of what was lost. */
  get giveUp(): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (!this.lost) return Effect.void
      this.lost = false
      this.losing = Deferred.unsafeMake<void>(FiberId.none)
      const { partitions } = this
      this.held.clear()
      this.holding.halt(partitions)
      return partitions.length === 0 ? Effect.void : this.holding.lose(partitions)
    })
  }

  /** Gives some of them away once what is in hand of them is settled, unless they are lost meanwhile. */
  revoke(partitions: Partitions): Effect.Effect<void> {
    return Effect.suspend(() => {
      if (partitions.length === 0 || this.lost) return Effect.void
      this.holding.halt(partitions)
      return Effect.zipRight(
        Effect.raceFirst(this.holding.revoke(partitions), Deferred.await(this.losing)),
        Effect.sync(() => {
          if (this.lost) return
          for (const tp of partitions) this.held.delete(TopicPartition.key(tp))
        })
      )
    })
  }

  /** Takes up new ones, be it none. Ends when it is known where they start, or when there is something else to do. */
  assign(partitions: Partitions, otherwise: Effect.Effect<void>): Effect.Effect<void> {
    return Effect.suspend(() => {
      for (const tp of partitions) this.held.set(TopicPartition.key(tp), tp)
      return Effect.flatMap(
        Effect.forkIn(this.holding.assign(partitions), this.scope),
        (fiber) => Effect.raceFirst(Effect.asVoid(Fiber.join(fiber)), otherwise)
      )
    })
  }
}
