//! Tickets of submitted records, and the slots that hold their outcomes.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::record::PutReceipt;

/// Maximum number of records whose outcomes share an allocation.
pub(super) const SLOTS: usize = 256;

/// The outcome of a submitted record: a future of its receipt.
///
/// Dropping it does not stop the record. It holds no clone of the producer. Polled again after it has returned its
/// outcome, it returns [`Error::Invalid`].
///
/// # Errors
/// The error of the last attempt; [`Error::RecordTooLarge`]; [`Error::PredecessorFailed`] behind a record of its key
/// that failed and may still be written; [`Error::Closed`] if the producer was closed first.
#[must_use = "without its ticket, the outcome of the record is not reported"]
pub struct Ticket {
    slots: Arc<AckSlots>,
    index: usize,
}

impl Future for Ticket {
    type Output = Result<PutReceipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.slots.poll(self.index, context)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_pending = matches!(self.slots.lock().outcomes[self.index], SlotState::Pending(_));
        f.write_str(if is_pending { "Ticket(pending)" } else { "Ticket(done)" })
    }
}

/// The slots of up to [`SLOTS`] records.
pub(super) struct AckSlots(Mutex<SlotStates>);

struct SlotStates {
    outcomes: Vec<SlotState>,
    /// Number of slots without an outcome.
    pending: usize,
    /// Woken when every slot has its outcome.
    all_done: Option<Waker>,
}

enum SlotState {
    Pending(Option<Waker>),
    /// Errors are rare and large.
    Done(Result<PutReceipt, Box<Error>>),
    Taken,
}

impl AckSlots {
    fn new(capacity: usize) -> Arc<Self> {
        let outcomes = Vec::with_capacity(capacity);
        Arc::new(Self(Mutex::new(SlotStates { outcomes, pending: 0, all_done: None })))
    }

    fn lock(&self) -> MutexGuard<'_, SlotStates> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, index: usize, context: &mut Context<'_>) -> Poll<Result<PutReceipt>> {
        let outcomes = &mut self.lock().outcomes;
        match std::mem::replace(&mut outcomes[index], SlotState::Taken) {
            SlotState::Done(outcome) => Poll::Ready(outcome.map_err(|error| *error)),
            SlotState::Pending(_) => {
                outcomes[index] = SlotState::Pending(Some(context.waker().clone()));
                Poll::Pending
            }
            SlotState::Taken => {
                let problem = "the ticket has returned its outcome before".to_owned();
                Poll::Ready(Err(Error::Invalid { problem }))
            }
        }
    }

    /// Appends every outcome, in order, when all are known: one lock, and one wake.
    pub(super) async fn all(&self, into: &mut Vec<Result<PutReceipt>>) {
        poll_fn(|context| {
            let mut slots = self.lock();
            if slots.pending > 0 {
                slots.all_done = Some(context.waker().clone());
                return Poll::Pending;
            }
            let known = |outcome| match outcome {
                SlotState::Done(outcome) => Some(outcome.map_err(|error| *error)),
                SlotState::Pending(_) | SlotState::Taken => None,
            };
            into.extend(slots.outcomes.drain(..).filter_map(known));
            Poll::Ready(())
        })
        .await;
    }
}

/// Allocates slots for the outcomes of records.
pub(super) struct SlotAllocator {
    slots: Arc<AckSlots>,
    allocated: usize,
}

impl SlotAllocator {
    /// Slots for any number of records, by [`SLOTS`].
    pub(super) fn new() -> Self {
        Self::with_capacity(SLOTS)
    }

    /// Slots for `count` records and no more.
    pub(super) fn with_capacity(count: usize) -> Self {
        Self { slots: AckSlots::new(count), allocated: 0 }
    }

    /// A slot, and its ticket.
    pub(super) fn ticket(&mut self) -> (AckSlot, Ticket) {
        if self.allocated == SLOTS {
            *self = Self::new();
        }
        let index = self.extend(1);
        let ticket = Ticket { slots: Arc::clone(&self.slots), index };
        (self.slot(index), ticket)
    }

    /// Slots whose outcomes are read [together](AckSlots::all).
    pub(super) fn slots(&mut self, count: usize) -> impl Iterator<Item = AckSlot> {
        let first = self.extend(count);
        (first..first + count).map(|index| self.slot(index))
    }

    /// Adds pending slots; returns the index of the first.
    fn extend(&mut self, count: usize) -> usize {
        let first = self.allocated;
        self.allocated += count;
        let mut slots = self.slots.lock();
        slots.outcomes.extend((0..count).map(|_| SlotState::Pending(None)));
        slots.pending += count;
        first
    }

    fn slot(&self, index: usize) -> AckSlot {
        AckSlot { slots: Some(Arc::clone(&self.slots)), index, may_have_written: false }
    }

    /// The slots, to wait for their outcomes.
    pub(super) fn into_slots(self) -> Arc<AckSlots> {
        self.slots
    }
}

/// Where one record's outcome goes. Dropped without one, it reports that the producer was closed: each record ends exactly
/// once.
pub(super) struct AckSlot {
    slots: Option<Arc<AckSlots>>,
    index: usize,
    /// Whether the record was sent, and no answer has said that it was not written.
    pub(super) may_have_written: bool,
}

impl AckSlot {
    /// Leaves the outcome for the ticket.
    pub(super) fn resolve(mut self, outcome: Result<PutReceipt>) {
        self.leave(outcome);
    }

    fn leave(&mut self, outcome: Result<PutReceipt>) {
        let Some(slots) = self.slots.take() else { return };
        let (before, all_done) = {
            let mut slots = slots.lock();
            slots.pending -= 1;
            let all_done = if slots.pending == 0 { slots.all_done.take() } else { None };
            (std::mem::replace(&mut slots.outcomes[self.index], SlotState::Done(outcome.map_err(Box::new))), all_done)
        };
        if let SlotState::Pending(Some(waker)) = before {
            waker.wake();
        }
        if let Some(all_done) = all_done {
            all_done.wake();
        }
    }
}

impl Drop for AckSlot {
    fn drop(&mut self) {
        if self.slots.is_some() {
            self.leave(Err(Error::Closed { may_have_written: self.may_have_written }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shard::ShardId;

    fn receipt(number: u64) -> PutReceipt {
        PutReceipt::new(ShardId::numbered(0), number)
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_resolves_to_its_own_outcome_in_any_order() {
        let mut slots = SlotAllocator::new();
        let (mut waiting, mut tickets) = (Vec::new(), Vec::new());
        for _ in 0..3 * SLOTS + 1 {
            let (slot, ticket) = slots.ticket();
            waiting.push(slot);
            tickets.push(ticket);
        }
        let early = tokio::spawn(tickets.remove(7));
        tokio::task::yield_now().await;
        for (number, slot) in waiting.into_iter().enumerate().rev() {
            slot.resolve(Ok(receipt(number as u64)));
        }
        assert_eq!(early.await.unwrap().unwrap(), receipt(7));
        for (index, ticket) in tickets.into_iter().enumerate() {
            let number = if index < 7 { index } else { index + 1 };
            assert_eq!(ticket.await.unwrap(), receipt(number as u64));
        }
    }

    #[tokio::test]
    async fn a_dropped_slot_reports_a_closed_producer() {
        let mut slots = SlotAllocator::new();
        let (mut sent, first) = slots.ticket();
        let (queued, second) = slots.ticket();
        sent.may_have_written = true;
        drop((sent, queued));
        let first = first.await.unwrap_err();
        assert!(matches!(first, Error::Closed { .. }) && first.may_have_written());
        assert!(matches!(second.await, Err(Error::Closed { may_have_written: false })));
    }

    #[tokio::test]
    async fn a_ticket_that_is_polled_again_returns_an_error() {
        let (slot, mut ticket) = SlotAllocator::new().ticket();
        slot.resolve(Ok(receipt(1)));
        assert_eq!((&mut ticket).await.unwrap(), receipt(1));
        assert!(matches!((&mut ticket).await, Err(Error::Invalid { .. })));
        assert_eq!(format!("{ticket:?}"), "Ticket(done)");
    }
}
