/** All parts of the suite that run on a cluster which is up. */
import { administering } from "./administering.ts"
import { badInput } from "./badInput.ts"
import { bounds } from "./bounds.ts"
import { commits } from "./commits.ts"
import { decoding } from "./decoding.ts"
import { failures } from "./failures.ts"
import { features } from "./features.ts"
import { groups } from "./groups.ts"
import { partitioning } from "./partitioning.ts"
import { positions } from "./positions.ts"
import { processing } from "./processing.ts"
import { producing } from "./producing.ts"
import { records } from "./records.ts"
import { serdes } from "./serdes.ts"
import { streams } from "./streams.ts"
import { worker } from "./worker.ts"

export const parts = [
  records,
  serdes,
  partitioning,
  producing,
  streams,
  commits,
  bounds,
  positions,
  decoding,
  badInput,
  processing,
  groups,
  failures,
  features,
  administering,
  worker
]
