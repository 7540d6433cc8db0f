//! The server's time, from the dates of its responses, and the SDK's times as timestamps. Times that are sent to
//! the server or compared with its retention come from here, because this machine's clock may be wrong.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use aws_sdk_kinesis::config::interceptors::BeforeDeserializationInterceptorContextRef;
use aws_sdk_kinesis::config::{ConfigBag, Intercept, RuntimeComponents};
use aws_sdk_kinesis::error::BoxError;
use aws_sdk_kinesis::primitives::{DateTime, DateTimeFormat};
use tokio::time::Instant;
use triton_core::Timestamp;

/// Age at which a date is replaced even by an earlier one: clocks drift apart.
const MAX_ANCHOR_AGE: Duration = Duration::from_secs(60);

/// How far this machine's clock may be ahead of the server's before there is a date to compare.
const LOCAL_CLOCK_MARGIN: Duration = Duration::from_secs(10);

/// A lower bound of the server's time, at most about a second low: HTTP dates count whole seconds, so the server's
/// clock shows the date of a response or later.
#[derive(Debug, Default)]
pub(crate) struct ServerClock {
    anchor: Mutex<Option<Anchor>>,
}

#[derive(Clone, Copy, Debug)]
struct Anchor {
    date: Timestamp,
    seen: Instant,
    /// Milliseconds that this machine's clock was ahead of the date. Includes the fraction of a second that dates lack.
    ahead_millis: i64,
}

impl ServerClock {
    /// The server's time at `instant`, or earlier. Before the first response with a date: this machine's time, minus a
    /// margin.
    pub(crate) fn at(&self, instant: Instant) -> Timestamp {
        let anchor = *self.lock();
        match anchor {
            Some(anchor) => match instant.checked_duration_since(anchor.seen) {
                Some(since) => anchor.date + since,
                None => anchor.date - anchor.seen.duration_since(instant),
            },
            None => Timestamp::from(SystemTime::now()) - instant.elapsed() - LOCAL_CLOCK_MARGIN,
        }
    }

    /// Milliseconds that this machine's clock is ahead of the server's, give or take a second; `None` before the first
    /// response with a date.
    pub(crate) fn ahead_millis(&self) -> Option<i64> {
        self.lock().map(|anchor| anchor.ahead_millis)
    }

    fn observe(&self, date: Timestamp) {
        let seen = Instant::now();
        let ahead_millis = Timestamp::from(SystemTime::now()).as_millis() - date.as_millis();
        let is_later = date >= self.at(seen);
        let mut anchor = self.lock();
        if is_later || anchor.is_none_or(|anchor| seen.duration_since(anchor.seen) > MAX_ANCHOR_AGE) {
            *anchor = Some(Anchor { date, seen, ahead_millis });
        }
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Anchor>> {
        self.anchor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Shows the clock the date of every response.
#[derive(Debug)]
pub(crate) struct DateInterceptor(pub(crate) std::sync::Arc<ServerClock>);

impl Intercept for DateInterceptor {
    fn name(&self) -> &'static str {
        "DateInterceptor"
    }

    fn read_before_deserialization(
        &self,
        context: &BeforeDeserializationInterceptorContextRef<'_>,
        _: &RuntimeComponents,
        _: &mut ConfigBag,
    ) -> Result<(), BoxError> {
        let date = context.response().headers().get("date");
        if let Some(date) = date.and_then(|date| DateTime::from_str(date, DateTimeFormat::HttpDate).ok()) {
            self.0.observe(Timestamp::from_millis(date.secs().saturating_mul(1000)));
        }
        Ok(())
    }
}

/// Rounds to the millisecond: Kinesis sends seconds with a fraction, whose binary form may be slightly below it.
pub(crate) fn to_timestamp(time: DateTime) -> Timestamp {
    let fraction = i64::from(time.subsec_nanos()).saturating_add(500_000) / 1_000_000;
    Timestamp::from_millis(time.secs().saturating_mul(1000).saturating_add(fraction))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_bound_grows_with_time_and_never_exceeds_the_servers_time() {
        let clock = ServerClock::default();
        assert!(clock.at(Instant::now()) < Timestamp::from(SystemTime::now()));
        // The server's time is 10.9 s, its date 10 s.
        clock.observe(Timestamp::from_millis(10_000));
        let first = Instant::now();
        tokio::time::advance(Duration::from_millis(300)).await;
        assert_eq!(clock.at(Instant::now()), Timestamp::from_millis(10_300));
        assert_eq!(clock.at(first - Duration::from_millis(100)), Timestamp::from_millis(9_900));
        // At 11.2 s its date is 11 s, later than the bound.
        clock.observe(Timestamp::from_millis(11_000));
        assert_eq!(clock.at(Instant::now()), Timestamp::from_millis(11_000));
        tokio::time::advance(Duration::from_millis(700)).await;
        // At 11.9 s its date is 11 s still, earlier than the bound.
        clock.observe(Timestamp::from_millis(11_000));
        assert_eq!(clock.at(Instant::now()), Timestamp::from_millis(11_700));
    }

    #[tokio::test(start_paused = true)]
    async fn an_old_anchor_is_replaced_because_clocks_drift() {
        let clock = ServerClock::default();
        clock.observe(Timestamp::from_millis(10_000));
        tokio::time::advance(MAX_ANCHOR_AGE + Duration::from_millis(1)).await;
        clock.observe(Timestamp::from_millis(69_000));
        assert_eq!(clock.at(Instant::now()), Timestamp::from_millis(69_000));
    }

    #[test]
    fn a_time_keeps_its_millisecond_through_seconds_with_a_fraction() {
        for millis in 1_795_443_162_000..1_795_443_163_000 {
            let read = DateTime::from_secs_f64(millis as f64 / 1000.0);
            assert_eq!(to_timestamp(read).as_millis(), millis);
        }
        assert_eq!(to_timestamp(DateTime::from_millis(-1)).as_millis(), -1);
    }
}
