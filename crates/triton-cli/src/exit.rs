//! How a run ends: the message, the next step, and the exit code.

use std::io::{self, IsTerminal as _, Write as _};
use std::process::ExitCode;

use anstyle::{AnsiColor, Style};
use triton_stream::{ConfigError, Error, ErrorKind};

use crate::output::escape;

/// Exit codes, which are part of the command's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum Code {
    /// Any other failure.
    Other = 1,
    /// The command line is invalid.
    Usage = 2,
    /// The config is invalid, or lacks the stream.
    Config = 3,
    /// Credentials are missing, or lack a permission.
    Credentials = 4,
    /// A stream, shard or position does not exist.
    NotFound = 5,
    /// Throttled or unreachable, after the retries.
    Unavailable = 6,
    /// A line, record or key is invalid.
    BadData = 7,
    /// Ended by a second Ctrl-C.
    Interrupted = 130,
}

/// An error of the command itself, with the next step.
#[derive(Debug)]
pub(crate) struct Failure {
    pub(crate) message: String,
    pub(crate) help: Option<String>,
    pub(crate) code: Code,
}

impl Failure {
    pub(crate) fn new(code: Code, message: impl Into<String>) -> Self {
        Self { message: message.into(), help: None, code }
    }

    pub(crate) fn with_help(self, help: impl Into<String>) -> Self {
        Self { help: Some(help.into()), ..self }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// The reader of stdout has exited, as in `triton get | head`: the run ends without an error.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ClosedPipe;

/// The failure was reported when it happened; only the exit code is left.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Reported(pub(crate) Code);

impl std::fmt::Display for ClosedPipe {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("stdout is closed")
    }
}

impl std::fmt::Display for Reported {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("see above")
    }
}

impl std::error::Error for ClosedPipe {}
impl std::error::Error for Reported {}

/// Prints an error, its causes and the next step. Returns the exit code.
pub(crate) fn report(error: &anyhow::Error) -> ExitCode {
    if error.is::<ClosedPipe>() {
        return ExitCode::SUCCESS;
    }
    if let Some(Reported(code)) = error.downcast_ref() {
        return ExitCode::from(*code as u8);
    }
    self::error(&error.to_string());
    for cause in error.chain().skip(1) {
        indent("cause", &cause.to_string());
    }
    if let Some(help) = help(error) {
        indent("help", &help);
    }
    ExitCode::from(code(error) as u8)
}

/// Prefixes an error with a line of the input; code and help stay.
pub(crate) fn at(line: &str, error: anyhow::Error) -> anyhow::Error {
    let failure = Failure { message: format!("{line}: {error}"), help: help(&error), code: code(&error) };
    failure.into()
}

/// Prints a failure that does not end the run.
pub(crate) fn error(message: &str) {
    say("error", AnsiColor::Red, message);
}

/// Prints a warning.
pub(crate) fn warn(message: &str) {
    say("warn", AnsiColor::Yellow, message);
}

/// Prints a note.
pub(crate) fn note(message: &str) {
    say("note", AnsiColor::Cyan, message);
}

fn say(label: &str, color: AnsiColor, message: &str) {
    let style = Style::new().bold().fg_color(Some(color.into()));
    // If stderr is closed, the message is lost.
    drop(writeln!(anstream::stderr(), "{style}{label}:{style:#} {}", printable(message)));
}

fn indent(label: &str, message: &str) {
    let style = Style::new().bold();
    drop(writeln!(anstream::stderr(), "  {style}{label}:{style:#} {}", printable(message)));
}

/// A message as it is printed: on a terminal, control characters are escaped, since names in it may come from records
/// and files.
pub(crate) fn printable(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    escape::push(&mut out, text.as_bytes(), io::stderr().is_terminal() || io::stdout().is_terminal());
    String::from_utf8_lossy(&out).into_owned()
}

/// The exit code of an error: that of the first failure in its chain of causes, else that of the first Triton error.
pub(crate) fn code(error: &anyhow::Error) -> Code {
    if let Some(failure) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        return failure.code;
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>()).map(Error::kind) {
        Some(ErrorKind::Config) => Code::Config,
        Some(ErrorKind::Credentials | ErrorKind::AccessDenied) => Code::Credentials,
        Some(ErrorKind::NotFound | ErrorKind::PastRetention) => Code::NotFound,
        Some(ErrorKind::Throttled | ErrorKind::Unavailable) => Code::Unavailable,
        Some(ErrorKind::BadData) => Code::BadData,
        Some(ErrorKind::Invalid) => Code::Usage,
        _ => Code::Other,
    }
}

fn help(error: &anyhow::Error) -> Option<String> {
    if let Some(failure) = error.chain().find_map(|cause| cause.downcast_ref::<Failure>()) {
        return failure.help.clone();
    }
    match error.chain().find_map(|cause| cause.downcast_ref::<Error>())? {
        Error::UnknownStream { similar: Some(similar), .. } => Some(format!("did you mean '{similar}'?")),
        Error::UnknownStream { stream, .. } => {
            Some(format!("add '{stream}' to the file, or use --local for a stream on this machine"))
        }
        Error::Config(ConfigError { similar: Some(similar), .. }) => Some(format!("did you mean '{similar}'?")),
        Error::Setting { help, .. } => help.clone(),
        Error::InsecureEndpoint { .. } => Some("use https, or --insecure-endpoint if that is what you want".into()),
        Error::NoPartitionKey { .. } => Some("use --json with that field, or --key".into()),
        Error::PartitionKeyType { .. } | Error::PartitionKeyLength { .. } => {
            Some("use --key or --key-field, or partition_key: null in the config for random keys".into())
        }
        Error::Credentials { .. } => {
            Some("set $AWS_PROFILE or $AWS_ACCESS_KEY_ID as for any AWS tool; 'triton doctor' checks".into())
        }
        Error::AccessDenied { .. } => Some("the caller needs that permission; 'triton doctor' shows what works".into()),
        Error::Unavailable { .. } => Some("'triton doctor' shows what works".into()),
        Error::StreamNotFound { .. } => Some("'triton streams list' shows those that exist".into()),
        Error::PastRetention { .. } => Some("use --from all to go on with the oldest record that is kept".into()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_code_follows_from_the_error_below() {
        let config = Error::UnknownStream { stream: "a".into(), file: "b".into(), similar: None };
        assert_eq!(code(&anyhow::Error::new(config).context("line 3")), Code::Config);
        assert_eq!(code(&anyhow::anyhow!("something")), Code::Other);
        let failure = Failure::new(Code::Usage, "no").with_help("yes");
        assert_eq!(code(&anyhow::Error::new(failure)), Code::Usage);
    }
}
