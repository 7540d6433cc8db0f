//! Since when a shard is silent, and when that is looked into: some servers never tell the end of a shard.

use std::time::Duration;

use rand::RngExt;
use rand::rngs::StdRng;
use tokio::time::Instant;

/// How long a shard is silent before its stream's shard list is looked at.
pub(in crate::consumer) const LOOK_AFTER: Duration = Duration::from_secs(30);

/// Random part of that time: shards that fell silent together do not look at the list together.
const JITTER: f64 = 0.1;

/// Shards that fell silent together look at the list within this time of each other, so that one list serves them. An older list
/// may have been requested before a shard was closed, although the shard has been silent for long since.
pub(in crate::consumer) const LIST_AGE: Duration = Duration::from_secs(6);

/// Notes the silence of one shard.
#[derive(Debug)]
pub(super) struct Silence {
    look_at: Instant,
}

impl Silence {
    pub(super) fn new(random: &mut StdRng) -> Self {
        Self { look_at: next_look(random) }
    }

    /// The shard has returned records, or was looked at.
    pub(super) fn broken(&mut self, random: &mut StdRng) {
        self.look_at = next_look(random);
    }

    /// Whether the shard has been silent for so long that it is looked at.
    pub(super) fn is_long(&self) -> bool {
        Instant::now() >= self.look_at
    }
}

/// When a shard list is looked at next, if nothing asks for it before.
pub(in crate::consumer) fn next_look(random: &mut StdRng) -> Instant {
    Instant::now() + LOOK_AFTER.mul_f64(random.random_range(1.0 - JITTER..1.0 + JITTER))
}
