//! Reading one shard: when to fetch, how much, and how far ahead of the consumer.

pub(super) mod fetch;
pub(super) mod metrics;
pub(super) mod pacing;
pub(super) mod prefetch;
