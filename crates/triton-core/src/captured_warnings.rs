//! Captures the warnings that a unit test's thread logs.

use std::fmt::Debug;
use std::sync::{Arc, Mutex};

use tracing::dispatcher::DefaultGuard;
use tracing::field::{Field, Visit};
use tracing::subscriber::NoSubscriber;
use tracing::{Dispatch, Event, Level, Metadata, Subscriber, span};

/// The warnings of this thread since [`start`](Self::start).
pub(crate) struct CapturedWarnings {
    log: Arc<Mutex<Log>>,
    _guard: DefaultGuard,
    /// With a single dispatcher, tracing asks only that of the thread which comes across a span or event first, and takes
    /// its answer for all threads: a test of another thread, which captures nothing, would switch it off. A second one
    /// makes tracing ask all of them.
    _second: Dispatch,
}

#[derive(Debug, Default)]
struct Log {
    spans: Vec<String>,
    entered: Vec<usize>,
    warnings: Vec<String>,
}

impl CapturedWarnings {
    pub(crate) fn start() -> Self {
        let log = Arc::<Mutex<Log>>::default();
        let guard = tracing::subscriber::set_default(Capture(Arc::clone(&log)));
        Self { log, _guard: guard, _second: Dispatch::new(NoSubscriber::default()) }
    }

    /// The warnings, each behind the fields of the span in which it was logged.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.log.lock().unwrap().warnings.clone()
    }
}

struct Capture(Arc<Mutex<Log>>);

#[derive(Default)]
struct Fields(String);

impl Visit for Fields {
    fn record_debug(&mut self, field: &Field, value: &dyn Debug) {
        self.0 += &format!("{field}={value:?} ");
    }
}

impl Subscriber for Capture {
    fn enabled(&self, metadata: &Metadata<'_>) -> bool {
        *metadata.level() <= Level::INFO
    }

    fn new_span(&self, span: &span::Attributes<'_>) -> span::Id {
        let mut fields = Fields::default();
        span.record(&mut fields);
        let mut log = self.0.lock().unwrap();
        log.spans.push(fields.0);
        span::Id::from_u64(log.spans.len() as u64)
    }

    fn record(&self, _: &span::Id, _: &span::Record<'_>) {}

    fn record_follows_from(&self, _: &span::Id, _: &span::Id) {}

    fn event(&self, event: &Event<'_>) {
        let mut fields = Fields::default();
        event.record(&mut fields);
        let mut log = self.0.lock().unwrap();
        if *event.metadata().level() == Level::WARN {
            let span = log.entered.last().map(|&span| log.spans[span - 1].clone()).unwrap_or_default();
            log.warnings.push(span + &fields.0);
        }
    }

    fn enter(&self, span: &span::Id) {
        self.0.lock().unwrap().entered.push(span.into_u64() as usize);
    }

    fn exit(&self, _: &span::Id) {
        self.0.lock().unwrap().entered.pop();
    }
}
