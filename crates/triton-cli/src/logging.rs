//! The command's logs: tracing events on stderr, filtered by `$TRITON_LOG`, `-v` and `-q`.

use std::{fmt, io};

use anyhow::{Context as _, Result};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

use crate::args::{Color, Global};
use crate::exit;

/// Formats events as the command's own lines: `warn: …`.
struct Plain;

impl<S, N> FormatEvent<S, N> for Plain
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(&self, context: &FmtContext<'_, S, N>, _: Writer<'_>, event: &Event<'_>) -> fmt::Result {
        let mut line = String::new();
        context.format_fields(Writer::new(&mut line), event)?;
        match *event.metadata().level() {
            Level::ERROR => exit::error(&line),
            _ => exit::warn(&line),
        }
        Ok(())
    }
}

/// Sets the choice of colour and starts logging.
pub(crate) fn start(global: &Global) -> Result<()> {
    let choice = match global.color {
        Color::Auto => anstream::ColorChoice::Auto,
        Color::Always => anstream::ColorChoice::AlwaysAnsi,
        Color::Never => anstream::ColorChoice::Never,
    };
    choice.write_global();
    let level = match (global.quiet, global.verbose) {
        (true, _) => "error",
        (false, 0) => "warn",
        (false, 1) => "info",
        (false, 2) => "debug",
        (false, _) => "trace",
    };
    let filter = match std::env::var("TRITON_LOG") {
        Ok(directives) => EnvFilter::try_new(&directives)
            .with_context(|| format!("$TRITON_LOG is not a log filter: '{}'", directives.escape_debug()))?,
        // The SDK warns of each source that has no credentials. Our own errors report missing credentials.
        Err(_) if global.verbose < 2 => EnvFilter::new(format!("{level},aws_config=error")),
        Err(_) => EnvFilter::new(level),
    };
    if global.verbose == 0 && std::env::var_os("TRITON_LOG").is_none() {
        // Without -v and $TRITON_LOG, a warning looks like the command's other lines.
        tracing_subscriber::fmt().with_env_filter(filter).with_writer(io::stderr).event_format(Plain).init();
        return Ok(());
    }
    let is_colored = anstream::AutoStream::choice(&io::stderr()) != anstream::ColorChoice::Never;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(io::stderr)
        .with_ansi(is_colored)
        .with_target(false)
        // If stderr cannot be written, the event is lost.
        .log_internal_errors(false)
        .init();
    Ok(())
}
