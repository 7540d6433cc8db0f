//! The task that owns the shard tasks. It starts one for each shard that may be read. When a shard is drained, it lists the
//! stream's shards and starts the tasks of the drained shard's children.

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::task::JoinSet;
use tracing::Instrument as _;

use crate::error::Error;
use crate::flow::retry;
use crate::model::shard::{Shard, ShardId};

use crate::consumer::fan_in::FairSender;
use crate::consumer::lineage::Lineage;
use crate::consumer::shard::fetch::{Delivery, Ended, Opening, ShardTask, Shared};

#[derive(Debug)]
pub(in crate::consumer) struct ShardSupervisor {
    shared: Shared,
    lineage: Lineage,
    /// Sends errors of the supervisor itself. Each shard task gets a sender of its own, made from this one.
    sender: FairSender<Delivery>,
    random: StdRng,
}

impl ShardSupervisor {
    pub(in crate::consumer) fn new(shared: Shared, lineage: Lineage, seed: u64, sender: FairSender<Delivery>) -> Self {
        Self { shared, lineage, sender, random: StdRng::seed_from_u64(seed) }
    }

    /// A task for each listed shard that may be read now.
    fn tasks(&mut self, shards: &[Shard], opening: Option<&Opening>) -> Vec<ShardTask> {
        let ready = self.lineage.apply(shards);
        ready
            .into_iter()
            .map(|(shard, position)| {
                let (shared, sender, seed) = (self.shared.clone(), self.sender.another(), self.random.random());
                ShardTask::new(shared, sender, shard, position, seed, opening.cloned())
            })
            .collect()
    }

    /// Reads these shards and their descendants. Each of their tasks holds a clone of `opening` until its shard is open.
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
                    self.sender.send(Error::Contract { backend: self.shared.client.name().into(), problem }.into());
                }
            }
        }
    }

    /// The tasks of a drained shard's children. A failed listing is reported, and retried until it succeeds.
    async fn children_of(&mut self, shard: &ShardId) -> Vec<ShardTask> {
        self.lineage.drained(shard);
        loop {
            let backoff = self.shared.options.retry.backoff(self.random.random());
            let listing = tokio::select! {
                biased;
                () = self.shared.stop.cancelled() => return Vec::new(),
                listing = retry(backoff, || self.shared.client.shards()) => listing,
            };
            match listing {
                Ok(shards) => return self.tasks(&shards, None),
                Err(source) => {
                    let is_retryable = source.is_retryable();
                    let has_receiver =
                        self.sender.send(Error::Shard { shard: shard.clone(), source: Box::new(source) }.into());
                    if !is_retryable || !has_receiver {
                        return Vec::new();
                    }
                    tokio::select! {
                        biased;
                        () = self.shared.stop.cancelled() => return Vec::new(),
                        () = self.sender.emptied() => {}
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
