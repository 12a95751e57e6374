/**
 * Time and scheduling in the hands of a seed: a clock that jumps to the next sleeper when nothing else can run, and a
 * scheduler that picks among the fibers that can. The same seed gives the same run, and no run waits for real time.
 *
 * Two things are as with Effect's own schedulers, since Effect counts on them: what concerns one fiber happens in order,
 * and a new fiber has begun before anything that was scheduled after it. (`Effect.forEach` with concurrency never ends if
 * it is interrupted before the fiber has begun that looks after the others.)
 *
 * It stands in for `TestClock`, whose every step waits some real milliseconds for fibers to come to rest: here a
 * simulated minute takes as long as the work in it.
 */
import * as Clock from "effect/Clock"
import * as Duration from "effect/Duration"
import * as Effect from "effect/Effect"
import type * as Exit from "effect/Exit"
import type * as Fiber from "effect/Fiber"
import type * as Scheduler from "effect/Scheduler"

/** Numbers from a seed (mulberry32). */
export class Dice {
  private state: number
  constructor(seed: number) {
    this.state = seed >>> 0
  }
  /** From 0 up to, without, 1. */
  next(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0
    let t = this.state
    t = Math.imul(t ^ (t >>> 15), t | 1)
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61)
    return ((t ^ (t >>> 14)) >>> 0) / 4_294_967_296
  }
  /** A whole number from `from` to `to`, both included. */
  between(from: number, to: number): number {
    return from + Math.floor(this.next() * (to - from + 1))
  }
  chance(probability: number): boolean {
    return this.next() < probability
  }
  pick<A>(all: ReadonlyArray<A>): A {
    return all[Math.floor(this.next() * all.length)]!
  }
}

interface Sleeper {
  readonly at: number
  readonly order: number
  readonly wake: () => void
}

interface Task {
  readonly run: () => void
  readonly fiber: object | undefined
}

export class VirtualTime implements Clock.Clock, Scheduler.Scheduler {
  readonly [Clock.ClockTypeId]: Clock.ClockTypeId = Clock.ClockTypeId
  private readonly dice: Dice
  private millis = 1_700_000_000_000
  private readonly startedAt = this.millis
  private order = 0
  private readonly sleepers: Array<Sleeper> = []
  private readonly tasks: Array<Task> = []
  /** Fibers that have run. */
  private readonly begun = new WeakSet<object>()

  constructor(dice: Dice) {
    this.dice = dice
  }

  readonly currentTimeMillis = Effect.sync(() => this.millis)
  readonly currentTimeNanos = Effect.sync(() => this.unsafeCurrentTimeNanos())
  unsafeCurrentTimeMillis(): number {
    return this.millis
  }
  unsafeCurrentTimeNanos(): bigint {
    return BigInt(Math.floor(this.millis * 1000)) * 1000n
  }

  /** Milliseconds since the beginning. */
  get elapsed(): number {
    return this.millis - this.startedAt
  }

  sleep(duration: Duration.Duration): Effect.Effect<void> {
    return Effect.async<void>((resume) => {
      const sleeper: Sleeper = {
        at: this.millis + Math.max(0, Duration.toMillis(duration)),
        order: this.order++,
        wake: () => resume(Effect.void)
      }
      this.sleepers.push(sleeper)
      return Effect.sync(() => {
        const index = this.sleepers.indexOf(sleeper)
        if (index >= 0) this.sleepers.splice(index, 1)
      })
    })
  }

  shouldYield(fiber: Fiber.RuntimeFiber<unknown, unknown>): number | false {
    return Reflect.get(fiber, "currentOpCount") as number > 2048 ? 0 : false
  }

  scheduleTask(run: () => void, _priority: number, fiber?: Fiber.RuntimeFiber<unknown, unknown>): void {
    this.tasks.push({ run, fiber })
  }

  /** Any that can run may be next. */
  private nextTask(): Task {
    const begins = this.tasks.findIndex(({ fiber }) => fiber !== undefined && !this.begun.has(fiber))
    const chosen = Math.floor(this.dice.next() * (begins < 0 ? this.tasks.length : begins + 1))
    const { fiber } = this.tasks[chosen]!
    const first = fiber === undefined ? chosen : this.tasks.findIndex((one) => one.fiber === fiber)
    const task = this.tasks.splice(first, 1)[0]!
    // other tasks only tell a fiber something
    if (fiber !== undefined && task.run === Reflect.get(fiber, "run")) this.begun.add(fiber)
    return task
  }

  /** Runs an effect to its end, or until so many simulated milliseconds are over. */
  run<A, E>(effect: Effect.Effect<A, E>, within: number): Exit.Exit<A, E> | undefined {
    const fiber = Effect.runFork(effect.pipe(Effect.withClock(this)), { scheduler: this })
    for (;;) {
      const exit = fiber.unsafePoll()
      if (exit !== null) return exit
      if (this.tasks.length > 0) {
        this.nextTask().run()
        continue
      }
      let next: Sleeper | undefined
      for (const one of this.sleepers) {
        if (next === undefined || one.at < next.at || (one.at === next.at && one.order < next.order)) next = one
      }
      if (next === undefined || next.at - this.startedAt > within) return undefined
      this.sleepers.splice(this.sleepers.indexOf(next), 1)
      this.millis = Math.max(this.millis, next.at)
      next.wake()
    }
  }
}
