//! Packs small records into aggregates, as the Kinesis Producer Library does: `aggregate: true` in the config is
//! enough.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::sync::Arc;

use serde_json::json;
use triton_stream::memory::MemoryBackend;
use triton_stream::{Config, ReaderOptions, Result, Start, Triton};

const CONFIG: &str = "
readings:
  name: readings
  partition_key: sensor
  aggregate: true
  backend: memory
";

#[tokio::main]
async fn main() -> Result<()> {
    let config = Config::parse(CONFIG, "triton.yaml")?;
    let triton = Triton::builder().register(Arc::new(MemoryBackend::default())).from_config(config)?;
    let stream = triton.stream("readings").await?;

    let readings: Vec<_> = (0..1000).map(|n| json!({"sensor": n % 10, "value": n})).collect();
    for outcome in stream.put_many(&readings).await {
        outcome?;
    }

    // The reader unpacks them. Records of one aggregate share its sequence number and differ in their sub-sequence
    // numbers.
    let mut records = stream.reader(Start::All, ReaderOptions::default().with_until_caught_up(true)).await?;
    let (mut read, mut stored) = (0, std::collections::BTreeSet::new());
    while let Some(record) = records.next().await {
        let record = record?;
        stored.insert((record.shard_id, record.sequence_number));
        read += 1;
    }
    println!("{read} records, stored under {} sequence numbers", stored.len());
    Ok(())
}
