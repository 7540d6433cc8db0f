//! The progress of a put, shown on a terminal once it has taken a second.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use triton_stream::{PutEntry, Size};

use crate::args::Global;

const SHOWN_AFTER: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(super) struct Progress {
    is_wanted: bool,
    started: Instant,
    records: u64,
    bytes: usize,
    bar: Option<ProgressBar>,
}

impl Progress {
    pub(super) fn new(global: &Global) -> Self {
        let is_wanted = io::stderr().is_terminal() && !global.quiet;
        Self { is_wanted, started: Instant::now(), records: 0, bytes: 0, bar: None }
    }

    pub(super) fn add(&mut self, entry: &PutEntry) {
        self.records += 1;
        self.bytes += entry.size();
    }

    pub(super) fn show(&mut self) {
        let elapsed = self.started.elapsed();
        if !self.is_wanted || elapsed < SHOWN_AFTER {
            return;
        }
        let bar = self.bar.get_or_insert_with(|| {
            let style =
                ProgressStyle::with_template("{spinner} {msg}").unwrap_or_else(|_| ProgressStyle::default_spinner());
            ProgressBar::with_draw_target(None, ProgressDrawTarget::stderr()).with_style(style)
        });
        let rate = self.records as f64 / elapsed.as_secs_f64();
        bar.set_message(format!(
            "{} records, {}, {}/s",
            indicatif::HumanCount(self.records),
            Size(self.bytes),
            indicatif::HumanCount(rate as u64)
        ));
        bar.tick();
    }

    pub(super) fn finish(&mut self) {
        if let Some(bar) = self.bar.take() {
            bar.finish_and_clear();
        }
    }
}
