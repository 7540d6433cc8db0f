//! A consumer that follows a stream until Ctrl-C: `cargo run --example consume`.
#![expect(clippy::print_stdout, reason = "it shows what it does")]

use serde::Deserialize;
use triton_stream::{Result, Start, Triton};

#[derive(Debug, Deserialize)]
struct Click {
    user: u32,
    page: String,
}

#[tokio::main]
async fn main() -> Result<()> {
    let stream = Triton::local().stream("clicks").await?;
    let mut clicks = stream.read_from(Start::All).await?.typed::<Click>();
    // Records that were fetched by then are still delivered; then the reader ends.
    let stop = clicks.stop_handle();
    tokio::spawn(async move {
        if tokio::signal::ctrl_c().await.is_ok() {
            stop.stop();
        }
    });
    while let Some(click) = clicks.next().await {
        let click = click?;
        match click.value {
            Ok(Click { user, page }) => println!("user {user} opened {page}"),
            // A record of another shape does not end the reader.
            Err(error) => println!("{} {}: {error}", click.record.shard_id, click.record.sequence_number),
        }
    }
    Ok(())
}
