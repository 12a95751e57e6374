/**
 * The requests of a producer: records, identities, transactions.
 */
import type { initProducerIdV5, produceV11, txnOffsetCommitV4, Writer } from "@platformatic/kafka"
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
  return {
    produce: api(
      "Produce",
      version(11, library.produceV11),
      version(10, library.produceV10),
      version(9, library.produceV9)
    ),
    produceEntering: api("Produce", version(12, library.produceV11))
  }
}

/**
 * The second part of KIP-890, by which brokers take into a transaction what is written, and raise the epoch at its end.
 * The library lacks these versions by name alone: what they ask and answer is that of another, which it has.
 */
const entering = (library: Library) => {
  const { createRequest: endTxn } = library.endTxnV4
  const { createRequest: txnOffsetCommit, parseResponse: committed } = library.txnOffsetCommitV4
  const { parseResponse: identity } = library.initProducerIdV5
  return {
    endTxnRaising: api(
      "EndTxn",
      library.createAPI<Parameters<typeof endTxn>, initProducerIdV5.InitProducerIdResponse>(26, 5, endTxn, identity)
    ),
    txnOffsetCommitEntering: api(
      "TxnOffsetCommit",
      library.createAPI<Parameters<typeof txnOffsetCommit>, txnOffsetCommitV4.TxnOffsetCommitResponse>(
        28,
        5,
        txnOffsetCommit,
        committed
      )
    )
  }
}

/** @internal its type is made of the library's own, which a declaration could not name */
export const make = (library: Library) => ({
  ...produce(library),
  ...entering(library),
  initProducerId: api("InitProducerId", library.initProducerIdV5.api, library.initProducerIdV4.api),
  // later versions are for brokers among themselves
  addPartitionsToTxn: api("AddPartitionsToTxn", library.addPartitionsToTxnV3.api),
  addOffsetsToTxn: api("AddOffsetsToTxn", library.addOffsetsToTxnV4.api, library.addOffsetsToTxnV3.api),
  txnOffsetCommit: api("TxnOffsetCommit", library.txnOffsetCommitV4.api, library.txnOffsetCommitV3.api),
  endTxn: api("EndTxn", library.endTxnV4.api, library.endTxnV3.api)
})
