//! Why a line of JSON is no record.

/// Why a line of JSON is no record: with the column, where there is one.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct JsonError {
    /// What is wrong.
    pub problem: String,
}
