//! The text of a config file, and errors with their line and column in it.

use std::path::PathBuf;

use serde_yaml::Error;

use crate::error::ConfigError;

/// A config file's name and text.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Source {
    pub(super) file: PathBuf,
    pub(super) text: String,
}

const DUPLICATE: &str = "duplicate stream name '";

/// The problem of a duplicate name.
pub(super) fn duplicate(name: &str) -> String {
    format!("{DUPLICATE}{name}'")
}

impl Source {
    /// Converts a serde_yaml error: its location becomes the error's own, and is cut from the message.
    pub(super) fn error(&self, error: &Error) -> ConfigError {
        let message = error.to_string();
        let words = message.rsplit_once(" at line ").map_or(message.as_str(), |(words, _)| words);
        let location = match words.strip_prefix(DUPLICATE).and_then(|rest| rest.strip_suffix('\'')) {
            // serde_yaml gives the start of the map as the location, so the second line with this key is searched for.
            Some(name) => self.locate_section(name, 2),
            None => error.location().map(|location| (location.line(), location.column())),
        };
        ConfigError { location, ..ConfigError::new(&self.file, words.replace(" in this context", " here")) }
    }

    /// Line and column of the `nth` line, counted from 1, that starts with this top-level key. For errors that the parser
    /// cannot locate.
    pub(super) fn locate_section(&self, key: &str, nth: usize) -> Option<(usize, usize)> {
        let is_key = |line: &str| {
            let rest = line.strip_prefix(key).or_else(|| line.get(1..)?.strip_prefix(key)?.strip_prefix(['"', '\'']));
            rest.is_some_and(|rest| rest.trim_start().starts_with(':'))
        };
        self.text.lines().enumerate().filter(|(_, line)| is_key(line)).nth(nth - 1).map(|(index, _)| (index + 1, 1))
    }
}
