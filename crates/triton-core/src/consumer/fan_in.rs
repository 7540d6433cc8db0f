//! What the shards' tasks have fetched, merged into one stream: the shards that have something take turns.
//!
//! Each shard has a lane of its own, and one batch is taken of each lane in turn: a small shard's batch is behind at most
//! one of every other shard, however much those have. Putting one in never waits; who must not get far ahead of its
//! consumer waits until [few enough are left](Lane::fewer_than) in its lane.

use std::collections::{BTreeMap, VecDeque};
use std::future::poll_fn;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker, ready};

use tokio::task::coop;

/// Where a reader takes what its lanes hold.
#[derive(Debug)]
pub(super) struct Merged<T>(Arc<Shared<T>>);

/// Where one shard's task puts what it has fetched.
#[derive(Debug)]
pub(super) struct Lane<T> {
    shared: Arc<Shared<T>>,
    number: u64,
}

#[derive(Debug)]
struct Shared<T>(Mutex<State<T>>);

#[derive(Debug)]
struct State<T> {
    lanes: BTreeMap<u64, Waiting<T>>,
    /// The lanes that have something, in the order of their turns.
    turns: VecDeque<u64>,
    next_number: u64,
    /// Lanes that may still be put into.
    open: usize,
    /// Whether somebody still takes.
    is_taken: bool,
    taker: Option<Waker>,
}

/// What waits in one lane, in the order in which it came.
#[derive(Debug)]
struct Waiting<T> {
    items: VecDeque<T>,
    is_open: bool,
    /// Who waits until there are fewer than so many.
    fewer: Option<(usize, Waker)>,
}

/// The taking end, and a first lane.
pub(super) fn merged<T>() -> (Merged<T>, Lane<T>) {
    let state =
        State { lanes: BTreeMap::new(), turns: VecDeque::new(), next_number: 0, open: 0, is_taken: true, taker: None };
    let shared = Arc::new(Shared(Mutex::new(state)));
    let lane = Lane::open(&shared);
    (Merged(shared), lane)
}

impl<T> Shared<T> {
    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> Merged<T> {
    /// The next one; `None` when every lane is closed and empty.
    pub(super) fn poll_next(&self, context: &mut Context<'_>) -> Poll<Option<T>> {
        // What is there without waiting must not keep other tasks of the thread from running.
        let progress = ready!(coop::poll_proceed(context));
        let (item, waker) = {
            let mut state = self.0.lock();
            match state.take() {
                Some(taken) => taken,
                None if state.open == 0 => return Poll::Ready(None),
                None => {
                    if state.taker.as_ref().is_none_or(|taker| !taker.will_wake(context.waker())) {
                        state.taker = Some(context.waker().clone());
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
    /// The first of the lane whose turn it is, and who waited for its being taken.
    fn take(&mut self) -> Option<(T, Option<Waker>)> {
        while let Some(number) = self.turns.pop_front() {
            let Some(lane) = self.lanes.get_mut(&number) else { continue };
            let Some(item) = lane.items.pop_front() else { continue };
            let left = lane.items.len();
            let waker = lane.fewer.take_if(|(count, _)| left < *count).map(|(_, waker)| waker);
            if left > 0 {
                self.turns.push_back(number);
            } else if !lane.is_open {
                self.lanes.remove(&number);
            }
            return Some((item, waker));
        }
        None
    }
}

impl<T> Drop for Merged<T> {
    fn drop(&mut self) {
        let lanes = {
            let mut state = self.0.lock();
            state.is_taken = false;
            state.turns.clear();
            std::mem::take(&mut state.lanes)
        };
        // Dropped here and not with the last lane, whose task may take a while to end: it holds memory that is counted.
        for lane in lanes.into_values() {
            drop(lane.items);
            if let Some((_, waker)) = lane.fewer {
                waker.wake();
            }
        }
    }
}

impl<T> Lane<T> {
    fn open(shared: &Arc<Shared<T>>) -> Self {
        let mut state = shared.lock();
        let number = state.next_number;
        state.next_number += 1;
        state.open += 1;
        state.lanes.insert(number, Waiting { items: VecDeque::new(), is_open: true, fewer: None });
        Self { shared: Arc::clone(shared), number }
    }

    /// Another lane beside this one.
    pub(super) fn beside(&self) -> Self {
        Self::open(&self.shared)
    }

    /// Puts one behind what waits here already. Answers `false` when nobody will take it.
    pub(super) fn put(&self, item: T) -> bool {
        let mut state = self.shared.lock();
        if !state.is_taken {
            return false;
        }
        let number = self.number;
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.items.push_back(item);
            if lane.items.len() == 1 {
                state.turns.push_back(number);
            }
        }
        let taker = state.taker.take();
        drop(state);
        if let Some(taker) = taker {
            taker.wake();
        }
        true
    }

    /// Waits until all that was put here was taken, or nobody takes any more. Cancel safe.
    pub(super) async fn emptied(&self) {
        self.fewer_than(1).await;
    }

    /// Waits until fewer than so many are left here, or nobody takes any more. Cancel safe.
    pub(super) async fn fewer_than(&self, count: usize) {
        poll_fn(|context| {
            let mut state = self.shared.lock();
            match state.lanes.get_mut(&self.number) {
                Some(lane) if lane.items.len() >= count => {
                    lane.fewer = Some((count, context.waker().clone()));
                    Poll::Pending
                }
                _ => Poll::Ready(()),
            }
        })
        .await;
    }
}

impl<T> Drop for Lane<T> {
    fn drop(&mut self) {
        let mut state = self.shared.lock();
        state.open -= 1;
        let number = self.number;
        if let Some(lane) = state.lanes.get_mut(&number) {
            lane.is_open = false;
            if lane.items.is_empty() {
                state.lanes.remove(&number);
            }
        }
        let taker = if state.open == 0 { state.taker.take() } else { None };
        drop(state);
        if let Some(taker) = taker {
            taker.wake();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    async fn next<T>(merged: &Merged<T>) -> Option<T> {
        poll_fn(|context| merged.poll_next(context)).await
    }

    #[tokio::test(start_paused = true)]
    async fn lanes_take_turns_however_much_is_in_one() {
        let (merged, huge) = merged();
        let small = huge.beside();
        for number in 0..100 {
            huge.put(number);
        }
        assert_eq!(next(&merged).await, Some(0));
        small.put(1000);
        small.put(1001);
        let taken = [next(&merged).await, next(&merged).await, next(&merged).await, next(&merged).await];
        assert_eq!(taken, [Some(1), Some(1000), Some(2), Some(1001)]);
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_put_is_taken_after_its_lane_is_closed_and_then_it_ends() {
        let (merged, lane) = merged();
        lane.put(1);
        lane.put(2);
        drop(lane);
        assert_eq!((next(&merged).await, next(&merged).await, next(&merged).await), (Some(1), Some(2), None));
        assert_eq!(next(&merged).await, None);
    }

    #[tokio::test(start_paused = true)]
    async fn a_taker_wakes_for_an_item_and_for_the_end() {
        let (merged, lane) = merged();
        let taker = tokio::spawn(async move { (next(&merged).await, next(&merged).await) });
        tokio::time::sleep(Duration::from_secs(1)).await;
        lane.put(7);
        tokio::time::sleep(Duration::from_secs(1)).await;
        drop(lane);
        assert_eq!(taker.await.unwrap(), (Some(7), None));
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_for_an_empty_lane_goes_on_when_its_last_is_taken_or_nobody_takes() {
        for is_taken in [true, false] {
            let (merged, lane) = merged();
            lane.put(1);
            lane.put(2);
            let waiting = tokio::spawn(async move {
                lane.emptied().await;
                lane.put(3)
            });
            assert_eq!(next(&merged).await, Some(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert!(!waiting.is_finished());
            match is_taken {
                true => assert_eq!(next(&merged).await, Some(2)),
                false => drop(merged),
            }
            assert_eq!(waiting.await.unwrap(), is_taken);
        }
    }
}
