//! Aggregates exchanged with aws-kinesis-agg from PyPI, in both directions.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use triton_core::record::aggregate::{Packer, unpack, unpack_all};
use triton_core::{HashKey, PartitionKey, PutEntry, Record, SequenceNumber, ShardId, Timestamp};

use crate::home::Home;
use crate::python;

/// Runs aws-kinesis-agg with one JSON line per entry, and returns the JSON lines it prints.
fn aws_kinesis_agg(arguments: &[&str], entries: &[PutEntry]) -> Vec<Value> {
    let home = Home::new();
    let mut command = python("aggregate.py");
    command.args(arguments).env_clear().env("HOME", home.path());
    let input: String = entries.iter().map(|entry| format!("{}\n", as_json(entry))).collect();
    let ran = home.run_with(command, input.as_bytes()).ok();
    ran.stdout.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

fn as_json(entry: &PutEntry) -> Value {
    json!({
        "key": entry.partition_key.as_str(),
        "hash_key": entry.explicit_hash_key.map(|key| key.to_string()),
        "data": STANDARD.encode(&entry.data),
    })
}

/// A record as read from a shard.
fn read(key: &str, data: &str) -> Record {
    let data = STANDARD.decode(data).unwrap();
    let key = PartitionKey::stored(key);
    Record::new(ShardId::numbered(0), SequenceNumber::from(4955), key, Timestamp::default(), data)
}

fn entry(key: impl Into<String>, data: impl Into<Vec<u8>>) -> PutEntry {
    PutEntry::new(PartitionKey::new(key.into()).unwrap(), data.into())
}

/// A payload with every byte value.
fn payload(number: usize, length: usize) -> Vec<u8> {
    (0..length).map(|at| (number * 31 + at * 7) as u8).collect()
}

fn hash_key(number: usize) -> HashKey {
    HashKey(match number % 4 {
        0 => 0,
        1 => u128::MAX,
        _ => HashKey::of(&number.to_string()).0 >> (number % 120),
    })
}

/// Entries of many shapes, by name.
fn shapes() -> Vec<(&'static str, Vec<PutEntry>)> {
    let many = |count: usize, make: &dyn Fn(usize) -> PutEntry| (0..count).map(make).collect();
    let explicit = |number: usize| entry(format!("user-{}", number % 7), payload(number, 20));
    vec![
        ("one record", vec![entry("user-1", "hi")]),
        ("one record for a shard", vec![entry("user-1", "hi").with_explicit_hash_key(HashKey::MAX)]),
        ("two records", vec![entry("user-1", "hi"), entry("user-1", "mom")]),
        ("one key", many(400, &|number| entry("user-1", payload(number, number)))),
        ("a key each", many(400, &|number| entry(format!("user-{number}"), payload(number, 100)))),
        ("keys that repeat", many(400, &|number| entry(format!("user-{}", number * number % 60), payload(number, 50)))),
        ("empty payloads", many(200, &|number| entry(format!("user-{}", number % 3), ""))),
        (
            "keys of all scripts",
            many(200, &|number| {
                let keys = ["日本語", "🙂", "Straße", "\u{0}", "e\u{301}", "שלום", "'\"\\\n"];
                entry(keys[number % keys.len()].repeat(1 + number % 32), payload(number, 9))
            }),
        ),
        ("explicit hash keys", many(300, &|number| explicit(number).with_explicit_hash_key(hash_key(number)))),
        (
            "some explicit hash keys",
            many(300, &|number| match number % 3 {
                0 => explicit(number).with_explicit_hash_key(hash_key(number / 20)),
                _ => explicit(number),
            }),
        ),
        ("long payloads", many(12, &|number| entry(format!("user-{number}"), payload(number, 70_000)))),
    ]
}

#[test]
fn aws_kinesis_agg_unpacks_what_triton_packs() {
    let shapes = shapes();
    let packed: Vec<PutEntry> = shapes
        .iter()
        .map(|(_, entries)| {
            let mut packer = Packer::new();
            entries.iter().for_each(|entry| packer.push(entry));
            packer.finish().unwrap()
        })
        .collect();
    let unpacked = aws_kinesis_agg(&["unpack"], &packed);
    assert_eq!(unpacked.len(), shapes.len());
    for ((shape, entries), unpacked) in shapes.iter().zip(unpacked) {
        // If any record has an explicit hash key, it reports the first one for records without.
        let hash_keys: Vec<_> = entries.iter().map(|entry| entry.explicit_hash_key).collect();
        let default = hash_keys.iter().flatten().next().copied();
        let expected: Vec<Value> = entries
            .iter()
            .enumerate()
            .map(|(sub, entry)| {
                let shown = PutEntry::new(entry.partition_key.clone(), entry.data.clone());
                let mut line = as_json(&match entry.explicit_hash_key.or(default) {
                    Some(hash_key) => shown.with_explicit_hash_key(hash_key),
                    None => shown,
                });
                line["sub"] = if entries.len() > 1 { json!(sub) } else { Value::Null };
                line
            })
            .collect();
        assert_eq!(unpacked.as_array().unwrap(), &expected, "{shape}");
    }
}

#[test]
fn triton_unpacks_what_aws_kinesis_agg_packs() {
    for (shape, entries) in shapes() {
        // Small enough for several aggregates of most shapes.
        for size in ["20000", "1000000"] {
            if entries.iter().any(|entry| entry.size() > 19_000) && size == "20000" {
                continue;
            }
            let aggregates: Vec<Record> = aws_kinesis_agg(&["pack", size], &entries)
                .iter()
                .map(|line| read(line["key"].as_str().unwrap(), line["data"].as_str().unwrap()))
                .collect();
            let subs: Vec<u32> = aggregates.iter().flat_map(|record| 0..unpack(record).unwrap().len() as u32).collect();
            let records = unpack_all(aggregates);
            assert_eq!(records.len(), entries.len(), "{shape}");
            for ((record, entry), sub) in records.iter().zip(&entries).zip(subs) {
                assert_eq!(
                    (&record.partition_key, &record.data, record.sub_sequence_number),
                    (&entry.partition_key, &entry.data, Some(sub)),
                    "{shape}"
                );
            }
        }
    }
}

#[test]
fn both_pack_to_the_same_bytes() {
    for (shape, entries) in shapes().into_iter().filter(|(_, entries)| entries.len() > 1) {
        let theirs = aws_kinesis_agg(&["pack", "1000000"], &entries);
        assert_eq!(theirs.len(), 1, "{shape}");
        let mut packer = Packer::new();
        entries.iter().for_each(|entry| packer.push(entry));
        assert_eq!(as_json(&packer.finish().unwrap())["data"], theirs[0]["data"], "{shape}");
    }
}
