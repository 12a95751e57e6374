/** All parts of the suite that run on a cluster which is up. */
import { partitioning } from "./partitioning.ts"
import { producing } from "./producing.ts"
import { records } from "./records.ts"
import { serdes } from "./serdes.ts"

export const parts = [records, serdes, partitioning, producing]
