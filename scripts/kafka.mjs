#!/usr/bin/env node
// Starts a real Kafka for tests, examples and benchmarks: `npm run kafka -- --help`.
import { register } from "tsx/esm/api"

register()
await import("./kafka/main.ts")
