//! A backend of a program's own: it registers itself, and works by config alone from then on.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;
use triton_stream::memory::MemoryBackend;
use triton_stream::{
    Backend, Check, CheckOutcome, Config, CreateOptions, Error, ReaderOptions, Result, Start, StreamAdmin,
    StreamClient, StreamConfig, Triton, async_trait,
};

/// Streams in memory, each in a drawer.
#[derive(Debug, Default)]
struct Toy {
    streams: MemoryBackend,
}

#[derive(Deserialize)]
struct Keys {
    drawer: String,
}

impl Toy {
    /// The stream under the name that it has in its drawer.
    fn in_drawer(&self, stream: &StreamConfig) -> Result<StreamConfig> {
        let Keys { drawer } = stream.settings.read()?;
        let mut stream = stream.clone();
        stream.name = format!("{drawer}.{}", stream.name);
        Ok(stream)
    }
}

#[async_trait]
impl Backend for Toy {
    fn name(&self) -> &str {
        "toy"
    }

    fn keys(&self) -> &[&str] {
        &["drawer"]
    }

    fn check(&self, stream: &StreamConfig) -> Result<()> {
        self.in_drawer(stream).map(drop)
    }

    async fn open(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamClient>> {
        self.streams.open(&self.in_drawer(stream)?).await
    }

    async fn admin(&self, stream: &StreamConfig) -> Result<Arc<dyn StreamAdmin>> {
        self.streams.admin(stream).await
    }

    fn create_options(&self, stream: &StreamConfig) -> Result<CreateOptions> {
        self.streams.create_options(stream)
    }

    async fn diagnose(&self, streams: &[StreamConfig]) -> Vec<Check> {
        let check = |stream: &StreamConfig| match self.in_drawer(stream) {
            Ok(placed) => Check::passed("stream", format!("'{}' is a toy: {}", stream.logical_name, placed.name)),
            Err(error) => Check::failed("stream", error),
        };
        streams.iter().map(check).collect()
    }
}

fn triton(text: &str) -> Result<Triton> {
    Triton::builder().register(Arc::new(Toy::default())).from_config(Config::parse(text, "triton.yaml")?)
}

const CONFIG: &str = "
clicks:
  name: clicks
  partition_key: user
  backend: toy
  drawer: top
  shards: 2
  region: us-east-1
";

#[tokio::test]
async fn a_backend_that_is_registered_works_by_config_alone() {
    let triton = triton(CONFIG).unwrap();
    let clicks = triton.stream("clicks").await.unwrap();
    assert_eq!(clicks.client().name(), "top.clicks");
    clicks.put(&json!({"user": "ann"})).await.unwrap();

    let again = triton.stream("clicks").await.unwrap();
    let mut records = again.reader(Start::All, ReaderOptions::default().with_until_caught_up(true)).await.unwrap();
    assert_eq!(records.next().await.unwrap().unwrap().partition_key.as_str(), "ann");
    assert!(records.next().await.is_none());

    let config = triton.stream_config("clicks").unwrap();
    let admin = triton.backend(&config).unwrap().admin(&config).await.unwrap();
    assert_eq!(admin.list().await.unwrap(), ["top.clicks"]);
    let checks = triton.backend(&config).unwrap().diagnose(&[config]).await;
    assert!(
        matches!(&checks[..], [Check { subject: "stream", outcome: CheckOutcome::Passed(words), .. }]
            if words == "'clicks' is a toy: top.clicks"),
        "{checks:?}"
    );
}

#[test]
fn its_keys_are_known_where_it_is_registered_and_checked_for_its_streams() {
    let problem = |text: &str| triton(text).unwrap_err().to_string();
    let misspelled = triton(&CONFIG.replace("drawer", "drawr")).unwrap_err();
    assert_eq!(misspelled.to_string(), "triton.yaml: line 6, column 3: clicks: unknown key 'drawr'");
    assert!(matches!(misspelled, Error::Config(error) if error.similar.as_deref() == Some("drawer")));
    assert_eq!(
        problem(&CONFIG.replace("  drawer: top\n", "")),
        "triton.yaml: line 3, column 3: clicks: missing field `drawer`"
    );
    // A stream that goes live leaves its keys where they are.
    triton(&CONFIG.replace("  backend: toy\n", "")).unwrap();

    let unregistered = Triton::from_config(Config::parse(CONFIG, "triton.yaml").unwrap()).unwrap_err().to_string();
    assert_eq!(
        unregistered,
        "triton.yaml: line 5, column 12: clicks.backend: unknown backend 'toy' (known: kinesis, local)"
    );
}
