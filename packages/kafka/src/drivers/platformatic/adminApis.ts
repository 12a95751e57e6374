/**
 * The requests of administration.
 */
import type { Library } from "./library.ts"
import { api } from "./versions.ts"

/** Later versions say more of each group. */
interface ListedGroups {
  readonly groups: ReadonlyArray<{ readonly groupId: string; readonly protocolType: string }>
}

/** @internal its type is made of the library's own, which a declaration could not name */
export const make = (library: Library) => ({
  createTopics: api("CreateTopics", library.createTopicsV7.api),
  deleteTopics: api("DeleteTopics", library.deleteTopicsV6.api),
  createPartitions: api("CreatePartitions", library.createPartitionsV3.api, library.createPartitionsV2.api),
  incrementalAlterConfigs: api("IncrementalAlterConfigs", library.incrementalAlterConfigsV1.api),
  deleteRecords: api("DeleteRecords", library.deleteRecordsV2.api),
  listGroups: api<[states: [], types: []], ListedGroups>(
    "ListGroups",
    library.listGroupsV5.api,
    library.listGroupsV4.api
  ),
  describeGroups: api("DescribeGroups", library.describeGroupsV5.api),
  consumerGroupDescribe: api("ConsumerGroupDescribe", library.consumerGroupDescribeV0.api),
  deleteGroups: api("DeleteGroups", library.deleteGroupsV2.api)
})
