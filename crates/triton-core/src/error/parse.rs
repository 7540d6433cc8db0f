//! Text that cannot be parsed.

/// An error of parsing text as an id, time, key or receipt.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{}' is not {expected}", text.escape_debug())]
pub struct ParseError {
    /// The text.
    pub text: String,
    /// What was expected, with an article: `a sequence number (decimal, up to 256 bits)`.
    pub expected: &'static str,
}

impl ParseError {
    /// An error for this text.
    pub fn new(text: impl Into<String>, expected: &'static str) -> Self {
        Self { text: text.into(), expected }
    }
}
