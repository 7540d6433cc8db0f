//! Creates, changes and deletes streams, as a [`StreamAdmin`]. Each call returns when the stream is active again, or
//! gone.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::types::{ScalingType, StreamMode, StreamModeDetails};
use triton_core::flow::{Backoff, poll_until, random_seed};
use triton_core::{CreateOptions, Error, HashKey, Result, RetryPolicy, Shard, ShardId, StreamAdmin, StreamClient};

use crate::connection::Kinesis;
use crate::description::StreamDescription;
use crate::error::quota_exceeded;
use crate::stream::KinesisStream;

/// The ceilings of the waits between two descriptions of a stream that is being changed.
const FIRST_POLL: Duration = Duration::from_millis(20);
const LONGEST_POLL: Duration = Duration::from_secs(2);
/// Time that a change may take. Kinesis takes about half a minute for a split, and several seconds for each shard of a
/// reshard.
const CHANGE_DEADLINE: Duration = Duration::from_secs(20 * 60);

const HOUR: Duration = Duration::from_secs(60 * 60);
/// Kinesis' retention, in hours.
const RETENTION_HOURS: std::ops::RangeInclusive<u64> = 24..=8_760;

impl Kinesis {
    /// Checks the credentials by Kinesis' cheapest call, a list of one stream.
    ///
    /// # Errors
    /// [`Error::Credentials`]; [`Error::AccessDenied`] for valid credentials that may not list streams; the reason why
    /// Kinesis gives no response.
    pub async fn check_credentials(&self) -> Result<()> {
        let response = self.control_client().list_streams().limit(1).send().await;
        response.map(|_| ()).map_err(|error| self.read_context("", None).error(error))
    }

    /// Waits until the stream is active, and describes it.
    async fn wait_until_active(&self, stream: &KinesisStream) -> Result<StreamDescription> {
        let active = poll_until(change_backoff(), || async {
            match stream.describe().await {
                // The change goes on: a refused look does not end it.
                Err(Error::Throttled { .. }) => Ok(None),
                described => Ok(Some(described?).filter(StreamDescription::is_active)),
            }
        });
        active.await?.ok_or_else(|| still_changing(stream))
    }

    async fn wait_until_deleted(&self, stream: &KinesisStream) -> Result<()> {
        let deleted = poll_until(change_backoff(), || async {
            match stream.describe().await {
                Err(Error::StreamNotFound { .. }) => Ok(Some(())),
                Err(Error::Throttled { .. }) => Ok(None),
                described => described.map(|_| None),
            }
        });
        deleted.await?.ok_or_else(|| still_changing(stream))
    }

    /// Takes one step towards this number of open shards; `true` once it is reached.
    async fn reshard_step(&self, stream: &KinesisStream, shards: usize) -> Result<bool> {
        let description = self.wait_until_active(stream).await?;
        if description.open_shards == shards && is_uniform(stream, shards).await? {
            return Ok(true);
        }
        let step = next_step(description.open_shards, shards);
        tracing::info!("stream '{}': {} shards become {step}", stream.name(), description.open_shards);
        self.control_client()
            .update_shard_count()
            .set_stream_name(stream.stream_ref().stream_name())
            .set_stream_arn(stream.stream_ref().stream_arn())
            .target_shard_count(to_count(step)?)
            .scaling_type(ScalingType::UniformScaling)
            .send()
            .await
            .map_err(|error| match error.code() {
                Some("LimitExceededException") => quota_exceeded(&error),
                _ => self.write_context(stream.name(), None).error(error),
            })?;
        self.wait_until_active(stream).await?;
        Ok(step == shards)
    }

    async fn increase_retention(&self, stream: &KinesisStream, hours: u64) -> Result<()> {
        let hours = i32::try_from(hours).unwrap_or(i32::MAX);
        self.control_client()
            .increase_stream_retention_period()
            .set_stream_name(stream.stream_ref().stream_name())
            .set_stream_arn(stream.stream_ref().stream_arn())
            .retention_period_hours(hours)
            .send()
            .await
            .map_err(|error| self.write_context(stream.name(), None).error(error))?;
        self.wait_until_active(stream).await.map(|_| ())
    }
}

#[async_trait]
impl StreamAdmin for Kinesis {
    async fn open(&self, stream: &str) -> Result<Arc<dyn StreamClient>> {
        let stream = self.stream(stream)?;
        stream.limits().await?;
        Ok(Arc::new(stream))
    }

    async fn create(&self, stream: &str, options: CreateOptions) -> Result<()> {
        let hours = retention_hours(options.retention)?;
        if options.shards == 0 {
            return Err(Error::Invalid { problem: "a stream has 1 shard at least".into() });
        }
        let stream = self.stream(stream)?;
        if stream.stream_ref().stream_arn().is_some() {
            let problem = "a stream is made by its name, in the account of the credentials, and not by an ARN".into();
            return Err(Error::Invalid { problem });
        }
        let request = self.control_client().create_stream().stream_name(stream.name());
        let request = if options.on_demand {
            let mode = StreamModeDetails::builder().stream_mode(StreamMode::OnDemand).build();
            request.stream_mode_details(mode.map_err(|error| Error::Invalid { problem: error.to_string() })?)
        } else {
            request.shard_count(to_count(options.shards)?)
        };
        if let Err(error) = request.send().await {
            return Err(match error.code() {
                Some("ResourceInUseException") => {
                    Error::StreamExists { stream: stream.name().into(), location: self.location().into() }
                }
                Some("LimitExceededException") => quota_exceeded(&error),
                _ => self.write_context(stream.name(), None).error(error),
            });
        }
        self.wait_until_active(&stream).await?;
        match hours {
            24 => Ok(()),
            hours => self.increase_retention(&stream, hours).await,
        }
    }

    async fn delete(&self, stream: &str) -> Result<()> {
        let stream = self.stream(stream)?;
        self.control_client()
            .delete_stream()
            .set_stream_name(stream.stream_ref().stream_name())
            .set_stream_arn(stream.stream_ref().stream_arn())
            .send()
            .await
            .map_err(|error| self.write_context(stream.name(), None).error(error))?;
        self.wait_until_deleted(&stream).await
    }

    async fn list(&self) -> Result<Vec<String>> {
        let mut names: Vec<String> = Vec::new();
        loop {
            let page = self
                .control_client()
                .list_streams()
                .set_exclusive_start_stream_name(names.last().cloned())
                .send()
                .await
                .map_err(|error| self.read_context("", None).error(error))?;
            let goes_on = page.stream_names.last() > names.last();
            names.extend(page.stream_names);
            if !page.has_more_streams || !goes_on {
                names.sort_unstable();
                return Ok(names);
            }
        }
    }

    async fn split(&self, stream: &str, shard: &ShardId, at: HashKey) -> Result<()> {
        let stream = self.stream(stream)?;
        self.wait_until_active(&stream).await?;
        self.control_client()
            .split_shard()
            .set_stream_name(stream.stream_ref().stream_name())
            .set_stream_arn(stream.stream_ref().stream_arn())
            .shard_to_split(shard.as_str())
            .new_starting_hash_key(at.to_string())
            .send()
            .await
            .map_err(|error| self.write_context(stream.name(), Some(shard)).error(error))?;
        self.wait_until_active(&stream).await.map(|_| ())
    }

    async fn merge(&self, stream: &str, shard: &ShardId, adjacent: &ShardId) -> Result<()> {
        let stream = self.stream(stream)?;
        self.wait_until_active(&stream).await?;
        let shards = stream.list_shards().await?;
        let first_key =
            |id: &ShardId| shards.iter().find(|shard| shard.id == *id).map(|shard| shard.hash_key_range.first);
        // The shard with the lower hash keys goes first.
        let (shard, adjacent) =
            if first_key(shard) > first_key(adjacent) { (adjacent, shard) } else { (shard, adjacent) };
        self.control_client()
            .merge_shards()
            .set_stream_name(stream.stream_ref().stream_name())
            .set_stream_arn(stream.stream_ref().stream_arn())
            .shard_to_merge(shard.as_str())
            .adjacent_shard_to_merge(adjacent.as_str())
            .send()
            .await
            .map_err(|error| self.write_context(stream.name(), Some(shard)).error(error))?;
        self.wait_until_active(&stream).await.map(|_| ())
    }

    async fn reshard(&self, stream: &str, shards: usize) -> Result<()> {
        if shards == 0 {
            return Err(Error::Invalid { problem: "a stream has 1 shard at least".into() });
        }
        let stream = self.stream(stream)?;
        while !self.reshard_step(&stream, shards).await? {}
        Ok(())
    }
}

/// The next number of shards: Kinesis at most doubles or halves it in one call.
fn next_step(open: usize, wanted: usize) -> usize {
    wanted.clamp(open.div_ceil(2), open.max(1) * 2)
}

/// Whether the open shards, of which there are this many, have equal sizes.
async fn is_uniform(stream: &KinesisStream, open: usize) -> Result<bool> {
    let listed = poll_until(change_backoff(), || async {
        let mut shards = stream.list_shards().await?;
        shards.retain(Shard::is_open);
        // A list with another number of open shards is older than the description.
        Ok(Some(shards).filter(|shards| shards.len() == open))
    });
    let shards = listed.await?.ok_or_else(|| still_changing(stream))?;
    let sizes = shards.iter().map(|shard| shard.hash_key_range.last.0 - shard.hash_key_range.first.0);
    let (smallest, largest) = sizes.fold((u128::MAX, 0), |(min, max), size| (size.min(min), size.max(max)));
    // The last shard holds the remainder of the division.
    Ok(largest.saturating_sub(smallest) <= open as u128)
}

fn retention_hours(retention: Duration) -> Result<u64> {
    let hours = retention.as_secs() / HOUR.as_secs();
    if RETENTION_HOURS.contains(&hours) && Duration::from_secs(hours * HOUR.as_secs()) == retention {
        Ok(hours)
    } else {
        Err(Error::Invalid { problem: "Kinesis keeps records for whole hours, from 24h to 365d".into() })
    }
}

fn to_count(shards: usize) -> Result<i32> {
    i32::try_from(shards).map_err(|_| Error::Invalid { problem: format!("{shards} shards are too many") })
}

fn change_backoff() -> Backoff {
    let policy = RetryPolicy::default().with_first(FIRST_POLL).with_longest(LONGEST_POLL);
    policy.with_deadline(CHANGE_DEADLINE).backoff(random_seed())
}

fn still_changing(stream: &KinesisStream) -> Error {
    let minutes = CHANGE_DEADLINE.as_secs() / 60;
    let problem = format!("stream '{}' is still being changed after {minutes} minutes", stream.stream_ref().name());
    Error::Unavailable { problem, may_have_written: true, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reshard_doubles_or_halves_per_step() {
        let steps = |mut open, wanted| {
            let mut steps = Vec::new();
            while open != wanted {
                open = next_step(open, wanted);
                steps.push(open);
            }
            steps
        };
        assert_eq!(steps(2, 5), [4, 5]);
        assert_eq!(steps(5, 2), [3, 2]);
        assert_eq!(steps(1, 1000), [2, 4, 8, 16, 32, 64, 128, 256, 512, 1000]);
    }

    #[test]
    fn retention_is_in_whole_hours() {
        assert_eq!(retention_hours(HOUR * 24).unwrap(), 24);
        assert_eq!(retention_hours(HOUR * 8_760).unwrap(), 8_760);
        for wrong in [HOUR, HOUR * 25 + Duration::from_secs(1), HOUR * 8_761, Duration::MAX] {
            assert!(retention_hours(wrong).is_err(), "{wrong:?}");
        }
    }
}
