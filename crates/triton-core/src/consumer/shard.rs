//! Reading one shard: where it starts, when to fetch, how much, how far ahead of the consumer, and where it ends.

pub(super) mod delivery;
pub(super) mod fetch;
pub(super) mod metrics;
pub(super) mod pacing;
pub(super) mod prefetch;
pub(super) mod silence;
pub(super) mod start;
