//! `triton doctor`: checks config, credentials, streams and clocks, and prints one line per check.
//!
//! The config is checked here. Each backend checks its streams and where they are.

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use triton_stream::{Check, CheckOutcome, StreamConfig};

use crate::args::Global;
use crate::exit::{self, Code, Reported};
use crate::printer;
use crate::session::Session;

/// Check config, credentials, streams and clocks
///
/// Prints one line per check. The exit code is that of the first check that failed.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Check only this stream, by its logical name
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
}

pub(crate) async fn run(global: &Global, args: DoctorArgs) -> Result<()> {
    let mut report = Report::default();
    match Session::new(global) {
        Ok(session) => report.session(&session, &args).await?,
        Err(error) => report.fail("config", &error),
    }
    let is_colored = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    if is_colored {
        printer::print_all(&report.text)?;
    } else {
        printer::print_all(&anstream::adapter::strip_str(&report.text).to_string())?;
    }
    match report.failed {
        Some(code) => Err(Reported(code).into()),
        None => Ok(()),
    }
}

/// The lines so far, and the code of the first failure.
#[derive(Default)]
struct Report {
    text: String,
    failed: Option<Code>,
}

impl Report {
    fn fine(&mut self, check: &str, words: &str) {
        self.line("ok", AnsiColor::Green, check, words);
    }

    fn warn(&mut self, check: &str, words: &str) {
        self.line("warn", AnsiColor::Yellow, check, words);
    }

    fn fail(&mut self, check: &str, error: &anyhow::Error) {
        self.line("FAIL", AnsiColor::Red, check, &format!("{error:#}"));
        self.failed.get_or_insert(exit::code(error));
    }

    fn line(&mut self, mark: &str, color: AnsiColor, check: &str, words: &str) {
        let style = Style::new().bold().fg_color(Some(color.into()));
        self.text.push_str(&format!("{style}{mark:<4}{style:#}  {check:<11}  {}\n", exit::printable(words)));
    }

    /// Checks the config, then its streams, backend by backend.
    async fn session(&mut self, session: &Session<'_>, args: &DoctorArgs) -> Result<()> {
        let streams = match streams(session, args) {
            Ok(streams) => streams,
            Err(error) => {
                self.fail("config", &error);
                return Ok(());
            }
        };
        match session.config() {
            Some(config) => {
                let count = config.streams().count();
                let streams_word = if count == 1 { "stream" } else { "streams" };
                self.fine("config", &format!("{}: {count} {streams_word}", config.file().display()));
            }
            None => self
                .warn("config", "none found (triton.yaml, $TRITON_CONFIG, /etc/triton.yaml); 'triton init' writes one"),
        }
        if streams.is_empty() && session.points_to_aws().is_some() {
            let unnamed = session.unnamed_stream();
            self.checks(session.backend(&unnamed)?.diagnose(&[]).await);
        }
        for streams in by_backend(streams) {
            let [first, ..] = &streams[..] else { continue };
            self.checks(session.backend(first)?.diagnose(&streams).await);
        }
        Ok(())
    }

    fn checks(&mut self, checks: Vec<Check>) {
        for Check { subject, outcome, .. } in checks {
            match outcome {
                CheckOutcome::Passed(words) => self.fine(subject, &words),
                CheckOutcome::Warning(words) => self.warn(subject, &words),
                CheckOutcome::Failed { about: Some(about), error } => {
                    self.fail(subject, &anyhow::Error::new(error).context(about));
                }
                CheckOutcome::Failed { about: None, error } => self.fail(subject, &error.into()),
            }
        }
    }
}

/// The streams to check.
fn streams(session: &Session<'_>, args: &DoctorArgs) -> Result<Vec<StreamConfig>> {
    Ok(match (&args.stream, session.config()) {
        (Some(name), _) => vec![session.configure(name)?],
        (None, Some(config)) => config.streams().cloned().collect(),
        (None, None) => Vec::new(),
    })
}

/// The streams of each backend, in the order in which the backends first appear.
fn by_backend(streams: Vec<StreamConfig>) -> Vec<Vec<StreamConfig>> {
    let mut groups: Vec<Vec<StreamConfig>> = Vec::new();
    for stream in streams {
        match groups.iter_mut().find(|group| group[0].backend == stream.backend) {
            Some(group) => group.push(stream),
            None => groups.push(vec![stream]),
        }
    }
    groups
}
