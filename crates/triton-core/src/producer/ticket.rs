//! What a caller holds of a record that is on its way, and where its outcome is left.

use std::fmt;
use std::future::poll_fn;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};

use crate::error::{Error, Result};
use crate::record::PutReceipt;

/// Records that share one allocation for their outcomes.
pub(super) const SHARED: usize = 256;

/// Tells what became of a record: a future of its receipt.
///
/// It may be dropped; the record is put all the same. Polled again after it was ready, it stays pending.
///
/// # Errors
/// What keeps the stream from taking the record, after the retries; [`Error::RecordTooLarge`] without any;
/// [`Error::PredecessorFailed`] behind a record of its key that may be written late; [`Error::Closed`] when the producer was
/// dropped.
#[must_use = "without its ticket, nobody is told what became of the record"]
pub struct Ticket {
    outcomes: Arc<Outcomes>,
    index: usize,
}

impl Future for Ticket {
    type Output = Result<PutReceipt>;

    fn poll(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        self.outcomes.poll(self.index, context)
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let is_done = matches!(self.outcomes.lock().outcomes[self.index], Outcome::Known(_));
        f.write_str(if is_done { "Ticket(done)" } else { "Ticket(pending)" })
    }
}

/// The outcomes of up to [`SHARED`] records.
pub(super) struct Outcomes(Mutex<Board>);

struct Board {
    outcomes: Vec<Outcome>,
    /// How many are not known.
    unknown: usize,
    /// Who waits for all of them.
    whole: Option<Waker>,
}

enum Outcome {
    Pending(Option<Waker>),
    /// Errors are rare and large.
    Known(Result<PutReceipt, Box<Error>>),
    Taken,
}

impl Outcomes {
    fn new(count: usize) -> Arc<Self> {
        let outcomes = Vec::with_capacity(count);
        Arc::new(Self(Mutex::new(Board { outcomes, unknown: 0, whole: None })))
    }

    fn lock(&self) -> MutexGuard<'_, Board> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn poll(&self, index: usize, context: &mut Context<'_>) -> Poll<Result<PutReceipt>> {
        let outcomes = &mut self.lock().outcomes;
        match std::mem::replace(&mut outcomes[index], Outcome::Taken) {
            Outcome::Known(outcome) => Poll::Ready(outcome.map_err(|error| *error)),
            Outcome::Pending(_) => {
                outcomes[index] = Outcome::Pending(Some(context.waker().clone()));
                Poll::Pending
            }
            Outcome::Taken => Poll::Pending,
        }
    }

    /// Every outcome, in order, when all are known: one look, and one wake.
    pub(super) async fn all(&self, into: &mut Vec<Result<PutReceipt>>) {
        poll_fn(|context| {
            let mut board = self.lock();
            if board.unknown > 0 {
                board.whole = Some(context.waker().clone());
                return Poll::Pending;
            }
            let known = |outcome| match outcome {
                Outcome::Known(outcome) => Some(outcome.map_err(|error| *error)),
                Outcome::Pending(_) | Outcome::Taken => None,
            };
            into.extend(board.outcomes.drain(..).filter_map(known));
            Poll::Ready(())
        })
        .await;
    }
}

/// Gives out places for outcomes.
pub(super) struct Places {
    outcomes: Arc<Outcomes>,
    given: usize,
}

impl Places {
    pub(super) fn new() -> Self {
        Self::of(SHARED)
    }

    /// Places for so many records, which are all that are given.
    pub(super) fn of(count: usize) -> Self {
        Self { outcomes: Outcomes::new(count), given: 0 }
    }

    /// A place, and the ticket to it.
    pub(super) fn give(&mut self) -> (Place, Ticket) {
        if self.given == SHARED {
            *self = Self::new();
        }
        let index = self.take(1);
        let place = self.place(index);
        let ticket = Ticket { outcomes: Arc::clone(&self.outcomes), index };
        (place, ticket)
    }

    /// So many places, whose outcomes are read from the whole.
    pub(super) fn places(&mut self, count: usize) -> impl Iterator<Item = Place> {
        let first = self.take(count);
        (first..first + count).map(|index| self.place(index))
    }

    /// Makes room for so many outcomes; answers with the index of the first.
    fn take(&mut self, count: usize) -> usize {
        let first = self.given;
        self.given += count;
        let mut board = self.outcomes.lock();
        board.outcomes.extend((0..count).map(|_| Outcome::Pending(None)));
        board.unknown += count;
        first
    }

    fn place(&self, index: usize) -> Place {
        Place { outcomes: Some(Arc::clone(&self.outcomes)), index, may_have_written: false }
    }

    /// All of them.
    pub(super) fn whole(self) -> Arc<Outcomes> {
        self.outcomes
    }
}

/// Where one record's outcome goes. Dropped without one, it says that the producer was closed: each record ends exactly once.
pub(super) struct Place {
    outcomes: Option<Arc<Outcomes>>,
    index: usize,
    /// Whether the record was sent, and no answer has said that it was not written.
    pub(super) may_have_written: bool,
}

impl Place {
    pub(super) fn settle(mut self, outcome: Result<PutReceipt>) {
        self.leave(outcome);
    }

    fn leave(&mut self, outcome: Result<PutReceipt>) {
        let Some(outcomes) = self.outcomes.take() else { return };
        let (before, whole) = {
            let mut board = outcomes.lock();
            board.unknown -= 1;
            let whole = if board.unknown == 0 { board.whole.take() } else { None };
            (std::mem::replace(&mut board.outcomes[self.index], Outcome::Known(outcome.map_err(Box::new))), whole)
        };
        if let Outcome::Pending(Some(waker)) = before {
            waker.wake();
        }
        if let Some(whole) = whole {
            whole.wake();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if self.outcomes.is_some() {
            self.leave(Err(Error::Closed { may_have_written: self.may_have_written }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shard::ShardId;

    fn receipt(number: u64) -> PutReceipt {
        PutReceipt { shard_id: ShardId::numbered(0), sequence_number: number.into() }
    }

    #[tokio::test(start_paused = true)]
    async fn a_ticket_is_told_its_own_outcome_whenever_it_comes() {
        let mut places = Places::new();
        let (mut waiting, mut tickets) = (Vec::new(), Vec::new());
        for _ in 0..3 * SHARED + 1 {
            let (place, ticket) = places.give();
            waiting.push(place);
            tickets.push(ticket);
        }
        let early = tokio::spawn(tickets.remove(7));
        tokio::task::yield_now().await;
        for (number, place) in waiting.into_iter().enumerate().rev() {
            place.settle(Ok(receipt(number as u64)));
        }
        assert_eq!(early.await.unwrap().unwrap(), receipt(7));
        for (index, ticket) in tickets.into_iter().enumerate() {
            let number = if index < 7 { index } else { index + 1 };
            assert_eq!(ticket.await.unwrap(), receipt(number as u64));
        }
    }

    #[tokio::test]
    async fn what_is_dropped_without_an_outcome_has_one() {
        let mut places = Places::new();
        let (mut sent, first) = places.give();
        let (queued, second) = places.give();
        sent.may_have_written = true;
        drop((sent, queued));
        let first = first.await.unwrap_err();
        assert!(matches!(first, Error::Closed { .. }) && first.may_have_written());
        assert!(matches!(second.await, Err(Error::Closed { may_have_written: false })));
    }
}
