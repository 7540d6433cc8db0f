//! Partition keys: AWS accepts 256 characters, ferrokinesis 256 bytes.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};

use ferrokinesis::sequence::partition_key_to_hash_key;
use serde_json::Value;

/// The longest key: in bytes for ferrokinesis, in characters for AWS.
const LONGEST: usize = 256;

/// Keys that are stored as a shorter key of the same shard.
#[derive(Default)]
pub(super) struct LongKeys {
    stands_for: Mutex<HashMap<String, String>>,
}

impl LongKeys {
    /// Replaces a long key in a record to be put; returns whether there was one.
    pub(super) fn shorten(&self, record: &mut Value) -> bool {
        let Some(key) = record["PartitionKey"].as_str() else { return false };
        if key.len() <= LONGEST || key.chars().count() > LONGEST {
            return false;
        }
        let hash_key = partition_key_to_hash_key(key).to_string();
        let short = format!("key with hash key {hash_key}");
        self.stands_for.lock().unwrap_or_else(PoisonError::into_inner).insert(short.clone(), key.to_owned());
        record["PartitionKey"] = Value::from(short);
        if record["ExplicitHashKey"].is_null() {
            record["ExplicitHashKey"] = Value::from(hash_key);
        }
        true
    }

    /// Restores the long key in a record that is read.
    pub(super) fn restore(&self, record: &mut Value) {
        let stands_for = self.stands_for.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(key) = record["PartitionKey"].as_str().and_then(|short| stands_for.get(short)) {
            record["PartitionKey"] = Value::from(key.as_str());
        }
    }
}
