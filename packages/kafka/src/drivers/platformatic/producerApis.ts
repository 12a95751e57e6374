/**
 * The requests of a producer: records, identities, transactions.
 */
import type { produceV11, Writer } from "@platformatic/kafka"
import type { Library } from "./library.ts"
import { api, type Version } from "./versions.ts"

/** `true` where the broker is asked for no answer. */
export type ProduceResponse = produceV11.ProduceResponse | boolean

/**
 * A produce request that is encoded already: so that what can't be encoded is told apart from what was sent, and waits
 * for no other. These versions have the same request.
 */
const produce = (library: Library) => {
  const version = (number: number, { parseResponse }: typeof library.produceV11): Version<[Writer], ProduceResponse> =>
    library.createAPI<[Writer], ProduceResponse>(0, number, (encoded: Writer) => encoded, parseResponse)
  return api(
    "Produce",
    version(11, library.produceV11),
    version(10, library.produceV10),
    version(9, library.produceV9)
  )
}

/** @internal its type is made of the library's own, which a declaration could not name */
export const make = (library: Library) => ({
  produce: produce(library),
  initProducerId: api("InitProducerId", library.initProducerIdV5.api, library.initProducerIdV4.api),
  // later versions are for brokers among themselves
  addPartitionsToTxn: api("AddPartitionsToTxn", library.addPartitionsToTxnV3.api),
  addOffsetsToTxn: api("AddOffsetsToTxn", library.addOffsetsToTxnV4.api, library.addOffsetsToTxnV3.api),
  txnOffsetCommit: api("TxnOffsetCommit", library.txnOffsetCommitV4.api, library.txnOffsetCommitV3.api),
  endTxn: api("EndTxn", library.endTxnV4.api, library.endTxnV3.api)
})
