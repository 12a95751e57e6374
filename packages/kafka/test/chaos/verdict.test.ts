import { describe, expect, it } from "@effect/vitest"
import type { Entry, Line } from "./Journal.ts"
import { type Evidence, judge, type Testimony } from "./verdict.ts"

/** A partition with so many records, each with a key of its own. */
const logOf = (count: number): Evidence["log"] => [
  Array.from({ length: count }, (_, number) => ({ key: `key-${number}`, number }))
]

const journal = (from: number, lines: ReadonlyArray<Line>): ReadonlyArray<Entry> =>
  lines.map((line, index) => ({ at: from + index, ...line }))

const owns = (position: number): Line => ({ _tag: "Assigned", partitions: [0], positions: [position] })
const begins = (offset: number): Line => ({
  _tag: "Began",
  partition: 0,
  offset,
  key: `key-${offset}`,
  number: offset
})
const handles = (...offsets: ReadonlyArray<number>): ReadonlyArray<Line> =>
  offsets.flatMap((offset): ReadonlyArray<Line> => [begins(offset), { ...begins(offset), _tag: "Done" } as Line])
const commits = (offset: number): Line => ({ _tag: "Committed", offsets: [[0, offset]] })

const member = (
  name: string,
  entries: ReadonlyArray<Entry>,
  more: Partial<Testimony> = {}
): Testimony => ({
  name,
  ordering: "partition",
  journal: [{ at: 0, _tag: "Up" }, ...entries],
  killedAt: undefined,
  frozen: [],
  askedAt: undefined,
  endedAt: undefined,
  stuck: false,
  exit: 0,
  errors: "",
  ...more
})

const evidence = (members: ReadonlyArray<Testimony>, more: Partial<Evidence> = {}): Evidence => ({
  calm: false,
  sessionTimeout: 10_000,
  log: logOf(4),
  acknowledged: [],
  polls: [{ at: 1_000_000, offsets: [[0, 4]] }],
  members,
  disturbances: [],
  ...more
})

const closed: Line = { _tag: "Closed" }

describe("the verdict on a chaos", () => {
  it("finds nothing wrong where each record is handled once, in order", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1), commits(2), closed])),
      member("b", journal(100, [owns(2), ...handles(2, 3), commits(4), closed]))
    ], { calm: true }))
    expect(verdict.violations).toEqual([])
    expect(verdict).toMatchObject({ records: 4, handled: 4, duplicates: new Map() })
  })

  it("sees a record that nobody handled", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1), closed])),
      member("b", journal(100, [owns(3), ...handles(3), closed]))
    ]))
    expect(verdict.violations).toContain("partition 0: 2 was never handled")
  })

  it("sees a commit that was ahead of the handlers", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1), begins(2), commits(3), ...handles(3), closed]))
    ]))
    expect(verdict.violations).toContain("partition 0: 3 is committed, and 2 was handled by nobody")
  })

  it("explains what a killed member had not committed", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1, 2)]), { killedAt: 50, exit: "SIGKILL" }),
      member("b", journal(100, [owns(1), ...handles(1, 2, 3), closed]))
    ]))
    expect(verdict.violations).toEqual([])
    expect(verdict.duplicates).toEqual(new Map([["killed", 2]]))
  })

  it("does not take a killed member for an excuse where it had committed", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1), commits(2)]), { killedAt: 50, exit: "SIGKILL" }),
      member("b", journal(100, [owns(1), ...handles(1, 2, 3), closed]))
    ]))
    expect(verdict.violations).toEqual([
      "b starts partition 0 at 1, where 2 was committed",
      "b begins 0@1, where 2 was committed"
    ])
  })

  it("does not excuse a member by a freeze that was long over", () => {
    const frozen = [{ from: 1, to: 2 }]
    const verdict = judge(evidence([
      member("a", journal(100_000, [owns(0), ...handles(0, 1), closed]), { frozen }),
      member("b", journal(200_000, [owns(1), ...handles(1, 2, 3), closed]))
    ]))
    expect(verdict.violations).toEqual(["0@1 is handled by b after a: for no reason"])
  })

  it("has no excuse for what was handled twice though its member left in order", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1), { _tag: "Asked" }, closed]), { askedAt: 5, endedAt: 9 }),
      member("b", journal(100, [owns(1), ...handles(1, 2, 3), closed]))
    ]))
    expect(verdict.violations).toEqual(["0@1 is handled by b after a: for no reason"])
  })

  it("does not count a handler that a leaving member interrupted", () => {
    const verdict = judge(evidence([
      member(
        "a",
        journal(1, [owns(0), ...handles(0), begins(1), { ...begins(1), _tag: "Interrupted" } as Line, closed])
      ),
      member("b", journal(100, [owns(1), ...handles(1, 2, 3), closed]))
    ], { calm: true }))
    expect(verdict.violations).toEqual([])
    expect(verdict.interrupted).toBe(1)
  })

  it("sees a partition that goes back within one assignment", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1, 0, 1, 2, 3), closed]))
    ]))
    expect(verdict.violations).toContain("a: 0@0 comes where 2 was to come")
  })

  it("sees what was acknowledged and is not there, and what is there twice", () => {
    const log = [[{ key: "a", number: 7 }, { key: "a", number: 7 }]]
    const verdict = judge(evidence([], {
      log,
      polls: [],
      acknowledged: [{ number: 8, partition: 0, offset: 0 }]
    }))
    expect(verdict.violations).toContain("number 7 is stored at 0@0 and at 0@1")
    expect(verdict.violations).toContain("number 8 was acknowledged at 0@0, and is nowhere")
  })

  it("sees a member that ended without closing, and a group that waited for a session", () => {
    const verdict = judge(evidence([
      member("a", journal(1, [owns(0), ...handles(0, 1, 2, 3), commits(4), { _tag: "Asked" }, closed]), {
        askedAt: 12,
        endedAt: 20
      }),
      member("b", journal(15_000, [owns(4)]), { exit: 1, errors: "boom" })
    ]))
    expect(verdict.violations).toEqual([
      "b ended with 1 and closed nothing: boom",
      "a left in order, and others had its partitions only after 14988 ms"
    ])
  })
})
