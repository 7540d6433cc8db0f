//! One task that owns the shards' tasks: it starts one for each shard that may be read, and on the end of a shard
//! looks for its children.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::client::{Limits, StreamClient};
use crate::error::{Error, Result};
use crate::record::Record;
use crate::retry::until_done;
use crate::shard::{Shard, ShardId};

use super::ReaderOptions;
use super::lineage::Lineage;
use super::shard_task::{Ended, Opening, ShardTask, Shared};

#[derive(Debug)]
pub(super) struct Follower {
    shared: Shared,
    lineage: Lineage,
    random: StdRng,
}

impl Follower {
    pub(super) fn new(
        client: Arc<dyn StreamClient>,
        lineage: Lineage,
        options: ReaderOptions,
        limits: Limits,
        seed: u64,
        batches: mpsc::Sender<Result<Vec<Record>>>,
        stop: CancellationToken,
    ) -> Self {
        let shared = Shared { client, options: Arc::new(options), limits, batches, stop };
        Self { shared, lineage, random: StdRng::seed_from_u64(seed) }
    }

    /// A task for each shard of the listing that may be read.
    fn tasks(&mut self, shards: &[Shard], opening: Option<&Opening>) -> Vec<ShardTask> {
        let ready = self.lineage.take_in(shards);
        ready
            .into_iter()
            .map(|(shard, position)| {
                ShardTask::new(self.shared.clone(), shard, position, self.random.random(), opening.cloned())
            })
            .collect()
    }

    /// Reads from these shards on. Drops `opening` when each of them is open.
    pub(super) async fn run(mut self, shards: Vec<Shard>, opening: Opening) {
        let mut tasks = JoinSet::new();
        for task in self.tasks(&shards, Some(&opening)) {
            tasks.spawn(task.run());
        }
        drop((shards, opening));
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((shard, Ended::Drained)) => {
                    for child in self.children_of(&shard).await {
                        tasks.spawn(child.run());
                    }
                }
                Ok((_, Ended::CaughtUp | Ended::Stopped | Ended::Failed)) => {}
                Err(panic) => {
                    let problem = format!("a shard's reader panicked ({panic})");
                    self.report(Error::Contract { backend: self.shared.client.name().into(), problem }).await;
                }
            }
        }
    }

    /// Hands an error over. The receiver is gone only with the reader itself, which ends this task too.
    async fn report(&self, error: Error) {
        drop(self.shared.batches.send(Err(error)).await);
    }

    /// The tasks of a drained shard's children. A listing that fails is told, and made again until it succeeds.
    async fn children_of(&mut self, shard: &ShardId) -> Vec<ShardTask> {
        self.lineage.drained(shard);
        loop {
            let backoff = self.shared.options.retry.backoff(self.random.random());
            let listing = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Vec::new(),
                listing = until_done(backoff, || self.shared.client.shards()) => listing,
            };
            match listing {
                Ok(shards) => return self.tasks(&shards, None),
                Err(source) => {
                    let goes_on = source.is_retryable() && !self.shared.batches.is_closed();
                    self.report(Error::Shard { shard: shard.clone(), source: Box::new(source) }).await;
                    if !goes_on {
                        return Vec::new();
                    }
                }
            }
        }
    }
}
