//! A producer of many records: `cargo run --example produce`.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use std::time::Duration;

use serde::Serialize;
use triton_stream::{Result, Triton};

#[derive(Serialize)]
struct Click {
    user: u32,
    page: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let stream = Triton::local().stream("clicks").await?;
    for number in 0..10_000 {
        // Waits for room in the budget, not for the stream. The ticket resolves to the receipt; whoever does not need it
        // learns of failures from the summary.
        drop(stream.submit(&Click { user: number % 100, page: format!("/{number}") }).await?);
    }
    // Everything that was submitted is acknowledged or failed by then, at the latest after a minute.
    let summary = stream.close_within(Duration::from_secs(60)).await?;
    println!("{} acknowledged, {} failed, {} unknown", summary.acknowledged, summary.failed, summary.unknown);
    Ok(())
}
