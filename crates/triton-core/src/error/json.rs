//! Why a line of JSON is not a record.

/// Why a line of JSON is not a record, with the column where known.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{problem}")]
pub struct JsonError {
    /// What is wrong.
    pub problem: String,
}
