/**
 * The requests of administration.
 */
import type { Library } from "./library.ts"
import { api } from "./versions.ts"

export const make = (library: Library) => ({
  createTopics: api("CreateTopics", library.createTopicsV7.api),
  deleteTopics: api("DeleteTopics", library.deleteTopicsV6.api),
  createPartitions: api("CreatePartitions", library.createPartitionsV3.api, library.createPartitionsV2.api),
  incrementalAlterConfigs: api("IncrementalAlterConfigs", library.incrementalAlterConfigsV1.api),
  deleteRecords: api("DeleteRecords", library.deleteRecordsV2.api),
  listGroups: api("ListGroups", library.listGroupsV5.api),
  describeGroups: api("DescribeGroups", library.describeGroupsV5.api),
  consumerGroupDescribe: api("ConsumerGroupDescribe", library.consumerGroupDescribeV0.api),
  deleteGroups: api("DeleteGroups", library.deleteGroupsV2.api)
})
