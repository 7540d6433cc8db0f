//! Bugs that can be planted while running, each of which breaks an invariant: the simulation has to find them.
//!
//! Only with the feature `planted`. What is planted holds for the current thread.

use std::cell::Cell;

/// A bug, named by what it does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bug {
    /// What failed lets its key's successors go ahead of it.
    NoOrderOnRetry,
    /// A retry sends the entries again that were acknowledged.
    WholeBatchAgain,
    /// After an expired iterator a shard is read again from where it was opened.
    RewindOnExpiredIterator,
    /// A child shard is read while its parents are.
    ChildBeforeParent,
    /// A call's results are given to its entries one place off.
    WrongEntry,
    /// What was fetched when a reader is stopped is thrown away.
    StopDropsFetched,
}

impl Bug {
    /// Every bug.
    pub const ALL: [Self; 6] = [
        Self::NoOrderOnRetry,
        Self::WholeBatchAgain,
        Self::RewindOnExpiredIterator,
        Self::ChildBeforeParent,
        Self::WrongEntry,
        Self::StopDropsFetched,
    ];

    /// The name to give on a command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::NoOrderOnRetry => "no-order-on-retry",
            Self::WholeBatchAgain => "whole-batch-again",
            Self::RewindOnExpiredIterator => "rewind-on-expired-iterator",
            Self::ChildBeforeParent => "child-before-parent",
            Self::WrongEntry => "wrong-entry",
            Self::StopDropsFetched => "stop-drops-fetched",
        }
    }
}

thread_local! {
    static PLANTED: Cell<Option<Bug>> = const { Cell::new(None) };
}

/// Plants a bug in the place of the one before, or none.
pub fn plant(bug: Option<Bug>) {
    PLANTED.set(bug);
}

pub(crate) fn is(bug: Bug) -> bool {
    PLANTED.get() == Some(bug)
}
