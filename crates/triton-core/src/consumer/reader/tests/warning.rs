//! Warnings about many shards that fail together.

use std::sync::Mutex;

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Metadata, Subscriber, span};

use super::*;

/// A subscriber that collects warnings, each prefixed with the fields of its span.
#[derive(Clone, Debug, Default)]
struct Warnings(Arc<Mutex<Log>>);

#[derive(Debug, Default)]
struct Log {
    spans: Vec<String>,
    entered: Vec<usize>,
    warnings: Vec<String>,
}

#[derive(Default)]
struct Text(String);

impl Visit for Text {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Warnings {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut text = Text::default();
        span.record(&mut text);
        let mut log = self.0.lock().unwrap();
        log.spans.push(text.0);
        span::Id::from_u64(log.spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut text = Text::default();
        event.record(&mut text);
        let mut log = self.0.lock().unwrap();
        if *event.metadata().level() == Level::WARN {
            let span = log.entered.last().map(|&span| log.spans[span - 1].clone()).unwrap_or_default();
            log.warnings.push(span + &text.0);
        }
    }

    fn enter(&self, span: &span::Id) {
        self.0.lock().unwrap().entered.push(span.into_u64() as usize);
    }

    fn exit(&self, _: &span::Id) {
        self.0.lock().unwrap().entered.pop();
    }
}

#[tokio::test(start_paused = true)]
async fn an_outage_of_many_shards_is_logged_once_until_it_is_over() {
    let warnings = Warnings::default();
    let guard = tracing::subscriber::set_default(warnings.clone());
    // Two outages of about 20 s each, with a pause between them.
    let mut script = vec![unreachable(); 12];
    script.extend(vec![Fetch::Empty(1); 600]);
    script.extend(vec![unreachable(); 12]);
    let client = Scripted::new(vec![script; 100]);
    let reader = client.read(until_caught_up()).await;
    assert!(read_all(reader).await.is_empty());
    let warned = warnings.0.lock().unwrap().warnings.clone();
    assert_eq!(warned.len(), 2, "{warned:#?}");
    assert!(warned[0].starts_with("stream=\"scripted\" shard=shardId-0000000000"), "{}", warned[0]);
    assert!(warned[0].contains("no answer; trying again for up to 120 s"), "{}", warned[0]);
    drop(guard);
}
