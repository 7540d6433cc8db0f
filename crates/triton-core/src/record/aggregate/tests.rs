//! Packing and unpacking, compared with aggregates by aws-kinesis-agg and with a decoder generated from the schema.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use md5::{Digest, Md5};
use proptest::prelude::*;
use prost::Message as _;

use super::*;
use crate::model::hash_key::HashKey;
use crate::model::sequence_number::SequenceNumber;
use crate::model::shard::ShardId;
use crate::model::timestamp::Timestamp;
use crate::record::{PartitionKey, PutEntry, Record};

/// The format's schema, decoded by prost.
#[derive(Clone, PartialEq, prost::Message)]
struct AggregatedRecord {
    #[prost(string, repeated, tag = "1")]
    partition_key_table: Vec<String>,
    #[prost(string, repeated, tag = "2")]
    explicit_hash_key_table: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    records: Vec<InnerRecord>,
}

#[derive(Clone, PartialEq, prost::Message)]
struct InnerRecord {
    #[prost(uint64, optional, tag = "1")]
    partition_key_index: Option<u64>,
    #[prost(uint64, optional, tag = "2")]
    explicit_hash_key_index: Option<u64>,
    #[prost(bytes = "bytes", optional, tag = "3")]
    data: Option<Bytes>,
}

impl AggregatedRecord {
    /// Key, explicit hash key and payload of each record; `None` if a record refers to a missing key.
    fn user_records(&self) -> Option<Vec<(String, Option<HashKey>, Bytes)>> {
        let user_record = |record: &InnerRecord| {
            let key = self.partition_key_table.get(record.partition_key_index? as usize)?.clone();
            let hash_key = match record.explicit_hash_key_index {
                Some(index) => Some(self.explicit_hash_key_table.get(index as usize)?.parse().ok()?),
                None => None,
            };
            Some((key, hash_key, record.data.clone()?))
        };
        self.records.iter().map(user_record).collect()
    }
}

fn read(data: impl Into<Bytes>) -> Record {
    let arrival = Timestamp::from_millis(1_433_969_276_172);
    Record::new(ShardId::numbered(3), SequenceNumber::from(4955), PartitionKey::stored("outer"), arrival, data)
}

/// Adds the magic bytes and the MD5 to a message.
fn framed(message: &[u8]) -> Vec<u8> {
    [&MAGIC[..], message, &Md5::digest(message)[..]].concat()
}

fn entry(key: &str, hash_key: Option<u128>, data: impl Into<Bytes>) -> PutEntry {
    let entry = PutEntry::new(PartitionKey::stored(key), data);
    match hash_key {
        Some(hash_key) => entry.with_explicit_hash_key(HashKey(hash_key)),
        None => entry,
    }
}

/// Packs the entries, and checks the size after each push.
fn pack(entries: &[PutEntry]) -> Option<PutEntry> {
    let mut packer = Packer::new();
    for entry in entries {
        let size = packer.size_with(entry);
        assert!(!packer.push_within(entry, size - 1));
        assert!(packer.push_within(entry, size));
        assert_eq!(packer.size(), size);
    }
    assert_eq!((packer.len(), packer.is_empty()), (entries.len(), entries.is_empty()));
    let size = packer.size();
    let packed = packer.finish();
    assert_eq!(packed.as_ref().map_or(0, PutEntry::size), size);
    packed
}

/// Asserts that the records are those of an aggregate of these entries.
fn assert_unpacked(records: &[Record], entries: &[PutEntry]) {
    assert_eq!(records.len(), entries.len());
    for ((record, entry), number) in records.iter().zip(entries).zip(0..) {
        let expected = Record {
            sub_sequence_number: Some(number),
            partition_key: entry.partition_key.clone(),
            ..read(entry.data.clone())
        };
        assert_eq!(*record, expected);
    }
}

fn golden(json: &str) -> Vec<serde_json::Value> {
    serde_json::from_str(json).unwrap()
}

fn base64(case: &serde_json::Value) -> Vec<u8> {
    STANDARD.decode(case["data"].as_str().unwrap()).unwrap()
}

/// Aggregates by aws-kinesis-agg, each with its entries.
fn aggregates() -> Vec<(Vec<u8>, Vec<PutEntry>)> {
    let entries = |case: &serde_json::Value| {
        let records = case["user_records"].as_array().unwrap().iter();
        let hash_key = |record: &serde_json::Value| Some(record["explicit_hash_key"].as_str()?.parse().unwrap());
        records
            .map(|record| entry(record["partition_key"].as_str().unwrap(), hash_key(record), base64(record)))
            .collect()
    };
    let cases = golden(include_str!("../../../golden/aggregates.json"));
    cases.iter().map(|case| (base64(case), entries(case))).collect()
}

#[test]
fn aggregates_of_other_writers_are_unpacked_and_packed_to_the_same_bytes() {
    let cases = aggregates();
    assert_eq!(cases.len(), 5);
    for (data, entries) in cases {
        assert_unpacked(&unpack(&read(data.clone())).unwrap(), &entries);
        let packed = pack(&entries).unwrap();
        assert_eq!(packed.data, data);
        assert_eq!(packed.partition_key.as_str(), "a");
        assert_eq!(packed.explicit_hash_key, Some(entries[0].hash_key()));
    }
}

#[test]
fn a_record_that_is_not_an_aggregate_is_unchanged() {
    let cases = golden(include_str!("../../../golden/bad_aggregates.json"));
    assert_eq!(cases.len(), 4);
    for case in cases {
        let record = read(base64(&case));
        assert_eq!(unpack(&record), None, "{}", case["what"]);
        assert_eq!(unpack_all(vec![record.clone()]), [record], "{}", case["what"]);
    }
}

#[test]
fn a_record_whose_message_breaks_the_schema_is_not_an_aggregate() {
    let whole = [&b"\x0a\x01k\x12\x0212\x12\x03+-1"[..], b"\x1a\x07\x08\x00\x10\x00\x1a\x01x"].concat();
    assert_eq!(unpack(&read(framed(&whole))).unwrap().len(), 1);
    let followed_by =
        |record: &[u8]| unpack(&read(framed(&[&whole[..], record].concat()))).map(|records| records.len());
    for (what, record) in [
        ("an empty record", &b"\x1a\x00"[..]),
        ("no key", b"\x1a\x03\x1a\x01x"),
        ("no payload", b"\x1a\x02\x08\x00"),
        ("a key index out of range", b"\x1a\x05\x08\x01\x1a\x01x"),
        ("a key index past 64 bits", b"\x1a\x0f\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x02\x1a\x01x"),
        ("an explicit hash key index out of range", b"\x1a\x07\x08\x00\x10\x02\x1a\x01x"),
        ("an explicit hash key that is no number", b"\x1a\x07\x08\x00\x10\x01\x1a\x01x"),
        ("a key index that is text", b"\x1a\x06\x0a\x01k\x1a\x01x"),
        ("a record that ends early", b"\x1a\x07\x08\x00\x1a\x01x"),
        ("a payload that ends early", b"\x1a\x05\x08\x00\x1a\x02x"),
        ("a length of 2^63", b"\x1a\x80\x80\x80\x80\x80\x80\x80\x80\x80\x01"),
        ("a key that is not UTF-8", b"\x0a\x01\xff"),
        ("a group that does not end", b"\x2b\x08\x00"),
        ("a group that did not start", b"\x2c"),
        ("field 0", b"\x00\x00"),
    ] {
        assert_eq!(followed_by(record), None, "{what}");
    }
    for (what, record) in [
        ("a tag", &b"\x1a\x0b\x08\x00\x1a\x01x\x22\x04\x0a\x02ab"[..]),
        ("fields in another order", b"\x1a\x05\x1a\x01x\x08\x00"),
        ("a key after the record that refers to it", b"\x1a\x05\x08\x01\x1a\x01x\x0a\x01l"),
        ("an empty payload", b"\x1a\x04\x08\x00\x1a\x00"),
        ("a field of a later version", b"\x2b\x08\x00\x2c\x35\x00\x00\x00\x00\x1a\x05\x08\x00\x1a\x01x"),
    ] {
        assert_eq!(followed_by(record), Some(2), "{what}");
    }
}

#[test]
fn an_aggregate_of_no_records_delivers_nothing_as_with_the_kcl() {
    assert_eq!(unpack(&read(framed(b""))), None);
    let record = read(framed(b"\x0a\x01k"));
    assert_eq!(unpack(&record).unwrap(), []);
    assert_eq!(unpack_all(vec![record]), []);
}

#[test]
fn payloads_are_not_copied_and_equal_keys_share_memory() {
    let entries = ["a", "b", "a"].map(|key| entry(key, None, "payload"));
    let packed = pack(&entries).unwrap();
    let outer = packed.data.as_ptr_range();
    let records = unpack(&read(packed.data)).unwrap();
    assert!(records.iter().all(|record| outer.contains(&record.data.as_ptr())));
    let key = |index: usize| records[index].partition_key.as_str().as_ptr();
    assert_eq!(key(0), key(2));
    assert!(!outer.contains(&key(0)), "keeping a key does not keep the whole aggregate");
}

#[test]
fn an_aggregate_in_an_aggregate_is_packed_as_a_payload() {
    let inner = pack(&["a", "b"].map(|key| entry(key, None, "x"))).unwrap();
    let records = unpack(&read(pack(&[inner.clone(), inner.clone()]).unwrap().data)).unwrap();
    assert_eq!(records.len(), 2);
    assert_eq!(records[0].data, inner.data);
    assert_eq!(unpack_all(records.clone()).len(), 4);
}

#[test]
fn aggregates_in_a_list_are_replaced_and_a_list_without_any_is_returned_unchanged() {
    let (data, entries) = aggregates().swap_remove(1);
    let wrong = [&MAGIC[..], b"text"].concat();
    // The last record refers to a missing key, so the record before it is not delivered either.
    let broken = framed(b"\x0a\x01k\x1a\x05\x08\x00\x1a\x01x\x1a\x05\x08\x01\x1a\x01x");
    let plain = [read("plain"), read(wrong), read(""), read(broken)];
    let mut records = plain.to_vec();
    records.insert(2, read(data));
    let unpacked = unpack_all(records);
    assert_eq!(unpacked[..2], plain[..2]);
    assert_unpacked(&unpacked[2..2 + entries.len()], &entries);
    assert_eq!(unpacked[2 + entries.len()..], plain[2..]);

    let plain = vec![read("one"), read("two")];
    let address = plain.as_ptr();
    let unpacked = unpack_all(plain);
    assert_eq!(unpacked.as_ptr(), address);
}

/// Entries with repeated keys, and with keys and payloads of various lengths.
fn entries() -> impl Strategy<Value = Vec<PutEntry>> {
    let key = prop_oneof!["[a-c]", "\\PC{1,9}", "x{120,200}"];
    let hash_key = prop_oneof![Just(None), any::<u128>().prop_map(Some), (0u128..3).prop_map(Some)];
    let data = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..9),
        prop::collection::vec(any::<u8>(), 110..140),
        (16_370usize..16_400).prop_map(|length| vec![7; length]),
    ];
    let entry = (key, hash_key, data).prop_map(|(key, hash_key, data)| entry(&key, hash_key, data));
    // Indexes from 128 on take two bytes.
    prop_oneof![
        prop::collection::vec(entry.clone(), 0..6),
        prop::collection::vec(entry, 0..6).prop_map(|entries| {
            let many = (0..300).map(|number| self::entry(&number.to_string(), Some(number), "x"));
            many.chain(entries).collect()
        }),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn unpacking_reverses_packing(entries in entries()) {
        match (pack(&entries), &entries[..]) {
            (None, []) => {}
            (Some(packed), [alone]) => prop_assert_eq!(&packed, alone),
            (Some(packed), entries) => {
                let message = packed.data.slice(MAGIC.len()..packed.data.len() - DIGEST);
                let schema = AggregatedRecord::decode(message.clone()).unwrap();
                prop_assert_eq!(schema.encode_to_vec(), message, "in the order of the fields' numbers");
                let expected: Vec<_> = entries
                    .iter()
                    .map(|entry| (entry.partition_key.to_string(), entry.explicit_hash_key, entry.data.clone()))
                    .collect();
                prop_assert_eq!(schema.user_records().unwrap(), expected);
                let mut keys = schema.partition_key_table;
                let before = keys.len();
                keys.sort();
                keys.dedup();
                prop_assert_eq!(keys.len(), before, "each key is stored once");
                assert_unpacked(&unpack(&read(packed.data)).unwrap(), entries);
            }
            (packed, _) => prop_assert!(false, "{packed:?}"),
        }
    }

    #[test]
    fn unpacking_never_panics_and_agrees_with_the_schema(
        (seed, cut) in (0usize..3, any::<prop::sample::Index>()),
        changes in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 0..4),
        random in prop::collection::vec(prop_oneof![any::<u8>(), 0u8..0x30], 0..60),
    ) {
        let (data, _) = aggregates().swap_remove(seed);
        let mut mutated = data[MAGIC.len()..data.len() - DIGEST].to_vec();
        for (index, byte) in changes {
            let at = index.index(mutated.len());
            mutated[at] = byte;
        }
        let shortened = mutated[..cut.index(mutated.len())].to_vec();
        for message in [mutated, shortened, random.clone()] {
            let record = read(framed(&message));
            let unpacked = unpack(&record);
            prop_assert_eq!(unpack_all(vec![record.clone()]), unpacked.clone().unwrap_or_else(|| vec![record]));
            // A field of another wire type than the schema's is an error for prost, and an unknown field for the KCL
            // and Triton.
            let Some(expected) = AggregatedRecord::decode(&message[..]).ok().filter(|_| !message.is_empty()) else {
                continue;
            };
            let expected = expected.user_records().map(|records| {
                records.into_iter().map(|(key, _, data)| (key, data)).collect::<Vec<_>>()
            });
            let unpacked = unpacked.map(|records| {
                records.into_iter().map(|record| (record.partition_key.to_string(), record.data)).collect::<Vec<_>>()
            });
            prop_assert_eq!(unpacked, expected);
        }
        prop_assert_eq!(unpack(&read(random.clone())), None);
        prop_assert_eq!(unpack(&read([&MAGIC[..], &random].concat())), None);
    }
}
