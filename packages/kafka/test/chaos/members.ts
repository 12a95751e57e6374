/**
 * Processes that are members of the group. None of them outlives us, even frozen or when we are killed.
 */
import * as Effect from "effect/Effect"
import type * as Scope from "effect/Scope"
import type { ChildProcess } from "node:child_process"
import * as fs from "node:fs"
import * as path from "node:path"
import { fileURLToPath } from "node:url"
import { spawnBound } from "../../../../scripts/kafka/process.ts"
import type { DriverName } from "../support/drivers.ts"
import * as Journal from "./Journal.ts"
import type { Testimony } from "./verdict.ts"

/** What a member is told when it starts. */
export interface Orders {
  readonly name: string
  readonly brokers: string
  readonly driver: DriverName
  readonly groupProtocol: "classic" | "consumer"
  readonly topic: string
  readonly groupId: string
  readonly journal: string
  readonly seed: number
  /** `forEach` with this order; a stream with `commitWithin` if absent. */
  readonly ordering?: "partition" | "key" | undefined
  readonly concurrency: number
  readonly commitCount: number
  /** Milliseconds, as all times here. */
  readonly commitWithin: number
  readonly maxPollRecords: number
  /** The longest that a handler takes. */
  readonly slowest: number
  readonly sessionTimeout: number
  readonly heartbeatInterval: number
  /** What SIGTERM does: stop the consumer, or interrupt what reads. */
  readonly leave: "stop" | "interrupt"
}

export interface Member {
  readonly orders: Orders
  readonly child: ChildProcess
  /** Ends when the process has. */
  readonly ended: Promise<void>
  /** Times when it was killed, frozen and thawed, asked to leave, and when it had ended. */
  killedAt: number | undefined
  readonly frozen: Array<{ readonly from: number; to: number | undefined }>
  askedAt: number | undefined
  endedAt: number | undefined
  /** It was killed by us, since it had not ended long after it was asked to. */
  stuck: boolean
}

const program = fileURLToPath(new URL("member.ts", import.meta.url))

export const isUp = (member: Member): boolean => member.endedAt === undefined
export const isFrozen = (member: Member): boolean => {
  const last = member.frozen.at(-1)
  return last !== undefined && last.to === undefined
}

/** Starts a member that is killed at the latest when the scope ends. */
export const start = (orders: Orders): Effect.Effect<Member, never, Scope.Scope> =>
  Effect.acquireRelease(
    Effect.sync(() => {
      const errors = fs.openSync(`${orders.journal}.err`, "a")
      const child = spawnBound(
        process.execPath,
        ["--conditions=@coffeebuddy/source", "--import", "tsx", program, JSON.stringify(orders)],
        { stdio: ["ignore", errors, errors] }
      )
      fs.closeSync(errors)
      const member: Member = {
        orders,
        child,
        ended: new Promise((resolve) => {
          child.once("exit", () => {
            member.endedAt = Journal.now()
            resolve()
          })
        }),
        killedAt: undefined,
        frozen: [],
        askedAt: undefined,
        endedAt: undefined,
        stuck: false
      }
      return member
    }),
    (member) => {
      if (!isUp(member)) return Effect.void
      member.child.kill("SIGKILL")
      return Effect.promise(() => member.ended)
    }
  )

export const kill = (member: Member): void => {
  member.killedAt = Journal.now()
  member.child.kill("SIGKILL")
}

export const ask = (member: Member): void => {
  member.askedAt = Journal.now()
  member.child.kill("SIGTERM")
}

export const freeze = (member: Member): void => {
  member.frozen.push({ from: Journal.now(), to: undefined })
  member.child.kill("SIGSTOP")
}

export const thaw = (member: Member): void => {
  const last = member.frozen.at(-1)
  if (last === undefined || last.to !== undefined) return
  member.child.kill("SIGCONT")
  last.to = Journal.now()
}

/** What it leaves behind for the verdict. */
export const testimony = (member: Member): Testimony => ({
  name: member.orders.name,
  ordering: member.orders.ordering ?? "partition",
  journal: Journal.read(member.orders.journal),
  killedAt: member.killedAt,
  frozen: member.frozen.map(({ from, to }) => ({ from, to: to ?? Infinity })),
  askedAt: member.askedAt,
  endedAt: member.endedAt,
  stuck: member.stuck,
  exit: member.child.signalCode ?? member.child.exitCode ?? "runs",
  errors: fs.readFileSync(`${member.orders.journal}.err`, "utf8").trim()
})

export const journalOf = (directory: string, name: string): string => path.join(directory, `${name}.journal`)
