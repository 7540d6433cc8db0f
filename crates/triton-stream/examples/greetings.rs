//! A producer and a consumer, on the backend that the config names: `cargo run --example greetings`.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use serde::{Deserialize, Serialize};
use triton_stream::{ReaderOptions, Result, Start, Stream, Triton};

#[derive(Serialize, Deserialize)]
struct Greeting {
    value: String,
    number: u32,
}

#[tokio::main]
async fn main() -> Result<()> {
    let stream = Triton::find()?.stream("my_stream").await?;
    produce(&stream).await?;
    consume(&stream).await?;
    stream.close().await?;
    Ok(())
}

async fn produce(stream: &Stream) -> Result<()> {
    // The value is any map or struct. It is durable when the call returns.
    let receipt = stream.put(&Greeting { value: "hi mom".into(), number: 0 }).await?;
    println!("stored in {}", receipt.shard_id);

    // Many records in few requests: each has a ticket, which resolves to its receipt.
    let mut tickets = Vec::new();
    for number in 1..=100 {
        tickets.push(stream.submit(&Greeting { value: "hi again".into(), number }).await?);
    }
    for ticket in tickets {
        ticket.await?;
    }
    Ok(())
}

async fn consume(stream: &Stream) -> Result<()> {
    // From the oldest record to the newest. `stream.read_from(Start::Latest)` follows the stream without an end.
    let to_the_end = ReaderOptions::default().with_until_caught_up(true);
    let mut records = stream.reader(Start::All, to_the_end).await?;
    while let Some(record) = records.next().await {
        let record = record?;
        let greeting: Greeting = record.decode()?;
        println!("{} {}", greeting.number, greeting.value);
    }
    Ok(())
}
