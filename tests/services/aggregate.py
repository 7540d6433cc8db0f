"""Aggregated records as aws_kinesis_agg packs and unpacks them. Records are JSON lines {"key", "hash_key", "data"}, whose
payload is in base64 and whose explicit hash key may be null.

    aggregate.py unpack       prints one line per record of stdin: the list of its inner records, or of itself
    aggregate.py pack BYTES   packs the records of stdin into aggregates of less than BYTES bytes
"""

import base64
import json
import sys

from aws_kinesis_agg.aggregator import RecordAggregator
from aws_kinesis_agg.deaggregator import deaggregate_records


def unpack(record):
    """Returns the inner records of a record, which is passed in the format of an AWS Lambda event."""
    outer = {
        "kinesisSchemaVersion": "1.0",
        "sequenceNumber": "4955",
        "approximateArrivalTimestamp": 1433969276.172,
        "partitionKey": record["key"],
        "explicitHashKey": record["hash_key"],
        "data": record["data"],
    }
    for inner in deaggregate_records([{"kinesis": outer}]):
        inner = inner["kinesis"]
        data = inner["data"]
        yield {
            "key": inner["partitionKey"],
            "hash_key": inner["explicitHashKey"],
            "data": data if isinstance(data, str) else data.decode(),
            "sub": inner.get("subSequenceNumber"),
        }


def pack(records, size):
    aggregator = RecordAggregator(size)
    for record in records:
        full = aggregator.add_user_record(record["key"], base64.b64decode(record["data"]), record["hash_key"])
        if full:
            yield full
    last = aggregator.clear_and_get()
    if last:
        yield last


def main(action, *rest):
    records = (json.loads(line) for line in sys.stdin)
    if action == "unpack":
        for record in records:
            print(json.dumps(list(unpack(record))))
    elif action == "pack":
        for aggregate in pack(records, int(rest[0])):
            key, hash_key, data = aggregate.get_contents()
            print(json.dumps({"key": key, "hash_key": hash_key, "data": base64.b64encode(data).decode()}))


main(*sys.argv[1:])
