//! A fair channel: the shards' tasks send, one reader receives, and the shards take turns.
//!
//! Each shard has a sender with a queue of its own. The receiver takes one item of each non-empty queue in turn, so that a
//! small shard's item waits behind at most one item of every other shard, however many those have queued. Sending never
//! waits; a sender that must not get far ahead waits until [few enough items are queued](FairSender::fewer_than).

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

/// The receiving end.
#[derive(Debug)]
pub(super) struct FairReceiver<T>(Arc<Shared<T>>);

/// A sending end, with a queue of its own.
#[derive(Debug)]
pub(super) struct FairSender<T> {
    shared: Arc<Shared<T>>,
    number: u64,
}

#[derive(Debug)]
struct Shared<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    queues: BTreeMap<u64, Queue<T>>,
    /// Non-empty queues, in the order of their turns.
    turns: VecDeque<u64>,
    next_number: u64,
    /// Senders that are not dropped.
    senders: usize,
    /// Whether the receiver is not dropped.
    has_receiver: bool,
    receiver: Option<Waker>,
}

/// The queued items of one sender, oldest first.
#[derive(Debug)]
struct Queue<T> {
    items: VecDeque<T>,
    has_sender: bool,
    /// Wakes the sender once fewer items than this are queued.
    fewer_than: Option<(usize, Waker)>,
}

/// The receiver, and a first sender.
pub(super) fn fair_channel<T>() -> (FairReceiver<T>, FairSender<T>) {
    let state = State {
        queues: BTreeMap::new(),
        turns: VecDeque::new(),
        next_number: 0,
        senders: 0,
        has_receiver: true,
        receiver: None,
    };
    let shared = Arc::new(Shared(Mutex::new(state)));
    let sender = FairSender::open(&shared);
    (FairReceiver(shared), sender)
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> FairReceiver<T> {
    /// The next item; `None` once every sender is dropped and every queue is empty.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        // A receiver that never has to wait must still let the other tasks of its thread run.
        let progress = ready!(coop::poll_proceed(context));
        let (item, waker) = {
            let mut state = self.0.lock();
            match state.pop() {
                Some(popped) => popped,
                None if state.senders == 0 => return Poll::Ready(None),
                None => {
                    if state.receiver.as_ref().is_none_or(|receiver| !receiver.will_wake(context.waker())) {
                        state.receiver = Some(context.waker().clone());
                    }
                    return Poll::Pending;
                }
            }
        };
        if let Some(waker) = waker {
            waker.wake();
        }
        progress.made_progress();
        Poll::Ready(Some(item))
    }
}

impl<T> State<T> {
    /// The first item of the queue whose turn it is, and its sender's waker if few enough items are left.
    fn pop(&mut self) -> Option<(T, Option<Waker>)> {
        while let Some(number) = self.turns.pop_front() {
            let Some(queue) = self.queues.get_mut(&number) else { continue };
            let Some(item) = queue.items.pop_front() else { continue };
            let left = queue.items.len();
            let waker = queue.fewer_than.take_if(|(count, _)| left < *count).map(|(_, waker)| waker);
            if left > 0 {
                self.turns.push_back(number);
            } else if !queue.has_sender {
                self.queues.remove(&number);
            }
            return Some((item, waker));
        }
        None
    }
}

impl<T> Drop for FairReceiver<T> {
    fn drop(&mut self) {
        let queues = {
            let mut state = self.0.lock();
            state.has_receiver = false;
            state.turns.clear();
            std::mem::take(&mut state.queues)
        };
        // Dropped here and not with the last sender, whose task may take a while to end: items hold memory of a budget.
        for queue in queues.into_values() {
            drop(queue.items);
            if let Some((_, waker)) = queue.fewer_than {
                waker.wake();
            }
        }
    }
}

impl<T> FairSender<T> {
    fn open(shared: &Arc<Shared<T>>) -> Self {
        let mut state = shared.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.senders += 1;
        state.queues.insert(number, Queue { items: VecDeque::new(), has_sender: true, fewer_than: None });
        Self { shared: Arc::clone(shared), number }
    }

    /// Another sender of the same channel.
    pub(super) fn another(&self) -> Self {
        Self::open(&self.shared)
    }

    /// Queues an item. Returns `false` if the receiver is dropped.
    pub(super) fn send(&self, item: T) -> bool {
        let mut state = self.shared.lock();
        if !state.has_receiver {
            return false;
        }
        let number = self.number;
        if let Some(queue) = state.queues.get_mut(&number) {
            queue.items.push_back(item);
            if queue.items.len() == 1 {
                state.turns.push_back(number);
            }
        }
        let receiver = state.receiver.take();
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
        true
    }

    /// Whether none of this sender's items is queued.
    pub(super) fn is_empty(&self) -> bool {
        self.shared.lock().queues.get(&self.number).is_none_or(|queue| queue.items.is_empty())
    }

    /// Waits until this sender's items are received, or the receiver is dropped. Cancel safe.
    pub(super) async fn emptied(&self) {
        self.fewer_than(1).await;
    }

    /// Waits until fewer than `count` of this sender's items are queued, or the receiver is dropped. Cancel safe.
    pub(super) async fn fewer_than(&self, count: usize) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            match state.queues.get_mut(&self.number) {
                Some(queue) if queue.items.len() >= count => {
                    queue.fewer_than = Some((count, context.waker().clone()));
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl<T> Drop for FairSender<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.senders -= 1;
        let number = self.number;
        if let Some(queue) = state.queues.get_mut(&number) {
            queue.has_sender = false;
            if queue.items.is_empty() {
                state.queues.remove(&number);
            }
        }
        let receiver = if state.senders == 0 { state.receiver.take() } else { None };
        drop(state);
        if let Some(receiver) = receiver {
            receiver.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn next<T>(receiver: &FairReceiver<T>) -> Option<T> {
        poll_fn(|context| receiver.poll_next(context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn senders_take_turns_however_much_one_has_queued() {
        let (receiver, large) = fair_channel();
        let small = large.another();
        for number in 0..100 {
            large.send(number);
        }
        assert_eq!(next(&receiver).await, Some(0));
        small.send(1000);
        small.send(1001);
        let received = [next(&receiver).await, next(&receiver).await, next(&receiver).await, next(&receiver).await];
        assert_eq!(received, [Some(1), Some(1000), Some(2), Some(1001)]);
    }

    #[tokio::test(start_paused = true)]
    async fn items_of_a_dropped_sender_are_received_before_the_end() {
        let (receiver, sender) = fair_channel();
        sender.send(1);
        sender.send(2);
        drop(sender);
        assert_eq!((next(&receiver).await, next(&receiver).await, next(&receiver).await), (Some(1), Some(2), None));
        assert_eq!(next(&receiver).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_waiting_receiver_wakes_for_an_item_and_for_the_end() {
        let (receiver, sender) = fair_channel();
        let waiting = tokio::spawn(async move { (next(&receiver).await, next(&receiver).await) });
        tokio::time::sleep(Duration::from_secs(1)).await;
        sender.send(7);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(sender);
        assert_eq!(waiting.await.unwrap(), (Some(7), None));
    }

    #[tokio::test(start_paused = true)]
    async fn a_sender_waits_until_its_last_item_is_received_or_the_receiver_is_dropped() {
        for is_received in [true, false] {
            let (receiver, sender) = fair_channel();
            sender.send(1);
            sender.send(2);
            let waiting = tokio::spawn(async move {
                sender.emptied().await;
                sender.send(3)
            });
            assert_eq!(next(&receiver).await, Some(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!waiting.is_finished());
            if is_received {
                assert_eq!(next(&receiver).await, Some(2));
            } else {
                drop(receiver);
            }
            assert_eq!(waiting.await.unwrap(), is_received);
        }
    }
}
