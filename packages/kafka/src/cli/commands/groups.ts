/** Lists groups. */
import * as Command from "@effect/cli/Command"
import * as Options from "@effect/cli/Options"
import * as Effect from "effect/Effect"
import * as Admin from "../../Admin.ts"
import * as cluster from "../cluster.ts"
import { Stdio } from "../Stdio.ts"
import * as table from "../table.ts"
import { count, escapeLine } from "../text.ts"

export const command = Command.make("groups", {
  envFile: cluster.envFile,
  json: Options.boolean("json").pipe(Options.withDescription("A line of JSON for each group."))
}, ({ envFile, json }) =>
  cluster.connected(envFile)(Effect.scoped(Effect.gen(function*() {
    const stdio = yield* Stdio
    const admin = yield* Admin.make
    const ids = (yield* admin.listGroups).map(({ groupId }) => groupId).sort()
    const rows = (yield* admin.describeGroups(ids)).map(({ groupId, members, state }) => ({
      group: groupId,
      state,
      members: members.length,
      topics: [...new Set(members.flatMap(({ assignment }) => assignment.map(({ topic }) => topic)))].sort(),
      partitions: members.reduce((sum, { assignment }) => sum + assignment.length, 0)
    }))
    const lines = json
      ? rows.map((row) => JSON.stringify(row))
      : table.lines(
        [
          { title: "GROUP", align: "left" },
          { title: "STATE", align: "left" },
          { title: "MEMBERS", align: "right" },
          { title: "PARTITIONS", align: "right" },
          { title: "TOPICS", align: "left" }
        ],
        rows.map((row) => [
          escapeLine(row.group),
          escapeLine(row.state),
          count(row.members),
          count(row.partitions),
          escapeLine(row.topics.join(", "))
        ]),
        stdio.style
      )
    yield* stdio.write(lines.map((line) => `${line}\n`).join(""))
    if (rows.length === 0) yield* stdio.note("There are no groups, or none that this user may see.")
  })))).pipe(Command.withDescription("Lists groups: state, members, and what they read."))
