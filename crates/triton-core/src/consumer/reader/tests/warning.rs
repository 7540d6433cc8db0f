//! Warnings about many shards that fail together.

use super::*;
use crate::captured_warnings::CapturedWarnings;

#[tokio::test(start_paused = true)]
async fn an_outage_of_many_shards_is_logged_once_until_it_is_over() {
    let captured = CapturedWarnings::start();
    // Two outages of about 20 s each, with a pause between them.
    let mut script = vec![unreachable(); 12];
    script.extend(vec![Fetch::Empty(1); 600]);
    script.extend(vec![unreachable(); 12]);
    let client = Scripted::new(vec![script; 100]);
    let reader = client.read(until_caught_up()).await;
    assert!(read_all(reader).await.is_empty());
    let warned = captured.warnings();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    assert!(warned[0].starts_with("stream=\"scripted\" shard=shardId-0000000000"), "{}", warned[0]);
    assert!(warned[0].contains("no answer; trying again for up to 120 s"), "{}", warned[0]);
}
