/**
 * Holds the documentation against the code: `npm run check:docs`.
 *
 * 1. Every TypeScript block in a Markdown file, and every `@example` of a docstring in `packages/*\/src`, type-checks
 *    with the settings of the repository. A block stands alone, unless it says "```ts continue": then it goes on where
 *    the block before it in the same file ended. "```ts no-check: <reason>" is the one way out.
 * 2. Every export of a public module has a docstring with `@since` and `@category`.
 * 3. Every link of a Markdown file to another file, or to a heading, leads somewhere.
 *
 * Each complaint names file, line and column, and makes the exit code 1.
 */
import { spawnSync } from "node:child_process"
import * as Fs from "node:fs"
import * as Path from "node:path"
import { fileURLToPath } from "node:url"
import ts from "typescript-5.9"

const root = Path.resolve(Path.dirname(fileURLToPath(import.meta.url)), "..")
const workFolder = Path.join(root, "node_modules/.cache/check-docs")

interface Complaint {
  /** `file:line:column` */
  readonly where: string
  readonly what: string
}

interface Module {
  readonly file: string
  readonly code: string
}

const filesBelow = (folder: string, ends: string): ReadonlyArray<string> =>
  Fs.existsSync(Path.join(root, folder))
    ? Fs.readdirSync(Path.join(root, folder), { recursive: true, encoding: "utf8" })
      .map((name) => Path.posix.join(folder, name.replaceAll("\\", "/")))
      .filter((name) => name.endsWith(ends) && !/(^|\/)(node_modules|dist)\//.test(name))
      .toSorted()
    : []

const read = (file: string): string => Fs.readFileSync(Path.join(root, file), "utf8")

// ---------------------------------------------------------------------------------------------------------------------
// examples
// ---------------------------------------------------------------------------------------------------------------------

/**
 * The examples of one file, as modules that are as long as the file itself: all that is not the example is blank, so
 * that a compiler's line and column are those of the documentation.
 */
const examplesOf = (file: string, text: string, complaints: Array<Complaint>): ReadonlyArray<Module> => {
  const lines = text.split(/\r?\n/)
  const fence = file.endsWith(".md") ? /^( *)```([\w-]*) *(.*)$/ : /^( *\* *)```([\w-]*) *(.*)$/
  const modules: Array<Array<string>> = []
  let number = 0

  while (number < lines.length) {
    const opening = fence.exec(lines[number] ?? "")
    number++
    if (opening === null) continue
    const [, margin = "", language = "", info = ""] = opening
    const where = `${file}:${number}:1`
    const first = number
    while (number < lines.length && !lines[number]?.trimStart().replace(/^\* */, "").startsWith("```")) number++
    if (number === lines.length) complaints.push({ where, what: "this block is never closed" })
    const block = lines.slice(first, number)
    number++

    if (/^(js|mjs|cjs|jsx|javascript|tsx)$/.test(language)) {
      complaints.push({ where, what: `write it as \`\`\`ts: a block of ${language} is not checked` })
    }
    if (!/^(ts|mts|typescript)$/.test(language)) continue
    if (/^no-check\b/.test(info)) {
      if (!/^no-check: *\S+ +\S+/.test(info)) {
        complaints.push({ where, what: "say why it can't be checked: ```ts no-check: <reason>" })
      }
      continue
    }
    if (info !== "" && info !== "continue") {
      complaints.push({ where, what: `"${info}" is unknown: use "continue", "no-check: <reason>", or nothing` })
    }
    const before = modules.at(-1)
    if (info === "continue" && before === undefined) complaints.push({ where, what: "there is no block to continue" })
    const module = info === "continue" && before !== undefined ? before : []
    if (module !== before) modules.push(module)
    while (module.length < first) module.push("")
    for (const line of block) module.push(" ".repeat(margin.length) + line.slice(margin.length))
  }
  return modules.map((module) => ({ file, code: module.join("\n") + "\n" }))
}

/** An `@example` whose code stands in no block would be checked by nobody. */
const bareExamples = (file: string, text: string): ReadonlyArray<Complaint> => {
  const lines = text.split(/\r?\n/)
  return lines.flatMap((line, index) =>
    /^ *\* @example\b/.test(line) && !/```ts/.test(lines.slice(index + 1, index + 4).join("\n"))
      ? [{ where: `${file}:${index + 1}:1`, what: "put the code of this @example into a ```ts block" }]
      : []
  )
}

/**
 * The modules are written to a tree of their own that TypeScript lays over the repository's, so that a relative import
 * is relative to the file that the example stands in.
 */
const typeCheck = (modules: ReadonlyArray<Module>): ReadonlyArray<Complaint> => {
  Fs.rmSync(workFolder, { recursive: true, force: true })
  const names = modules.map(({ code, file }, index) => {
    const name = `${file}.${index}.mts`
    Fs.mkdirSync(Path.dirname(Path.join(workFolder, name)), { recursive: true })
    Fs.writeFileSync(Path.join(workFolder, name), code)
    return name
  })
  const compilerOptions = { rootDirs: [root, workFolder], noUnusedLocals: false }
  Fs.writeFileSync(
    Path.join(workFolder, "tsconfig.json"),
    JSON.stringify({ extends: Path.join(root, "tsconfig.json"), compilerOptions, include: [], files: names })
  )
  const { error, status, stderr, stdout } = spawnSync(
    process.execPath,
    [Path.join(root, "node_modules/typescript/bin/tsc"), "--pretty", "false", "-p", workFolder],
    { cwd: workFolder, encoding: "utf8", maxBuffer: 2 ** 28 }
  )
  if (error !== undefined) throw error
  if (status === 0) return []
  // a complaint is a line that begins with its place, and the lines after it that are indented
  const complaints = stdout.split(/\n(?! )/).flatMap((paragraph) => {
    const [, path, line, column, what] = /^(.+?)\((\d+),(\d+)\): ([^]*)$/.exec(paragraph.trimEnd()) ?? []
    if (path === undefined || what === undefined) {
      return paragraph.trim() === ""
        ? []
        : [{ where: "tsc", what: paragraph }]
    }
    const file = Path.relative(root, Path.resolve(workFolder, path))
      .replaceAll("\\", "/")
      .replace(/^node_modules\/\.cache\/check-docs\/(.*)\.\d+\.mts$/, "$1")
    return [{ where: `${file}:${line}:${column}`, what }]
  })
  if (complaints.length === 0) throw new Error(`the compiler failed with ${status}: ${stderr}`)
  return complaints
}

// ---------------------------------------------------------------------------------------------------------------------
// docstrings
// ---------------------------------------------------------------------------------------------------------------------

const docstringsOf = (file: string, text: string): ReadonlyArray<Complaint> => {
  const source = ts.createSourceFile(file, text, ts.ScriptTarget.Latest, true)
  const seen = new Set<string>()
  return source.statements.flatMap((statement) => {
    const exported = ts.canHaveModifiers(statement) &&
      ts.getModifiers(statement)?.some((modifier) => modifier.kind === ts.SyntaxKind.ExportKeyword) === true
    if (!exported || ts.isModuleDeclaration(statement)) return []
    const named = ts.isVariableStatement(statement)
      ? statement.declarationList.declarations[0]
      : statement as ts.DeclarationStatement
    const name = named?.name?.getText(source) ?? "default"
    // the overloads of a function share the docstring of the first
    const overload = ts.isFunctionDeclaration(statement) && seen.has(name)
    seen.add(name)
    if (overload) return []
    const tags = ts.getJSDocTags(statement).map((tag) => tag.tagName.text)
    const missing = tags.includes("internal") ? [] : ["since", "category"].filter((tag) => !tags.includes(tag))
    if (missing.length === 0) return []
    const { character, line } = source.getLineAndCharacterOfPosition(statement.getStart(source))
    const what = `the docstring of ${name} lacks ${missing.map((tag) => `@${tag}`).join(" and ")}`
    return [{ where: `${file}:${line + 1}:${character + 1}`, what }]
  })
}

// ---------------------------------------------------------------------------------------------------------------------
// links
// ---------------------------------------------------------------------------------------------------------------------

/** Blank, so that what stands in code is neither link nor heading. */
const withoutCode = (text: string): string =>
  text.replace(/^( *)```[^]*?^ *```/gm, (block) => block.replace(/[^\n]/g, "")).replace(
    /`[^`\n]*`/g,
    (code) => code.replace(/[[\]()#]/g, " ")
  )

/** A heading's anchor, as GitHub makes it. */
const anchorOf = (heading: string): string =>
  heading.replace(/\[([^\]]*)\]\([^)]*\)/g, "$1").trim().toLowerCase().replace(/[^\p{L}\p{N}\s_-]/gu, "").replace(
    /\s/g,
    "-"
  )

const anchorsOf = (file: string): ReadonlySet<string> =>
  new Set(
    [...read(file).replace(/^```[^]*?^```/gm, "").matchAll(/^#+ (.*)$/gm)].map(([, heading = ""]) => anchorOf(heading))
  )

const brokenLinks = (file: string, text: string): ReadonlyArray<Complaint> =>
  withoutCode(text).split("\n").flatMap((line, index) =>
    [...line.matchAll(/\]\(([^)\s]+)\)/g)].flatMap((link) => {
      const [, target = ""] = link
      if (/^[a-z]+:/.test(target)) return []
      const [path = "", anchor] = target.split("#")
      const to = path === "" ? file : Path.posix.join(Path.posix.dirname(file), path)
      const where = `${file}:${index + 1}:${link.index + 1}`
      if (!Fs.existsSync(Path.join(root, to))) return [{ where, what: `there is no ${to}` }]
      return anchor === undefined || (to.endsWith(".md") && anchorsOf(to).has(anchor))
        ? []
        : [{ where, what: `${to} has no heading "#${anchor}"` }]
    })
  )

// ---------------------------------------------------------------------------------------------------------------------

const packages = Fs.readdirSync(Path.join(root, "packages")).map((name) => `packages/${name}`)
const sources = packages.flatMap((folder) => filesBelow(`${folder}/src`, ".ts"))
const documents = [
  ...Fs.readdirSync(root).filter((name) => name.endsWith(".md")),
  ...["docs", "examples", "benchmarks"].flatMap((folder) => filesBelow(folder, ".md")),
  ...packages.flatMap((folder) => filesBelow(folder, "README.md"))
]

const complaints: Array<Complaint> = []
const modules = [...documents, ...sources].flatMap((file) => examplesOf(file, read(file), complaints))
complaints.push(...typeCheck(modules))
for (const file of documents) complaints.push(...brokenLinks(file, read(file)))
for (const file of sources) {
  complaints.push(...bareExamples(file, read(file)))
  const isPublic = /^packages\/[^/]+\/src\/[^/]+\.ts$/.test(file) && !file.endsWith("/index.ts")
  if (isPublic) complaints.push(...docstringsOf(file, read(file)))
}

for (const { what, where } of complaints) console.error(`${where} - ${what}`)
console.log(
  `${modules.length} examples in ${new Set(modules.map(({ file }) => file)).size} files checked: ` +
    (complaints.length === 0 ? "all is well" : `${complaints.length} complaints`)
)
process.exitCode = complaints.length === 0 ? 0 : 1
