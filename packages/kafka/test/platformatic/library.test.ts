import { expect, it } from "@effect/vitest"
import * as Effect from "effect/Effect"
import * as Library from "../../src/drivers/platformatic/library.ts"

const source = (more: Partial<Library.Source>): Library.Source => ({
  node: process.versions.node,
  installed: () => "2.12.1",
  load: () => import("@platformatic/kafka"),
  ...more
})

it.effect("a Node that is too old is told apart in one sentence, before anything is loaded", () =>
  Effect.gen(function*() {
    const load = () => Promise.reject(new Error("loaded"))
    for (const node of ["20.19.0", "22.21.9"]) {
      const error = yield* Effect.flip(Library.load(source({ node, load })))
      expect(error).toMatchObject({ _tag: "UnsupportedFeatureError", driver: "platformatic" })
      expect(error.message).toContain(`it needs Node 22.22.0 or later, and this is Node ${node}`)
      expect(error.message).not.toContain("\n")
    }
    for (const node of ["22.22.0", "24.0.1", "26.1.0"]) expect(Library.nodeProblem(node)).toBeUndefined()
  }))

it.effect("a version of the package that the driver does not know is refused by name", () =>
  Effect.gen(function*() {
    for (const version of ["1.38.0", "2.11.9", "3.0.0"]) {
      const error = yield* Effect.flip(Library.load(source({ installed: () => version })))
      expect(error.message).toContain(`or a later 2.x, and found ${version}`)
    }
    for (const version of ["2.12.0", "2.13.0-beta.1"]) expect(Library.libraryProblem(version)).toBeUndefined()
  }))

it.effect("a package that is not there is a typed error that says how to install it", () =>
  Effect.gen(function*() {
    const error = yield* Effect.flip(Library.load(source({
      installed: () => undefined,
      load: () => Promise.reject(new Error("Cannot find package '@platformatic/kafka' imported from here\nmore"))
    })))
    expect(error.message).toContain("npm install @platformatic/kafka@2.12.0")
    expect(error.message).not.toContain("\n")
  }))

it.effect("the package that is installed is found, and is of the right version", () =>
  Effect.map(Library.load(), (library) => expect(typeof library.Connection).toBe("function")))
