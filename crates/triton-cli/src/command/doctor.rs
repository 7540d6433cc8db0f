//! `triton doctor`: whether config, credentials, streams and clocks are as they should be, one line a check.

use std::collections::BTreeMap;

use anstyle::{AnsiColor, Style};
use anyhow::Result;
use clap::Args;
use triton_core::{Backend, Config, Error, ErrorKind, StreamConfig};
use triton_kinesis::{Kinesis, Summary};

use crate::backend;
use crate::command::Global;
use crate::exit::{self, Code, Told};
use crate::printer;

/// Check config, credentials, streams and clocks
///
/// Prints one line a check. Ends with the exit code of the first that failed.
#[derive(Args, Debug)]
pub(crate) struct DoctorArgs {
    /// Only this stream, by its logical name, instead of every one in the config
    #[arg(short, long, value_name = "STREAM")]
    pub(crate) stream: Option<String>,
}

/// Past this many milliseconds AWS refuses signed requests; half of it is worth a word.
const SKEW_REFUSED: i64 = 5 * 60 * 1000;

pub(crate) async fn run(global: &Global, args: DoctorArgs) -> Result<()> {
    let mut report = Report::default();
    if let Some(streams) = report.config(global, &args) {
        let mut places = Places::new();
        for stream in &streams {
            match stream.backend {
                Backend::Local => report.local(global, stream).await,
                _ => report.kinesis(global, stream, &mut places).await,
            }
        }
        if streams.is_empty() && backend::points_to_aws(global).is_some() {
            report.account(global, &mut places).await;
        }
        for (place, (kinesis, _)) in &places {
            report.clock(place, kinesis);
        }
    }
    let is_colored = anstream::AutoStream::choice(&std::io::stdout()) != anstream::ColorChoice::Never;
    match is_colored {
        true => printer::print_all(&report.text)?,
        false => printer::print_all(&anstream::adapter::strip_str(&report.text).to_string())?,
    }
    match report.failed {
        Some(code) => Err(Told(code).into()),
        None => Ok(()),
    }
}

/// The lines so far, and the code of the first failure.
#[derive(Default)]
struct Report {
    text: String,
    failed: Option<Code>,
}

/// Connections by where they lead, and whether it makes sense to ask for streams there.
type Places = BTreeMap<String, (Kinesis, bool)>;

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

    /// The streams to look at; `None` where the config does not say.
    fn config(&mut self, global: &Global, args: &DoctorArgs) -> Option<Vec<StreamConfig>> {
        match find(global, args) {
            Ok((Some(config), streams)) => {
                let count = config.streams().count();
                let streams_word = if count == 1 { "stream" } else { "streams" };
                self.fine("config", &format!("{}: {count} {streams_word}", config.file().display()));
                Some(streams)
            }
            Ok((None, streams)) => {
                self.warn(
                    "config",
                    "none found (triton.yaml, $TRITON_CONFIG, /etc/triton.yaml); 'triton init' writes one",
                );
                Some(streams)
            }
            Err(error) => {
                self.fail("config", &error);
                None
            }
        }
    }

    async fn local(&mut self, global: &Global, stream: &StreamConfig) {
        let name = &stream.logical_name;
        match backend::open_existing(global, stream).await {
            Ok(client) => match client.shards().await {
                Ok(shards) => {
                    let open = shards.iter().filter(|shard| shard.is_open()).count();
                    self.fine("stream", &format!("'{name}' is local, {open} open shards"));
                }
                Err(error) => self.fail("stream", &error.into()),
            },
            Err(error) if exit::code(&error) == Code::NotFound => {
                self.fine("stream", &format!("'{name}' is local, and made on first use"));
            }
            Err(error) => self.fail("stream", &error),
        }
    }

    async fn kinesis(&mut self, global: &Global, stream: &StreamConfig, places: &mut Places) {
        let connected = match backend::kinesis(global, stream).await {
            Ok(kinesis) => kinesis,
            Err(error) => return self.fail("region", &error),
        };
        // What keeps every stream of a place from being reached is said once.
        if self.place(&connected, places).await {
            self.stream(&connected, stream).await;
        }
    }

    /// Where the environment or the flags lead, where there is no config.
    async fn account(&mut self, global: &Global, places: &mut Places) {
        let mut stream = StreamConfig::local("");
        stream.backend = Backend::Kinesis;
        match backend::kinesis(global, &stream).await {
            Ok(connected) => drop(self.place(&connected, places).await),
            Err(error) => self.fail("region", &error),
        }
    }

    /// Region and credentials of a place, looked at once; whether it makes sense to ask for streams there.
    async fn place(&mut self, kinesis: &Kinesis, places: &mut Places) -> bool {
        let place = kinesis.place();
        if let Some((_, is_usable)) = places.get(place) {
            return *is_usable;
        }
        match kinesis.has_default_region() {
            true => self.warn("region", &format!("none is set: {place} is taken")),
            false => self.fine("region", place),
        }
        let answer = kinesis.check_credentials().await;
        let is_usable = matches!(answer, Ok(()) | Err(Error::AccessDenied { .. }));
        match answer {
            Ok(()) => self.fine("credentials", &format!("taken by Kinesis in {place}")),
            Err(error) => match error.kind() {
                ErrorKind::AccessDenied => {
                    self.fine("credentials", &format!("taken by Kinesis in {place}; they may not list streams"));
                }
                ErrorKind::Credentials => self.fail("credentials", &error.into()),
                _ => self.fail("server", &error.into()),
            },
        }
        places.insert(place.to_owned(), (kinesis.clone(), is_usable));
        is_usable
    }

    async fn stream(&mut self, kinesis: &Kinesis, stream: &StreamConfig) {
        let name = &stream.logical_name;
        let summary = match kinesis.stream(&stream.name) {
            Ok(client) => client.summary().await,
            Err(error) => Err(error),
        };
        match summary {
            Ok(summary) if summary.is_active() => self.fine("stream", &describe(stream, &summary)),
            Ok(summary) => self.warn("stream", &describe(stream, &summary)),
            Err(error @ Error::AccessDenied { .. }) => {
                self.warn("stream", &format!("'{name}' may not be described: {error}"));
            }
            Err(error) => self.fail("stream", &anyhow::Error::new(error).context(format!("'{name}'"))),
        }
    }

    fn clock(&mut self, place: &str, kinesis: &Kinesis) {
        // Where nobody answered there is no clock to compare with.
        let Some(ahead) = kinesis.clock_ahead_millis() else { return };
        let words = match ahead {
            -1_000..=2_000 => format!("as that of {place}, to a second"),
            ahead if ahead > 0 => format!("{} s ahead of that of {place}", ahead / 1000),
            ahead => format!("{} s behind that of {place}", -ahead / 1000),
        };
        match ahead.abs() < SKEW_REFUSED / 2 {
            true => self.fine("clock", &words),
            false => self.warn("clock", &format!("{words}; AWS refuses requests past 5 minutes")),
        }
    }
}

fn find(global: &Global, args: &DoctorArgs) -> Result<(Option<Config>, Vec<StreamConfig>)> {
    let config = backend::find_config(global)?;
    let streams = match (&args.stream, &config) {
        (Some(name), _) => vec![backend::configure(global, name)?],
        (None, Some(config)) => config.streams().cloned().collect(),
        (None, None) => Vec::new(),
    };
    Ok((config, streams))
}

fn describe(stream: &StreamConfig, summary: &Summary) -> String {
    let mode = if summary.is_on_demand { "on demand" } else { "provisioned" };
    let keys = if summary.distributes_records { ", distributes records itself (no order per key)" } else { "" };
    format!(
        "'{}' is {}: {}, {} open shards, {mode}, keeps records {} h{keys}",
        stream.logical_name,
        stream.name,
        summary.status,
        summary.open_shards,
        summary.retention.as_secs() / 3600
    )
}
