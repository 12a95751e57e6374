/**
 * Holds the packages against what their readers will install: `npm run check:packages`, after `npm run build`.
 *
 * 1. Each tarball holds exactly what `src` says: JavaScript, declarations and maps of every module, and the sources.
 * 2. publint finds nothing to say about it.
 * 3. In an empty project outside of the tree, with the tarballs installed, Node imports every public module and refuses
 *    what is not public; TypeScript 7 and 5.9 accept the declarations, under `nodenext` and `bundler` alike, with
 *    `skipLibCheck` off. A program's own declarations name no module that its readers can't import.
 * 4. There, `npx coffeebuddy-kafka` runs with nothing else installed, and ends with the exit codes it promises.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Os from "node:os"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import { publint } from "publint"
import { formatMessage } from "publint/utils"

const root = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..")
const workFolder = Fs.mkdtempSync(Path.join(Os.tmpdir(), "coffeebuddy-packages-"))

interface Manifest {
  readonly name: string
  readonly version: string
  readonly bin?: Readonly<Record<string, string>>
  readonly devDependencies?: Readonly<Record<string, string>>
  readonly peerDependencies?: Readonly<Record<string, string>>
  readonly peerDependenciesMeta?: Readonly<Record<string, { readonly optional?: boolean }>>
}

interface Package {
  readonly folder: string
  readonly manifest: Manifest
  /** The modules of `src` without their extension, as in `engine/observe`. */
  readonly modules: ReadonlyArray<string>
}

/** `engine/` and `drivers/` are not for others, and the barrel has the name of the package itself. */
const isPublic = (module: string): boolean => !module.includes("/") && module !== "index"

const complaints: Array<string> = []

const run = (command: string, args: ReadonlyArray<string>, cwd: string): string => {
  const { error, status, stderr, stdout } = spawnSync(command, args, { cwd, encoding: "utf8", maxBuffer: 2 ** 28 })
  if (error !== undefined) throw error
  if (status !== 0) throw new Error(`${command} ${args.join(" ")} answered ${status}:\n${stdout}${stderr}`)
  return stdout
}

/** Like `run`, but a failure is a complaint, so that one run shows them all. */
const expectSuccess = (what: string, command: string, args: ReadonlyArray<string>, cwd: string): void => {
  try {
    run(command, args, cwd)
    console.log(`ok  ${what}`)
  } catch (error) {
    complaints.push(`${what}: ${error instanceof Error ? error.message : String(error)}`)
  }
}

const packages: ReadonlyArray<Package> = Fs.readdirSync(Path.join(root, "packages")).map((name) => {
  const folder = Path.join(root, "packages", name)
  return {
    folder,
    manifest: JSON.parse(Fs.readFileSync(Path.join(folder, "package.json"), "utf8")) as Manifest,
    modules: Fs.readdirSync(Path.join(folder, "src"), { recursive: true, encoding: "utf8" })
      .filter((file) => file.endsWith(".ts"))
      .map((file) => file.replaceAll("\\", "/").replace(/\.ts$/, ""))
      // the command is one file, made by scripts/bundle-cli.mjs
      .filter((module) => !module.startsWith("cli/"))
      .toSorted()
  }
})

// ---------------------------------------------------------------------------------------------------------------------
// the tarballs
// ---------------------------------------------------------------------------------------------------------------------

const pack = async ({ folder, manifest, modules }: Package): Promise<string> => {
  const answer = JSON.parse(run("npm", ["pack", "--json", "--pack-destination", workFolder], folder)) as ReadonlyArray<{
    readonly filename: string
    readonly files: ReadonlyArray<{ readonly path: string }>
  }>
  const [packed] = answer
  if (packed === undefined) throw new Error(`npm pack answered nothing for ${manifest.name}`)
  const tarball = Path.join(workFolder, packed.filename)

  const expected = new Set([
    ...["LICENSE", "README.md", "package.json"],
    ...Object.values(manifest.bin ?? {}).flatMap((path) => [path, path.replace(/\.js$/, ".licenses.txt")]),
    ...modules.map((module) => `src/${module}.ts`),
    ...modules.flatMap((module) => ["js", "js.map", "d.ts", "d.ts.map"].map((end) => `dist/${module}.${end}`))
  ])
  const actual = new Set(packed.files.map(({ path }) => path))
  for (const path of expected) {
    if (!actual.has(path)) complaints.push(`${manifest.name} does not pack ${path}`)
  }
  for (const path of actual) {
    if (!expected.has(path) && !/^(CHANGELOG\.md$|dashboards\/)/.test(path)) {
      complaints.push(`${manifest.name} packs ${path}, which comes from no module of src`)
    }
  }

  const bytes = Fs.readFileSync(tarball)
  const { messages, pkg } = await publint({
    strict: true,
    pack: { tarball: bytes.buffer.slice(bytes.byteOffset, bytes.byteOffset + bytes.byteLength) }
  })
  // a package of which only the barrel exists so far exports a pattern that nothing matches
  const young = !modules.some(isPublic)
  for (const message of messages) {
    if (young && message.code === "EXPORTS_GLOB_NO_MATCHED_FILES") continue
    complaints.push(`publint on ${manifest.name}: ${formatMessage(message, pkg, { color: false }) ?? message.code}`)
  }
  console.log(`ok  ${manifest.name}: ${actual.size} files, ${Math.round(bytes.length / 1024)} KiB`)
  return tarball
}

// ---------------------------------------------------------------------------------------------------------------------
// a project that uses them
// ---------------------------------------------------------------------------------------------------------------------

const publicSpecifiers = packages.flatMap(({ manifest, modules }) => [
  manifest.name,
  ...modules.filter(isPublic).map((module) => `${manifest.name}/${module}`)
])

const privateSpecifiers = packages.flatMap(({ manifest, modules }) =>
  modules.filter((module) => !isPublic(module)).map((module) => `${manifest.name}/${module}`)
)

/** Everything is imported at once; kafkajs is a program's own choice, made by importing `KafkaJs`. */
const importsProgram = `
import { createRequire } from "node:module"
const loaded = (name) => Object.keys(createRequire(import.meta.url).cache).some((path) => path.includes("/node_modules/" + name + "/"))
const problems = []
for (const specifier of ${
  JSON.stringify(publicSpecifiers)
}.sort((a, b) => a.endsWith("/KafkaJs") - b.endsWith("/KafkaJs"))) {
  try {
    await import(specifier)
  } catch (error) {
    problems.push(specifier + ": " + error)
  }
  if (!specifier.endsWith("/KafkaJs") && loaded("kafkajs")) {
    problems.push(specifier + " loads kafkajs, which only KafkaJs may do")
    break
  }
}
for (const specifier of ${JSON.stringify(privateSpecifiers)}) {
  await import(specifier).then(
    () => problems.push(specifier + " is not public, and yet it can be imported"),
    (error) => error.code === "ERR_PACKAGE_PATH_NOT_EXPORTED" || problems.push(specifier + ": " + error)
  )
}
if (problems.length > 0) throw new Error(problems.join("\\n"))
`

const typesProgram = [
  ...publicSpecifiers.map((specifier, index) => `import * as M${index} from "${specifier}"`),
  ...privateSpecifiers.flatMap((specifier, index) => [
    "// @ts-expect-error it is not public",
    `import * as P${index} from "${specifier}"`
  ]),
  `export const modules = [${publicSpecifiers.map((_, index) => `M${index}`).join(", ")}]`,
  `export const none: Array<unknown> = [${privateSpecifiers.map((_, index) => `P${index}`).join(", ")}]`,
  ""
].join("\n")

/** Everything public, with its type inferred: declarations have to say where each part of it is from. */
const inferredProgram = `
import * as Fs from "node:fs"
const lines = []
for (const [index, specifier] of ${JSON.stringify(publicSpecifiers)}.entries()) {
  const module = await import(specifier)
  lines.push("import * as M" + index + " from " + JSON.stringify(specifier))
  for (const [name, value] of Object.entries(module)) {
    // a class is a type of its own, and a namespace is a module that is looked at by itself
    if (Object.prototype.toString.call(value) === "[object Module]" || /^class\\b/.test(String(value))) continue
    lines.push("export const m" + index + "_" + name + " = M" + index + "." + name)
  }
}
const kafka = "@coffeebuddy/kafka"
lines.push(
  "import * as K from " + JSON.stringify(kafka),
  "import * as Memory from " + JSON.stringify(kafka + "/InMemoryKafka"),
  "const topic = K.Topic.make('orders', { key: K.Serde.string, value: K.Serde.string })",
  "export const records = K.Consumer.stream(topic)",
  "export const handled = K.Consumer.forEach(topic, () => K.Producer.flush)",
  "export const retryTopics = K.RetryTopics.make(topic, { delays: ['1 minute'] }).topics",
  "declare const worker: K.ConsumerWorker.Worker",
  "export const ended = worker.wait",
  "declare const broker: Memory.Broker",
  "export const failNext = broker.failNext"
)
Fs.writeFileSync("inferred.ts", lines.join("\\n") + "\\n")
`

const tarballs: Array<string> = []
for (const one of packages) tarballs.push(await pack(one))

const project = Path.join(workFolder, "project")
Fs.mkdirSync(project)
const write = (name: string, text: string): void => Fs.writeFileSync(Path.join(project, name), text)
write("package.json", JSON.stringify({ name: "empty", private: true, type: "module" }))
write("imports.mjs", importsProgram)
write("types.ts", typesProgram)

const ownNames = new Set(packages.map(({ manifest }) => manifest.name))
const peers = packages.flatMap(({ manifest }) =>
  Object.keys(manifest.peerDependencies ?? {})
    .filter((name) => !ownNames.has(name) && manifest.peerDependenciesMeta?.[name]?.optional !== true)
    .map((name) => `${name}@${manifest.devDependencies?.[name] ?? manifest.peerDependencies?.[name]}`)
)
const { devDependencies } = JSON.parse(Fs.readFileSync(Path.join(root, "package.json"), "utf8")) as Manifest
const quiet = ["--no-audit", "--no-fund", "--ignore-scripts", "--loglevel=error"]
run(
  "npm",
  ["install", ...quiet, ...tarballs, ...new Set(peers), `@types/node@${devDependencies?.["@types/node"]}`],
  project
)

expectSuccess(
  `Node imports ${publicSpecifiers.length} public modules and refuses ${privateSpecifiers.length} others`,
  process.execPath,
  ["imports.mjs"],
  project
)
for (const compiler of ["typescript", "typescript-5.9"]) {
  for (const resolution of ["nodenext", "bundler"]) {
    const settings = `tsconfig.${compiler}.${resolution}.json`
    write(
      settings,
      JSON.stringify({
        compilerOptions: {
          target: "es2022",
          lib: ["es2023", "esnext.disposable"],
          module: resolution === "bundler" ? "preserve" : resolution,
          moduleResolution: resolution,
          types: ["node"],
          strict: true,
          exactOptionalPropertyTypes: true,
          skipLibCheck: false,
          noEmit: true
        },
        files: ["types.ts"]
      })
    )
    expectSuccess(
      `${compiler} accepts the declarations under ${resolution}`,
      process.execPath,
      [Path.join(root, "node_modules", compiler, "bin/tsc"), "--pretty", "false", "-p", settings],
      project
    )
  }
}

run(process.execPath, ["--input-type=module", "--eval", inferredProgram], project)
write(
  "tsconfig.inferred.json",
  JSON.stringify({
    compilerOptions: {
      target: "es2022",
      lib: ["es2023", "esnext.disposable"],
      module: "nodenext",
      types: ["node"],
      strict: true,
      skipLibCheck: true,
      declaration: true,
      emitDeclarationOnly: true
    },
    files: ["inferred.ts"]
  })
)
expectSuccess(
  "a program's declarations are written",
  process.execPath,
  [Path.join(root, "node_modules/typescript/bin/tsc"), "--pretty", "false", "-p", "tsconfig.inferred.json"],
  project
)
const named = Fs.readFileSync(Path.join(project, "inferred.d.ts"), "utf8").matchAll(/(?:from |import\()"([^"]+)"/g)
for (const specifier of new Set(Array.from(named, ([, found = ""]) => found))) {
  if (privateSpecifiers.includes(specifier)) {
    complaints.push(`a program's declarations name ${specifier}, which is not public`)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// the command
// ---------------------------------------------------------------------------------------------------------------------

/** What a run of the command has to look like. */
const expectCommand = (
  args: ReadonlyArray<string>,
  env: Readonly<Record<string, string>>,
  code: number,
  output: RegExp
): void => {
  const what = `npx coffeebuddy-kafka ${args.join(" ")}`
  const { status, stderr, stdout } = spawnSync("npx", ["--no-install", "coffeebuddy-kafka", ...args], {
    cwd: project,
    encoding: "utf8",
    env: { ...process.env, ...env }
  })
  if (status === code && output.test(stdout)) console.log(`ok  ${what} ends with ${code}`)
  else complaints.push(`${what} ended with ${status}, and not ${code}, or said something else:\n${stdout}${stderr}`)
}

const { version } = packages.find(({ manifest }) => manifest.bin !== undefined)?.manifest ?? { version: "none" }
expectCommand(["--version"], {}, 0, new RegExp(`^${version.replaceAll(".", "\\.")}\n$`))
expectCommand(["--help"], {}, 0, /- check .*\n[^]*- produce .*\n[^]*- consume /)
expectCommand(["check"], { KAFKA_BOOTSTRAP_SERVERS: "" }, 1, /^✗ configuration +KAFKA_BOOTSTRAP_SERVERS: /)
// nothing listens on port 1
const nothing = { KAFKA_BOOTSTRAP_SERVERS: "localhost:1", KAFKA_CONNECTION_TIMEOUT: "5 seconds" }
expectCommand(["check"], nothing, 1, /^✓ configuration .*\n✗ reach .*\n- authenticate +skipped\n/)
expectCommand(["consume"], nothing, 2, /^$/)
for (const name of ["@effect/cli", "@effect/platform-node"]) {
  if (Fs.existsSync(Path.join(project, "node_modules", name))) complaints.push(`${name} is installed with the library`)
}

Fs.rmSync(workFolder, { recursive: true, force: true })
for (const complaint of complaints) console.error(`not ok  ${complaint}`)
process.exitCode = complaints.length === 0 ? 0 : 1
