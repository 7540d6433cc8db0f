//! The entries of one call, shared so that they are never copied.

use std::ops::Deref;
use std::sync::Arc;

use super::PutEntry;

/// The entries of one [`put_batch`](crate::StreamClient::put_batch) call.
///
/// Clones share the list: a caller can keep it for a retry while a backend sends it to another thread.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Entries(Arc<Vec<PutEntry>>);

impl Entries {
    /// Returns the list. Copies it only if other clones exist.
    pub fn into_vec(self) -> Vec<PutEntry> {
        Arc::unwrap_or_clone(self.0)
    }
}

impl Deref for Entries {
    type Target = [PutEntry];

    fn deref(&self) -> &[PutEntry] {
        &self.0
    }
}

impl<'a> IntoIterator for &'a Entries {
    type Item = &'a PutEntry;
    type IntoIter = std::slice::Iter<'a, PutEntry>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.iter()
    }
}

impl From<Vec<PutEntry>> for Entries {
    fn from(entries: Vec<PutEntry>) -> Self {
        Self(Arc::new(entries))
    }
}

impl<const N: usize> From<[PutEntry; N]> for Entries {
    fn from(entries: [PutEntry; N]) -> Self {
        Vec::from(entries).into()
    }
}

impl FromIterator<PutEntry> for Entries {
    fn from_iter<I: IntoIterator<Item = PutEntry>>(entries: I) -> Self {
        entries.into_iter().collect::<Vec<_>>().into()
    }
}
