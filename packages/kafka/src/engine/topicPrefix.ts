/** The prefix of topic names: the rule that `KafkaConfig` and `TopicRegistry` share. */
import { isValidName } from "../Topic.ts"

/** Leaves room for a dot and a slug within Kafka's 249. */
const limit = 200

/** What is wrong with a prefix. */
export const prefixProblem = (prefix: string): string | undefined => {
  if (!isValidName(prefix) || prefix.length > limit) {
    return `expected 1 to ${limit} of letters, digits, ".", "_" and "-", found ${JSON.stringify(prefix)}`
  }
  if (prefix.startsWith(".") || prefix.endsWith(".")) {
    return `expected no "." at its ends, since one is put between prefix and slug, found ${JSON.stringify(prefix)}`
  }
  return undefined
}
