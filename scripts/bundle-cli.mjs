/**
 * Makes one file of the command `coffeebuddy-kafka`, as the last step of `npm run build`.
 *
 * What the command is made of (@effect/cli, @effect/platform-node) is in the file, so that nobody who installs the
 * library gets it as a dependency. kafkajs, which is one, stays outside, as do the optional compressors. The licenses of
 * what is in the file stand beside it.
 */
import { build } from "esbuild"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"

const root = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..")
const folder = Path.join(root, "packages/kafka/dist/bin")
const outfile = Path.join(folder, "coffeebuddy-kafka.js")

const { metafile } = await build({
  absWorkingDir: root,
  entryPoints: ["packages/kafka/src/cli/main.ts"],
  outfile,
  bundle: true,
  platform: "node",
  target: "node20.19",
  format: "esm",
  conditions: ["@coffeebuddy/source"],
  external: ["kafkajs"],
  banner: {
    js: [
      "#!/usr/bin/env node",
      "// Built from packages/kafka/src/cli. Licenses of what is bundled: coffeebuddy-kafka.licenses.txt",
      "import { createRequire as __createRequire } from \"node:module\"",
      "const require = __createRequire(import.meta.url)"
    ].join("\n")
  },
  legalComments: "inline",
  logLevel: "warning",
  metafile: true
})
Fs.chmodSync(outfile, 0o755)

const bundled = new Set(
  Object.values(metafile.outputs).flatMap(({ inputs }) =>
    Object.entries(inputs).flatMap(([path, { bytesInOutput }]) => {
      const [, name] = /^node_modules\/((?:@[^/]+\/)?[^/]+)\//.exec(path) ?? []
      return name === undefined || bytesInOutput === 0 ? [] : [name]
    })
  )
)
const licenses = [...bundled].toSorted().map((name) => {
  const at = Path.join(root, "node_modules", name)
  const { license, version } = JSON.parse(Fs.readFileSync(Path.join(at, "package.json"), "utf8"))
  const file = Fs.readdirSync(at).find((one) => /^licen[sc]e/i.test(one))
  if (file === undefined) throw new Error(`${name} is bundled into the command, and ships no license text`)
  return `${name} ${version} (${license})\n\n${Fs.readFileSync(Path.join(at, file), "utf8").trim()}\n`
})
Fs.writeFileSync(Path.join(folder, "coffeebuddy-kafka.licenses.txt"), licenses.join(`\n${"-".repeat(80)}\n\n`))
