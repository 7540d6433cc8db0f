//! Results of a backend's checks.

use crate::error::Error;

/// One check of `triton doctor`, and its outcome.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Check {
    /// What was checked, in one word: `region`, `stream`.
    pub subject: &'static str,
    /// Its outcome.
    pub outcome: CheckOutcome,
}

/// The outcome of a check.
#[derive(Clone, Debug)]
pub enum CheckOutcome {
    /// It works. The text describes it.
    Passed(String),
    /// It works, but deserves attention.
    Warning(String),
    /// It does not work.
    Failed {
        /// The thing that fails, where the error does not name it.
        about: Option<String>,
        /// Why.
        error: Error,
    },
}

impl Check {
    /// A check that passed.
    pub fn passed(subject: &'static str, words: impl Into<String>) -> Self {
        Self { subject, outcome: CheckOutcome::Passed(words.into()) }
    }

    /// A check that passed, but deserves attention.
    pub fn warning(subject: &'static str, words: impl Into<String>) -> Self {
        Self { subject, outcome: CheckOutcome::Warning(words.into()) }
    }

    /// A check that failed.
    pub fn failed(subject: &'static str, error: Error) -> Self {
        Self { subject, outcome: CheckOutcome::Failed { about: None, error } }
    }

    /// A check of something that failed, which the error does not name.
    pub fn failed_for(subject: &'static str, about: impl Into<String>, error: Error) -> Self {
        Self { subject, outcome: CheckOutcome::Failed { about: Some(about.into()), error } }
    }
}
