/**
 * `Effect.async` for an effect that is run once, and many times a second.
 *
 * What `Effect.async` registers with is held by a function that V8 makes old from birth: it does so with every function
 * that is written behind `object.property =`, as the one in Effect's is. What is old keeps alive what it holds until the
 * next full collection, though it were garbage itself, and each young collection until then copies that once more. So
 * this lets go of the registration as soon as it is begun: it mostly holds all that a record consists of.
 */
import * as Effect from "effect/Effect"
import * as Exit from "effect/Exit"

type Register<A, E, R> = (resume: (effect: Effect.Effect<A, E, R>) => void) => void

class Registration<A, E, R> {
  private register: Register<A, E, R> | undefined
  constructor(register: Register<A, E, R>) {
    this.register = register
  }
  take(): Register<A, E, R> {
    const { register } = this
    this.register = undefined
    return register ?? again
  }
}

const again = (resume: (effect: Effect.Effect<never>) => void): void =>
  resume(Effect.dieMessage("an effect that is made for one run was run again"))

/** Can not be interrupted otherwise than by not being waited for any more. */
export const asyncOnce = <A, E = never, R = never>(register: Register<A, E, R>): Effect.Effect<A, E, R> => {
  const registration = new Registration(register)
  return Effect.async((resume) => registration.take()(resume))
}

/** The same of `Effect.tryPromise`. */
export const tryPromiseOnce = <A, E>(
  { catch: meaning, try: attempt }: {
    readonly try: () => Promise<A>
    readonly catch: (error: unknown) => E
  }
): Effect.Effect<A, E> =>
  asyncOnce((resume) => {
    const failed = (error: unknown): void => resume(Effect.failSync(() => meaning(error)))
    try {
      attempt().then((value) => resume(Exit.succeed(value)), failed)
    } catch (error) {
      failed(error)
    }
  })
