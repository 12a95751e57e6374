"""aiokafka: argument 1 what to do, argument 2 the work as JSON. Prints JSON."""

import asyncio
import json
import resource
import sys
import time

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer

BATCH = 1000
CALLERS = 1000


async def read(work, records, group):
    consumer = AIOKafkaConsumer(
        work["topic"],
        bootstrap_servers=work["brokers"],
        group_id=group,
        auto_offset_reset="earliest",
        enable_auto_commit=False,
        fetch_max_wait_ms=200,
        fetch_min_bytes=1,
        max_partition_fetch_bytes=4 * 1024 * 1024,
        fetch_max_bytes=32 * 1024 * 1024,
    )
    await consumer.start()
    # the last three quarters count, as in work.ts, which says why
    first, started, before, count, size = None, None, 0, 0, 0
    try:
        while count < records:
            batches = await consumer.getmany(timeout_ms=1000)
            if batches and first is None:
                first = time.perf_counter()
            for batch in batches.values():
                for record in batch:
                    size += len(record.value)
                count += len(batch)
            if started is None and records <= count * 4 < records * 4:
                started, before = time.perf_counter(), count
        return {"records": count - before, "seconds": time.perf_counter() - (started or first)}
    finally:
        await consumer.stop()


async def write(work, records, send):
    producer = AIOKafkaProducer(bootstrap_servers=work["brokers"], acks="all", enable_idempotence=True)
    value = b"x" * work["bytes"]
    await producer.start()
    try:
        await producer.send_and_wait(work["sink"], value, key=b"warm")
        started = time.perf_counter()
        await send(producer, value)
        return {"records": records, "seconds": time.perf_counter() - started}
    finally:
        await producer.stop()


def key(index):
    return f"run-{index % 1000}".encode()


async def batches(work, records, _):
    async def send(producer, value):
        for begin in range(0, records, BATCH):
            waiting = [
                await producer.send(work["sink"], value, key=key(index))
                for index in range(begin, min(records, begin + BATCH))
            ]
            await asyncio.gather(*waiting)

    return await write(work, records, send)


async def singles(work, records, _):
    async def send(producer, value):
        async def caller(first):
            for index in range(first, records, CALLERS):
                await producer.send_and_wait(work["sink"], value, key=key(index))

        await asyncio.gather(*(caller(first) for first in range(CALLERS)))

    return await write(work, records, send)


async def lone(work, records, _):
    async def send(producer, value):
        for index in range(records):
            await producer.send_and_wait(work["sink"], value, key=key(index))

    return await write(work, records, send)


async def main():
    run = {"bytes": read, "sendBatches": batches, "sendSingles": singles, "sendLone": lone}[sys.argv[1]]
    work = json.loads(sys.argv[2])
    if work["warmUp"] > 0:
        await run(work, work["warmUp"], work["groupId"] + "-warm")
    before = time.process_time()
    result = await run(work, work["records"], work["groupId"])
    result["cpuSeconds"] = time.process_time() - before
    result["peakRssBytes"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    print(json.dumps(result))


asyncio.run(main())
