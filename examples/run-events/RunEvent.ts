/**
 * What happens on a coffee run, as it is stored in Kafka.
 */
import { Schema } from "effect"

export const Drink = Schema.Literal("espresso", "flat white", "cappuccino", "cortado", "filter coffee", "tea")
export type Drink = typeof Drink.Type

const common = {
  runId: Schema.String,
  /** Counts the events of a run from 1: a reader notices what is missing and what comes twice. */
  sequence: Schema.Int.pipe(Schema.positive())
}

export class RunCreated extends Schema.Class<RunCreated>("RunCreated")({
  type: Schema.tag("run_created"),
  ...common,
  host: Schema.String
}) {}

export class Joined extends Schema.Class<Joined>("Joined")({
  type: Schema.tag("joined"),
  ...common,
  person: Schema.String
}) {}

export class Ordered extends Schema.Class<Ordered>("Ordered")({
  type: Schema.tag("ordered"),
  ...common,
  person: Schema.String,
  drink: Drink
}) {}

export class RunCompleted extends Schema.Class<RunCompleted>("RunCompleted")({
  type: Schema.tag("run_completed"),
  ...common,
  cups: Schema.Int
}) {}

export const RunEvent = Schema.Union(RunCreated, Joined, Ordered, RunCompleted)
export type RunEvent = typeof RunEvent.Type
