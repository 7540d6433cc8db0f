//! The hook for records that could not be put.

use std::sync::Arc;

use crate::error::Error;
use crate::record::PutEntry;

/// Called with each record that could not be put, before its ticket resolves. It must not block, since the producer's
/// task calls it.
pub type FailedHook = Arc<dyn Fn(FailedPut) + Send + Sync>;

/// A record that could not be put.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct FailedPut {
    /// The record.
    pub entry: PutEntry,
    /// Why. It [may have been written](Error::may_have_written) all the same.
    pub error: Error,
}
