//! The SDK's records as Triton's.

use aws_sdk_kinesis::types::Record as SdkRecord;
use bytes::Bytes;
use bytestring::ByteString;
use triton_core::{PartitionKey, Record, Result, ShardId, Timestamp};

use crate::clock::to_timestamp;
use crate::error::contract_violation;

/// Payloads up to this size are copied into one shared buffer; larger ones keep the SDK's. The SDK allocates every key
/// and payload separately, and to free them one by one on the consumer's thread costs more than the copy.
const SMALL: usize = 512;

/// Converts the records of a page. Keys share one buffer, and so do small payloads.
pub(crate) fn to_records(shard: &ShardId, page: Vec<SdkRecord>) -> Result<Vec<Record>> {
    let key = |record: &SdkRecord| record.partition_key.as_ref().map_or(0, String::len);
    let payload = |record: &SdkRecord| Some(record.data.as_ref().len()).filter(|size| *size <= SMALL).unwrap_or(0);
    let mut keys = String::with_capacity(page.iter().map(key).sum());
    let mut payloads = Vec::with_capacity(page.iter().map(payload).sum());
    for record in &page {
        // Records may have no key in a stream that distributes them itself.
        keys.push_str(record.partition_key.as_deref().unwrap_or_default());
        if record.data.as_ref().len() <= SMALL {
            payloads.extend_from_slice(record.data.as_ref());
        }
    }
    let (keys, payloads) = (ByteString::from(keys), Bytes::from(payloads));
    let (mut key, mut payload) = (0, 0);
    let record = |record: SdkRecord| {
        let key_end = key + record.partition_key.as_ref().map_or(0, String::len);
        let partition_key = PartitionKey::stored(keys.slice_ref(&keys[key..key_end]));
        key = key_end;
        let size = record.data.as_ref().len();
        let data = if size <= SMALL {
            payload += size;
            payloads.slice(payload - size..payload)
        } else {
            Bytes::from(record.data.into_inner())
        };
        let arrival = record.approximate_arrival_timestamp.map_or(Timestamp::default(), to_timestamp);
        let number = record.sequence_number.parse();
        let number = number.map_err(|_| contract_violation("a record has an invalid sequence number"))?;
        Ok(Record::new(shard.clone(), number, partition_key, arrival, data))
    };
    page.into_iter().map(record).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use aws_sdk_kinesis::primitives::Blob;

    #[test]
    fn each_record_has_its_own_key_and_payload_at_every_size() {
        let texts = ["", "a", "日本語", &"x".repeat(SMALL), &"y".repeat(SMALL + 1), "z"];
        let page = texts.iter().enumerate().map(|(number, text)| {
            let key = (number % 3 != 1).then(|| format!("{text}-{number}"));
            let record = SdkRecord::builder().sequence_number(number.to_string()).data(Blob::new(*text));
            record.set_partition_key(key).build().unwrap()
        });
        let records = to_records(&ShardId::numbered(0), page.collect()).unwrap();
        for (number, (record, text)) in records.iter().zip(texts).enumerate() {
            let key = if number % 3 == 1 { String::new() } else { format!("{text}-{number}") };
            assert_eq!((record.partition_key.as_str(), &record.data[..]), (key.as_str(), text.as_bytes()));
            assert_eq!(record.sequence_number, (number as u64).into());
        }
    }
}
