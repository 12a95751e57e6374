// it is public, and has to have a public place: declarations of programs name the module it is from
export type { StreamError } from "../../KafkaError.ts"
