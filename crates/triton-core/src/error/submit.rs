//! Why a record was not accepted at once.

use std::fmt;

use super::Error;

/// Why a record was not accepted at once. It gives the record back in every case.
#[derive(Clone)]
#[non_exhaustive]
pub enum TrySubmitError<T> {
    /// The producer's budget is used up at the moment.
    Full(T),
    /// The producer is closed.
    Closed(T),
    /// The record is invalid, or there is no tokio runtime.
    Refused(T, Box<Error>),
}

impl<T> TrySubmitError<T> {
    /// The record that was not accepted.
    pub fn into_inner(self) -> T {
        match self {
            Self::Full(value) | Self::Closed(value) | Self::Refused(value, _) => value,
        }
    }

    /// The same error, giving back another form of the record.
    pub(crate) fn with<U>(self, value: U) -> TrySubmitError<U> {
        match self {
            Self::Full(_) => TrySubmitError::Full(value),
            Self::Closed(_) => TrySubmitError::Closed(value),
            Self::Refused(_, error) => TrySubmitError::Refused(value, error),
        }
    }
}

impl<T> fmt::Debug for TrySubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("Full(..)"),
            Self::Closed(_) => f.write_str("Closed(..)"),
            Self::Refused(_, error) => write!(f, "Refused(.., {error:?})"),
        }
    }
}

impl<T> fmt::Display for TrySubmitError<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Full(_) => f.write_str("the producer's budget is used up"),
            Self::Closed(_) => f.write_str("the producer is closed"),
            Self::Refused(_, error) => fmt::Display::fmt(error, f),
        }
    }
}

impl<T> std::error::Error for TrySubmitError<T> {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Refused(_, error) => error.source(),
            Self::Full(_) | Self::Closed(_) => None,
        }
    }
}
