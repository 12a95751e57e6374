/**
 * Prints the command that README.md gives for `npm start` or `npm test`: `node scripts/readme-command.mjs test`.
 *
 * It is the one line of a shell block that ends with it, as in `npm ci && npm test`.
 */
import { readFileSync } from "node:fs"

const script = process.argv[2]
const readme = readFileSync(new URL("../README.md", import.meta.url), "utf8")
const blocks = [...readme.matchAll(/^```(?:sh|bash|shell)\n([^]*?)^```/gm)].map((match) => match[1])
const lines = blocks.join("").split("\n").map((line) => line.replace(/ +#.*$/, "").trim())
const commands = [...new Set(lines.filter((line) => line === `npm ${script}` || line.endsWith(` npm ${script}`)))]
if (commands.length !== 1) {
  throw new Error(`README.md should give one command that ends with "npm ${script}", found ${commands.length}`)
}
console.log(commands[0])
