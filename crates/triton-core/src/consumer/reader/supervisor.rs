//! One task that owns the shards' tasks: it starts one for each shard that may be read, and on the end of a shard
//! looks for its children.

use std::sync::Arc;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::Instrument as _;

use crate::backend::{Limits, StreamClient};
use crate::error::Error;
use crate::flow::retry::{Trouble, until_done};
use crate::model::shard::{Shard, ShardId};

use crate::consumer::fan_in::Lane;
use crate::consumer::lineage::Lineage;
use crate::consumer::options::ReaderOptions;
use crate::consumer::shard::fetch::{Delivery, Ended, Opening, ShardTask, Shared};
use crate::consumer::shard::metrics;
use crate::consumer::shard::prefetch::Prefetch;

#[derive(Debug)]
pub(in crate::consumer) struct Follower {
    shared: Shared,
    lineage: Lineage,
    /// What is told that belongs to no shard's task; every shard's lane is opened beside it.
    lane: Lane<Delivery>,
    random: StdRng,
}

impl Follower {
    pub(in crate::consumer) fn new(
        client: Arc<dyn StreamClient>,
        lineage: Lineage,
        options: ReaderOptions,
        limits: Limits,
        seed: u64,
        lane: Lane<Delivery>,
        stop: CancellationToken,
    ) -> Self {
        let prefetch = Prefetch::new(options.budget.clone(), metrics::budget_used(client.name()));
        let shared = Shared {
            client,
            options: Arc::new(options),
            limits,
            prefetch,
            stop,
            trouble: Trouble::default(),
            started: Instant::now(),
        };
        Self { shared, lineage, lane, random: StdRng::seed_from_u64(seed) }
    }

    /// A task for each shard of the listing that may be read.
    fn tasks(&mut self, shards: &[Shard], opening: Option<&Opening>) -> Vec<ShardTask> {
        let ready = self.lineage.take_in(shards);
        ready
            .into_iter()
            .map(|(shard, position)| {
                let (shared, lane, seed) = (self.shared.clone(), self.lane.beside(), self.random.random());
                ShardTask::new(shared, lane, shard, position, seed, opening.cloned())
            })
            .collect()
    }

    /// Reads from these shards on. Drops `opening` when each of them is open.
    pub(in crate::consumer) async fn run(mut self, shards: Vec<Shard>, opening: Opening) {
        let mut tasks = JoinSet::new();
        for task in self.tasks(&shards, Some(&opening)) {
            start(&mut tasks, task);
        }
        drop((shards, opening));
        while let Some(ended) = tasks.join_next().await {
            match ended {
                Ok((shard, Ended::Drained)) => {
                    for child in self.children_of(&shard).await {
                        start(&mut tasks, child);
                    }
                }
                Ok((_, Ended::CaughtUp | Ended::Stopped | Ended::Failed)) => {}
                Err(panic) => {
                    let problem = format!("a shard's reader panicked ({panic})");
                    self.lane.put(Error::Contract { backend: self.shared.client.name().into(), problem }.into());
                }
            }
        }
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
                    let is_retryable = source.is_retryable();
                    let is_taken =
                        self.lane.put(Error::Shard { shard: shard.clone(), source: Box::new(source) }.into());
                    if !is_retryable || !is_taken {
                        return Vec::new();
                    }
                    tokio::select! {
                        biased;
                        () = self.shared.stop.cancelled() => return Vec::new(),
                        () = self.lane.emptied() => {}
                    }
                }
            }
        }
    }
}

fn start(tasks: &mut JoinSet<(ShardId, Ended)>, task: ShardTask) {
    let span = task.span();
    tasks.spawn(task.run().instrument(span));
}
