/**
 * Holds the recipes for CI against the repository, as part of `npm run check:docs`: GitHub Actions, Jenkins, Argo
 * Workflows and Sonar can't be run here, but what they name can be looked for.
 *
 * 1. They parse, and none has a key twice.
 * 2. Each runs README's two commands on Node 20, 22 and 24, with a real Kafka required.
 * 3. Every npm script, script file and folder that they name exists, and every report is one that is written.
 *
 * So are the blocks of documentation that are no TypeScript: YAML and JSON parse, and shell names npm scripts and commands
 * of `coffeebuddy-kafka` that exist.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import * as Yaml from "yaml"
import vitest from "../vitest.config.ts"

const root = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..")
const read = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")
const complaints: Array<string> = []
const expect = (holds: boolean, file: string, what: string): void => {
  if (!holds) complaints.push(`${file}: ${what}`)
}

const readmeCommand = (script: string): string => {
  const { status, stderr, stdout } = spawnSync(process.execPath, [
    Path.join(root, "scripts/readme-command.mjs"),
    script
  ], {
    encoding: "utf8"
  })
  if (status !== 0) throw new Error(stderr)
  return stdout.trim()
}

const commands = ["start", "test"].map(readmeCommand)
const { scripts } = JSON.parse(read("package.json")) as { readonly scripts: Readonly<Record<string, string>> }
const { outputFile } = vitest.test ?? {}
const { reportsDirectory = "" } = vitest.test?.coverage ?? {}
const reports = new Set([
  ...typeof outputFile === "object" ? Object.values(outputFile) : [],
  `${reportsDirectory}/lcov.info`,
  "reports/sonar-tests.xml"
])

// ---------------------------------------------------------------------------------------------------------------------
// what the recipes run
// ---------------------------------------------------------------------------------------------------------------------

const yaml = (file: string): Yaml.Document => {
  const document = Yaml.parseDocument(read(file), { uniqueKeys: true })
  for (const { message } of [...document.errors, ...document.warnings]) complaints.push(`${file}: ${message}`)
  return document
}

/** Every text under a key, wherever it stands. */
const under = (document: Yaml.Document, ...keys: ReadonlyArray<string>): ReadonlyArray<string> => {
  const found: Array<string> = []
  Yaml.visit(document, {
    Pair: (_, pair) => {
      if (!Yaml.isScalar(pair.key) || !keys.includes(String(pair.key.value))) return
      Yaml.visit(pair.value as Yaml.Node, { Scalar: (_, scalar) => void found.push(String(scalar.value)) })
    }
  })
  return found
}

interface Recipe {
  readonly file: string
  readonly shell: ReadonlyArray<string>
  readonly versions: ReadonlyArray<string>
}

const jenkins = read("Jenkinsfile")
const quoted = (text: string): ReadonlyArray<string> => [...text.matchAll(/'([^']*)'/g)].map(([, one = ""]) => one)

const github = yaml(".github/workflows/ci.yml")
const argo = yaml("ci/argo-workflow.yaml")
const recipes: ReadonlyArray<Recipe> = [
  {
    file: ".github/workflows/ci.yml",
    shell: under(github, "run"),
    versions: (github.getIn(["jobs", "test", "strategy", "matrix", "node"]) as Yaml.YAMLSeq).items.map(String)
  },
  {
    file: "ci/argo-workflow.yaml",
    shell: under(argo, "args"),
    versions: under(argo, "withItems")
  },
  {
    file: "Jenkinsfile",
    shell: [...jenkins.matchAll(/\bsh '([^']*)'/g)].map(([, one = ""]) => one),
    versions: quoted(/name 'NODE'\s+values (.*)/.exec(jenkins)?.[1] ?? "")
  }
]

const code = jenkins.replace(/'[^']*'|"[^"]*"|\/\/.*/g, "")
for (const [opening, closing] of ["{}", "()"].map((pair) => [...pair] as [string, string])) {
  expect(
    code.split(opening).length === code.split(closing).length,
    "Jenkinsfile",
    `${opening} and ${closing} don't match`
  )
}
expect(
  under(github, "java-version").includes("17") && /openjdk-17/.test(read("ci/Dockerfile")),
  "ci/Dockerfile",
  "the real Kafka of the tests needs Java 17"
)

for (const { file, shell, versions } of recipes) {
  const text = read(file)
  const lines = shell.join("\n").split("\n").map((line) => line.trim())
  for (const command of commands) {
    expect(
      lines.some((line) => line.replace(/^\(|\).*$/g, "").replace(/ -- .*$/, "") === command),
      file,
      `it does not run README's "${command}"`
    )
  }
  expect(versions.join() === "20,22,24", file, `it runs on Node ${versions.join()}, and not on 20, 22 and 24`)
  expect(
    /REQUIRE_KAFKA\W+(value: )?"?'?1\b/.test(text),
    file,
    "without REQUIRE_KAFKA=1, tests without Kafka pass by being skipped"
  )
  expect(lines.includes("npm audit --omit=dev"), file, "it does not run npm audit --omit=dev")
  for (const [, script = ""] of shell.join("\n").matchAll(/npm run ([\w:]+)/g)) {
    expect(script in scripts, file, `there is no npm script "${script}"`)
  }
  for (const [path] of text.matchAll(/\bscripts\/[\w./-]+\.\w+/g)) {
    expect(Fs.existsSync(Path.join(root, path)), file, `there is no ${path}`)
  }
  for (const [path] of text.matchAll(/\breports\/[\w./-]+\.\w+/g)) {
    expect(reports.has(path), file, `nobody writes ${path}`)
  }
}

// ---------------------------------------------------------------------------------------------------------------------
// Sonar
// ---------------------------------------------------------------------------------------------------------------------

const sonar = "sonar-project.properties"
const properties = new Map(
  read(sonar).split("\n").filter((line) => line !== "" && !line.startsWith("#")).map((line) => {
    const [key = "", ...value] = line.split("=")
    return [key, value.join("=")] as const
  })
)
const listed = (key: string): ReadonlyArray<string> => (properties.get(key) ?? "").split(",")

for (const path of [...listed("sonar.sources"), ...listed("sonar.tests")]) {
  expect(Fs.existsSync(Path.join(root, path)), sonar, `there is no folder ${path}`)
}
for (const name of Fs.readdirSync(Path.join(root, "packages"))) {
  expect(listed("sonar.sources").includes(`packages/${name}/src`), sonar, `it leaves packages/${name}/src out`)
}
for (const key of ["sonar.javascript.lcov.reportPaths", "sonar.testExecutionReportPaths"]) {
  for (const path of listed(key)) expect(reports.has(path), sonar, `nobody writes ${path}, which ${key} names`)
}

// ---------------------------------------------------------------------------------------------------------------------
// blocks of documentation
// ---------------------------------------------------------------------------------------------------------------------

const commandsOfCli = new Set(
  Fs.readdirSync(Path.join(root, "packages/kafka/src/cli/commands")).map((name) => Path.basename(name, ".ts"))
)

const checkBlock = (where: string, language: string, text: string): void => {
  if (/^ya?ml$/.test(language)) {
    for (const { message } of Yaml.parseDocument(text).errors) complaints.push(`${where}: ${message}`)
  }
  if (language === "json") {
    try {
      JSON.parse(text)
    } catch (error) {
      complaints.push(`${where}: ${String(error)}`)
    }
  }
  if (/^(sh|bash|shell)$/.test(language)) {
    for (const [, script = ""] of text.matchAll(/\bnpm run (?:--?[\w-]+ )*([\w:]+)/g)) {
      expect(script in scripts, where, `there is no npm script "${script}"`)
    }
    for (const [, command = ""] of text.matchAll(/\bcoffeebuddy-kafka ([\w-]+)/g)) {
      expect(commandsOfCli.has(command), where, `coffeebuddy-kafka has no command "${command}"`)
    }
  }
}

const folders = [
  "",
  "docs",
  "benchmarks",
  ...Fs.readdirSync(Path.join(root, "packages")).map((name) => `packages/${name}`)
]
for (const folder of folders) {
  for (const name of Fs.readdirSync(Path.join(root, folder)).filter((name) => name.endsWith(".md"))) {
    const file = Path.posix.join(folder, name)
    const text = read(file)
    for (const block of text.matchAll(/^```(\w+)[^\n]*\n([^]*?)^```/gm)) {
      const [, language = "", code = ""] = block
      checkBlock(`${file}:${text.slice(0, block.index).split("\n").length}`, language, code)
    }
  }
}

for (const complaint of complaints) console.error(complaint)
console.log(
  `${recipes.length + 1} recipes for CI checked: ${
    complaints.length === 0 ? "all is well" : `${complaints.length} complaints`
  }`
)
process.exitCode = complaints.length === 0 ? 0 : 1
