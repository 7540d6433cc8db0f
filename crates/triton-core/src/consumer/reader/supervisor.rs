//! The task that owns the shard tasks. It starts one for each shard that may be read, and requests the shard list where the
//! lineage needs a newer one.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::{self, JoinError, JoinSet};
use tokio::time::{Instant, sleep_until};
use tracing::Instrument as _;

use crate::error::{Error, Result};
use crate::flow::{Backoff, retry};
use crate::model::shard::{Shard, ShardId};

use crate::consumer::fan_in::FairSender;
use crate::consumer::lineage::{Lineage, Lost, Outcome};
use crate::consumer::shard::delivery::{Delivery, ReaderEvent};
use crate::consumer::shard::fetch::{Ended, Opening, ShardTask, Shared};
use crate::consumer::shard::silence::next_look;

use super::first_list::exists;

#[derive(Debug)]
pub(in crate::consumer) struct ShardSupervisor {
    shared: Shared,
    lineage: Lineage,
    /// Sends events of the supervisor itself. Each shard task gets a sender of its own, made from this one.
    sender: FairSender<Delivery>,
    /// The first failure for good.
    failure: Option<Error>,
    random: StdRng,
    tasks: JoinSet<Done>,
    /// The shard of each task that reads one.
    reading: Vec<(task::Id, ShardId)>,
    /// Between two lists that the lineage awaits; `None` while one is requested.
    list_backoff: Option<Backoff>,
    /// Whether the last list has left something unknown.
    is_list_late: bool,
    /// Whether a task looks at the list for shards that come from those of other readers.
    is_watching: bool,
}

/// What a task of the supervisor has done.
#[derive(Debug)]
enum Done {
    Shard(ShardId, Ended),
    Confirmed(ShardId, Result<bool>),
    Listed(Backoff, Result<Arc<[Shard]>>),
    /// The list stays as old as it is, for as long as the retries allow.
    StaysOld(Backoff),
    /// The list was looked at for shards that come from those of other readers.
    Watched(Result<Arc<[Shard]>>),
    Stopped,
}

impl ShardSupervisor {
    pub(in crate::consumer) fn new(shared: Shared, lineage: Lineage, seed: u64, sender: FairSender<Delivery>) -> Self {
        let mut random = StdRng::seed_from_u64(seed);
        let list_backoff = Some(shared.options.retry.backoff(random.random()).with_warn_once(&shared.warn_once));
        Self {
            shared,
            lineage,
            sender,
            failure: None,
            random,
            tasks: JoinSet::new(),
            reading: Vec::new(),
            list_backoff,
            is_list_late: false,
            is_watching: false,
        }
    }

    /// Reads the shards of the lineage. The first tasks each hold a clone of `opening` until their shard is open. Returns the
    /// error that the reader ends with, if a shard was not read to its end.
    pub(in crate::consumer) async fn run(mut self, opening: Opening) -> Option<Error> {
        self.act(Some(&opening));
        drop(opening);
        while let Some(done) = self.tasks.join_next_with_id().await {
            match done {
                Ok((task, done)) => {
                    self.reading.retain(|(reading, _)| *reading != task);
                    self.done(done);
                }
                Err(panic) => self.panicked(&panic),
            }
            self.act(None);
        }
        let source = Box::new(self.failure?);
        let shards = self.lineage.incomplete();
        Some(Error::Incomplete { shards, source })
    }

    /// A task has panicked, probably in the backend: its shard is not read any further. Without a list, neither are those that
    /// wait for one.
    fn panicked(&mut self, panic: &JoinError) {
        let problem = format!("a task panicked ({panic})");
        let error = Error::Contract { backend: self.shared.client.name().into(), problem };
        match self.reading.iter().position(|(reading, _)| *reading == panic.id()) {
            Some(index) => {
                let (_, shard) = self.reading.swap_remove(index);
                self.fail(shard, error);
            }
            None => self.fail_late(&error),
        }
    }

    /// No newer list will come.
    fn fail_late(&mut self, error: &Error) {
        for shard in self.lineage.give_up_lists() {
            self.fail(shard, error.clone());
        }
        while let Some(shard) = self.lineage.watched().cloned() {
            self.fail(shard, error.clone());
        }
    }

    /// Notes what a task has done.
    fn done(&mut self, done: Done) {
        match done {
            Done::Shard(shard, Ended::Drained(children)) => self.lineage.drained(&shard, children),
            Done::Shard(shard, Ended::Gone) | Done::Confirmed(shard, Ok(false)) => self.lineage.gone(&shard),
            Done::Shard(shard, Ended::CaughtUp) => self.lineage.caught_up(&shard),
            // The task has told it.
            Done::Shard(shard, Ended::Failed(error)) => {
                self.lineage.failed(&shard);
                self.failure.get_or_insert(error);
            }
            Done::Shard(_, Ended::Stopped) | Done::Stopped => {}
            Done::Confirmed(shard, Ok(true)) => self.lineage.exists(&shard),
            Done::Confirmed(shard, Err(error)) => self.fail(shard, error),
            Done::Listed(mut backoff, Ok(shards)) => {
                self.lineage.apply(&shards);
                self.is_list_late = self.lineage.awaits_list().is_some();
                if !self.is_list_late {
                    backoff.reset();
                }
                self.list_backoff = Some(backoff);
            }
            Done::Listed(backoff, Err(error)) if error.is_retryable() => self.report_late(backoff, error),
            Done::Listed(backoff, Err(error)) => {
                self.list_backoff = Some(backoff);
                self.is_list_late = false;
                self.fail_late(&error);
            }
            Done::StaysOld(backoff) => {
                let error = self.late();
                self.report_late(backoff, error);
            }
            Done::Watched(watched) => {
                self.is_watching = false;
                match watched {
                    Ok(shards) => self.lineage.apply(&shards),
                    Err(error) => self.watch_failed(error),
                }
            }
        }
    }

    /// The list cannot be looked at. That is reported for a shard of another reader, whose children are not read meanwhile.
    fn watch_failed(&mut self, error: Error) {
        if !error.is_retryable() {
            self.fail_late(&error);
        } else if let (Some(shard), true) = (self.lineage.watched().cloned(), self.sender.is_empty()) {
            self.sender.send(ReaderEvent::Retrying { shard, error }.into());
        }
    }

    /// Reports that no newer list comes. Reading goes on by itself.
    fn report_late(&mut self, mut backoff: Backoff, error: Error) {
        backoff.reset();
        (self.list_backoff, self.is_list_late) = (Some(backoff), true);
        // A caller that receives nothing is not sent the same error for hours.
        if let (Some(shard), true) = (self.lineage.awaits_list().cloned(), self.sender.is_empty()) {
            self.sender.send(ReaderEvent::Retrying { shard, error }.into());
        }
    }

    /// Does what the lineage says.
    fn act(&mut self, opening: Option<&Opening>) {
        for outcome in self.lineage.outcomes() {
            match outcome {
                Outcome::Ready(shard, start) => {
                    let (shared, sender, seed) = (self.shared.clone(), self.sender.another(), self.random.random());
                    let task = ShardTask::new(shared, sender, shard.clone(), start, seed, opening.cloned());
                    let span = task.span();
                    let reading = async move {
                        let (shard, ended) = task.run().await;
                        Done::Shard(shard, ended)
                    };
                    let task = self.tasks.spawn(reading.instrument(span));
                    self.reading.push((task.id(), shard));
                }
                Outcome::Confirm(shard) => self.confirm(shard),
                Outcome::Ended(shard, children) => {
                    self.sender.send(ReaderEvent::Ended { shard, children }.into());
                }
                Outcome::Failed(shard, Lost::Removed) => {
                    let error = Error::ShardRemoved { shard: shard.clone() };
                    self.tell_failed(shard, error);
                }
                Outcome::Failed(shard, Lost::Orphaned { chosen }) => {
                    let problem = format!(
                        "it cannot be told whether {shard} descends from {chosen}, which retention has removed: divide the \
                         stream by hash keys"
                    );
                    self.tell_failed(shard, Error::Invalid { problem });
                }
            }
        }
        self.list_if_awaited();
        self.watch_list();
    }

    fn fail(&mut self, shard: ShardId, error: Error) {
        self.lineage.failed(&shard);
        self.tell_failed(shard, error);
    }

    fn tell_failed(&mut self, shard: ShardId, error: Error) {
        self.failure.get_or_insert_with(|| error.clone());
        self.sender.send(ReaderEvent::Failed { shard, error }.into());
    }

    /// Finds out whether a shard exists that no list has shown.
    fn confirm(&mut self, shard: ShardId) {
        let (shared, backoff) = (self.shared.clone(), self.shared.options.retry.backoff(self.random.random()));
        self.tasks.spawn(async move {
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => Done::Stopped,
                found = retry(backoff, || exists(&*shared.client, &shard)) => Done::Confirmed(shard.clone(), found),
            }
        });
    }

    /// Requests the list if the lineage awaits one, and none is under way: one list for all shards that wait.
    fn list_if_awaited(&mut self) {
        if self.lineage.awaits_list().is_none() || self.shared.stop.is_cancelled() {
            return;
        }
        let Some(mut backoff) = self.list_backoff.take() else { return };
        let (shared, late) = (self.shared.clone(), self.is_list_late.then(|| self.late()));
        self.tasks.spawn(async move {
            let listing = async {
                if let Some(late) = late
                    && !backoff.wait(&late).await
                {
                    return Done::StaysOld(backoff);
                }
                loop {
                    match shared.shard_list.requested_since(Instant::now()).await {
                        Err(error) if error.is_retryable() && backoff.wait(&error).await => {}
                        listed => return Done::Listed(backoff, listed),
                    }
                }
            };
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => Done::Stopped,
                done = listing => done,
            }
        });
    }

    /// Looks at the list now and then, while shards of other readers may be split or merged into shards of this one.
    fn watch_list(&mut self) {
        let is_watched = || !self.shared.options.until_caught_up && self.lineage.watched().is_some();
        if self.is_watching || self.shared.stop.is_cancelled() || !is_watched() {
            return;
        }
        self.is_watching = true;
        let (shared, look_at) = (self.shared.clone(), next_look(&mut self.random));
        let backoff = self.shared.options.retry.backoff(self.random.random());
        self.tasks.spawn(async move {
            let watching = async {
                sleep_until(look_at).await;
                retry(backoff, || shared.shard_list.requested_since(look_at)).await
            };
            tokio::select! {
                biased;
                () = shared.stop.cancelled() => Done::Stopped,
                watched = watching => Done::Watched(watched),
            }
        });
    }

    /// The list does not show what the lineage waits for.
    fn late(&self) -> Error {
        let stream = self.shared.client.name();
        let shard = self.lineage.awaits_list().map(ShardId::as_str).unwrap_or_default();
        let problem =
            format!("the shard list of '{stream}' does not show the shards that {shard} was split or merged into");
        Error::Unavailable { problem, may_have_written: false, source: None }
    }
}
