//! Which flushes still have records without an outcome.

use std::collections::VecDeque;

use crate::producer::record::FlushId;

/// Number of records without an outcome per flush, oldest first.
#[derive(Debug, Default)]
pub(super) struct OpenFlushes(VecDeque<(FlushId, usize)>);

impl OpenFlushes {
    /// A record was accepted. Ids never go down.
    pub(super) fn opened(&mut self, flush: FlushId) {
        match self.0.back_mut() {
            Some((newest, count)) if *newest == flush => *count += 1,
            _ => self.0.push_back((flush, 1)),
        }
    }

    /// A record has its outcome.
    pub(super) fn closed(&mut self, flush: FlushId) {
        if let Ok(index) = self.0.binary_search_by_key(&flush, |(id, _)| *id) {
            self.0[index].1 -= 1;
        }
        while self.0.front().is_some_and(|(_, count)| *count == 0) {
            self.0.pop_front();
        }
    }

    /// The oldest flush that has a record without an outcome.
    pub(super) fn oldest(&self) -> Option<FlushId> {
        self.0.front().map(|(flush, _)| *flush)
    }
}
