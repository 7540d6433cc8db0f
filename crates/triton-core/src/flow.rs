//! How fast, how much, and how often again.

pub(crate) mod budget;
pub(crate) mod rate_limiter;
pub(crate) mod retry;
pub(crate) mod seed;
