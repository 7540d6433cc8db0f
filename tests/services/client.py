"""A Kinesis client without Triton: boto3 and msgpack, as a Python program uses them.

    client.py put STREAM FIELD    puts each JSON line of stdin; the field is the partition key
    client.py get STREAM          every record as a JSON line, shard by shard
    client.py put-many STREAM COUNT SIZE    puts COUNT records of SIZE bytes
    client.py get-many STREAM COUNT         reads and decodes at least COUNT records
"""

import json
import sys

import boto3
import msgpack

BATCH = 500


def put(kinesis, stream, records):
    """Puts (key, map) pairs, in calls of 500, and retries throttled ones."""
    batch = []
    for key, record in records:
        batch.append({"PartitionKey": key, "Data": msgpack.packb(record)})
        if len(batch) == BATCH:
            send(kinesis, stream, batch)
            batch = []
    if batch:
        send(kinesis, stream, batch)


def send(kinesis, stream, batch):
    while batch:
        answer = kinesis.put_records(StreamName=stream, Records=batch)
        batch = [entry for entry, result in zip(batch, answer["Records"]) if "ErrorCode" in result]


def get(kinesis, stream):
    """Every record of the stream, up to the newest of each shard."""
    for shard in kinesis.list_shards(StreamName=stream)["Shards"]:
        iterator = kinesis.get_shard_iterator(
            StreamName=stream, ShardId=shard["ShardId"], ShardIteratorType="TRIM_HORIZON"
        )["ShardIterator"]
        while iterator:
            answer = kinesis.get_records(ShardIterator=iterator, Limit=10_000)
            for record in answer["Records"]:
                yield shard["ShardId"], record
            if not answer["Records"] and answer["MillisBehindLatest"] == 0:
                break
            iterator = answer.get("NextShardIterator")


def as_json(value):
    if isinstance(value, bytes):
        return {"$hex": value.hex()}
    raise TypeError(type(value))


def main(action, stream, *rest):
    kinesis = boto3.client("kinesis")
    if action == "put":
        records = (json.loads(line) for line in sys.stdin)
        put(kinesis, stream, ((str(record[rest[0]]), record) for record in records))
    elif action == "get":
        for shard, record in get(kinesis, stream):
            line = {
                "shard": shard,
                "seq": record["SequenceNumber"],
                "key": record["PartitionKey"],
                "data": msgpack.unpackb(record["Data"]),
            }
            print(json.dumps(line, default=as_json))
    elif action == "put-many":
        count, size = map(int, rest)
        text = "x" * (size - 44)
        put(kinesis, stream, ((f"user-{n:012}", {"user": f"user-{n:012}", "msg": text, "ts": 1433969276.172}) for n in range(count)))
    elif action == "get-many":
        count = 0
        for _, record in get(kinesis, stream):
            count += "msg" in msgpack.unpackb(record["Data"])
        assert count >= int(rest[0]), count


main(*sys.argv[1:])
