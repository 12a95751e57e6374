/** What the repository's commands say of themselves. */
import { readFileSync } from "node:fs"

/**
 * Where `--help` is asked for, prints the comment that a command's source begins with, and ends. Where an option is
 * unknown, says so above it.
 */
export const withUsage = <A extends { readonly values: { readonly help?: boolean | undefined } }>(
  source: string,
  parse: () => A
): A["values"] => {
  const [, comment = ""] = /^\/\*\*\n(.*?)\n \*\//s.exec(readFileSync(new URL(source), "utf8")) ?? []
  const usage = comment.replaceAll(/^ \* ?/gm, "")
  try {
    const { values } = parse()
    if (values.help !== true) return values
    console.log(usage)
    return process.exit(0)
  } catch (cause) {
    console.error(`${cause instanceof Error ? cause.message : String(cause)}\n\n${usage}`)
    return process.exit(2)
  }
}
