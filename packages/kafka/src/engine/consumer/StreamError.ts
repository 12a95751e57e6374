import type {
  ClientError,
  CommitError,
  ConsumerError,
  DeserializationError,
  KafkaAuthorizationError,
  OffsetOutOfRangeError,
  UnknownTopicError,
  UnsupportedFeatureError
} from "../../KafkaError.ts"

/** What a stream of a consumer can fail with. */
export type StreamError =
  | ConsumerError
  | ClientError
  | UnknownTopicError
  | UnsupportedFeatureError
  | KafkaAuthorizationError
  | OffsetOutOfRangeError
  | CommitError
  | DeserializationError
