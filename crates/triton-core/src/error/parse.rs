//! Text that is not what it was read as.

/// Text that is no id, time, key or receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not {expected}", text.escape_debug())]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// What it was to be, with an article: `a sequence number (decimal, up to 256 bits)`.
    pub expected: &'static str,
}

impl ParseError {
    /// The error of this text.
    pub fn new(text: impl Into<String>, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}
