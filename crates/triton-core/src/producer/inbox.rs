//! The records that were submitted and that the task has not taken yet: the state that callers and the task share under
//! a lock.

use tokio::sync::oneshot;
use tokio::task::JoinHandle;
use tokio::time::Instant;

use crate::flow::Reservation;
use crate::record::PutEntry;

use super::record::{FlushId, SubmittedRecord};
use super::ticket::{AckSlot, SlotAllocator, Ticket};

/// Submitted records, and what callers ask of the task.
pub(super) struct Inbox {
    pub(super) records: Vec<SubmittedRecord>,
    /// What the records have reserved of the budget.
    pub(super) reserved: Option<Reservation>,
    pub(super) flushes: Vec<FlushBarrier>,
    /// Whether the linger ends now, because a caller waits.
    pub(super) is_urgent: bool,
    /// Number of records for which the task is woken.
    pub(super) wake_for: usize,
    /// Number of records that were ever submitted.
    pub(super) submitted: u64,
    /// Whether the producer was closed: nothing is submitted any more.
    pub(super) is_closed: bool,
    /// Deadline of a close, at which the remaining records fail.
    pub(super) close_by: Option<Instant>,
    /// Dropped when the task of a closed producer has ended.
    pub(super) closers: Vec<oneshot::Sender<()>>,
    /// Whether the last clone of the producer was dropped.
    pub(super) is_dropped: bool,
    /// Number of records that failed because the task was cut off.
    pub(super) cut_off: u64,
    /// Whether there were such records when the producer was closing.
    pub(super) was_cut_off: bool,
    /// The task, if one was started.
    pub(super) task: Option<JoinHandle<()>>,
    flush: FlushId,
    slots: SlotAllocator,
}

/// Dropped when every record that was submitted before has its outcome.
pub(super) struct FlushBarrier {
    pub(super) id: FlushId,
    _reached: oneshot::Sender<()>,
}

impl Inbox {
    pub(super) fn new() -> Self {
        Self {
            records: Vec::new(),
            reserved: None,
            flushes: Vec::new(),
            is_urgent: false,
            wake_for: 1,
            submitted: 0,
            is_closed: false,
            close_by: None,
            closers: Vec::new(),
            is_dropped: false,
            cut_off: 0,
            was_cut_off: false,
            task: None,
            flush: FlushId::default(),
            slots: SlotAllocator::new(),
        }
    }

    /// Whether a task is running that accepts submitted records.
    pub(super) fn has_task(&self) -> bool {
        self.task.as_ref().is_some_and(|task| !task.is_finished())
    }

    /// Whether there is enough for the task to be woken.
    pub(super) fn is_worth_a_wake(&self) -> bool {
        self.records.len() >= self.wake_for || self.is_urgent
    }

    /// Adds a record.
    pub(super) fn push(&mut self, entry: PutEntry, reserved: Reservation) -> Ticket {
        let (slot, ticket) = self.slots.ticket();
        self.add(entry, slot, Instant::now());
        self.reserve(reserved);
        ticket
    }

    /// Adds records whose caller waits for all of them.
    pub(super) fn push_all(&mut self, entries: Vec<PutEntry>, slots: &mut SlotAllocator, reserved: Reservation) {
        let now = Instant::now();
        self.records.reserve(entries.len());
        let slots = slots.slots(entries.len());
        for (entry, slot) in entries.into_iter().zip(slots) {
            self.add(entry, slot, now);
        }
        self.reserve(reserved);
        self.is_urgent = true;
    }

    fn add(&mut self, entry: PutEntry, slot: AckSlot, submitted_at: Instant) {
        self.submitted += 1;
        self.records.push(SubmittedRecord { entry, slot, submitted_at, flush: self.flush });
    }

    fn reserve(&mut self, reserved: Reservation) {
        match &mut self.reserved {
            Some(all) => all.merge(reserved),
            none => *none = Some(reserved),
        }
    }

    /// Adds a barrier behind the records submitted so far. The receiver resolves, with an error, when it is reached.
    pub(super) fn flush(&mut self) -> oneshot::Receiver<()> {
        let (reached, wait) = oneshot::channel();
        if self.has_task() {
            self.flushes.push(FlushBarrier { id: self.flush.advance(), _reached: reached });
        }
        self.is_urgent = true;
        wait
    }
}
