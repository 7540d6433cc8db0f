//! Flow control: how fast, how much, and how often again.
//!
//! Nothing here knows records or streams. A rate limiter keeps to a quota, [`Budget`] bounds memory, [`Backoff`] spaces
//! retries; everything random in them comes from a [seed](random_seed).

mod budget;
pub(crate) mod rate_limiter;
mod retry;
pub(crate) mod seed;

pub use self::budget::Budget;
pub(crate) use self::budget::Reservation;
pub(crate) use self::retry::WarnOnce;
pub use self::retry::{Backoff, RetryPolicy, poll_until, retry};
pub use self::seed::random as random_seed;
