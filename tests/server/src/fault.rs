//! The faults, and which request each is injected into.

use std::collections::{HashMap, VecDeque};
use std::fmt;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use axum::http::HeaderMap;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::Value;

use crate::mode::{EndMode, ListMode, Modes, View};
use crate::wire::now_ms;

/// GetRecords requests per shard and second, for the read quota.
const READS: usize = 5;

/// An operation of the Kinesis API.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
#[expect(missing_docs, reason = "the names are AWS's")]
pub enum Operation {
    CreateStream,
    DeleteStream,
    DeregisterStreamConsumer,
    DescribeStream,
    DescribeStreamConsumer,
    DescribeStreamSummary,
    GetRecords,
    GetShardIterator,
    ListShards,
    ListStreamConsumers,
    ListStreams,
    MergeShards,
    PutRecord,
    PutRecords,
    RegisterStreamConsumer,
    SplitShard,
    SubscribeToShard,
    UpdateShardCount,
    /// An operation not listed here.
    Other,
    /// Every operation.
    Any,
}

impl Operation {
    /// The operation that a request names in its headers.
    pub(crate) fn of(headers: &HeaderMap) -> Self {
        let target = headers.get("x-amz-target").and_then(|target| target.to_str().ok()).unwrap_or_default();
        match target.strip_prefix("Kinesis_20131202.").unwrap_or_default() {
            "CreateStream" => Self::CreateStream,
            "DeleteStream" => Self::DeleteStream,
            "DeregisterStreamConsumer" => Self::DeregisterStreamConsumer,
            "DescribeStream" => Self::DescribeStream,
            "DescribeStreamConsumer" => Self::DescribeStreamConsumer,
            "DescribeStreamSummary" => Self::DescribeStreamSummary,
            "GetRecords" => Self::GetRecords,
            "GetShardIterator" => Self::GetShardIterator,
            "ListShards" => Self::ListShards,
            "ListStreamConsumers" => Self::ListStreamConsumers,
            "ListStreams" => Self::ListStreams,
            "MergeShards" => Self::MergeShards,
            "PutRecord" => Self::PutRecord,
            "PutRecords" => Self::PutRecords,
            "RegisterStreamConsumer" => Self::RegisterStreamConsumer,
            "SplitShard" => Self::SplitShard,
            "SubscribeToShard" => Self::SubscribeToShard,
            "UpdateShardCount" => Self::UpdateShardCount,
            _ => Self::Other,
        }
    }

    fn covers(self, other: Self) -> bool {
        self == Self::Any || self == other
    }
}

/// A fault that can be injected into a request. `Before` means that nothing was applied, `After` that everything was.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Fault {
    /// ProvisionedThroughputExceededException for the call; nothing is applied.
    ThrottleCall,
    /// PutRecords: every second entry is rejected with ProvisionedThroughputExceededException, the others are written.
    /// A single entry is rejected; [`Faults::inject_randomly`] rejects a random half.
    ThrottleEntries,
    /// The same with InternalFailure.
    FailEntries,
    /// PutRecords: the entries are written in reverse, or shuffled with [`Faults::inject_randomly`]. The results are in
    /// the request's order.
    ReorderEntries,
    /// PutRecords: everything is applied; the response lacks its last result.
    DropResult,
    /// 500, not applied.
    InternalErrorBefore,
    /// 500, applied.
    InternalErrorAfter,
    /// 503 with a page of HTML, not applied.
    UnavailableBefore,
    /// No response until the client hangs up or five minutes have passed, not applied.
    SilenceBefore,
    /// No response, applied.
    SilenceAfter,
    /// The connection closes without a response, not applied.
    ResetBefore,
    /// The connection closes without a response, applied.
    ResetAfter,
    /// The connection closes after half the body, applied.
    TruncatedAfter,
    /// 200 with an empty body, applied.
    EmptyAfter,
    /// 200 with a body that is not JSON, applied.
    GarbageAfter,
    /// The right response in 20 pieces over 400 ms.
    SlowAfter,
    /// ExpiredIteratorException.
    ExpiredIterator,
    /// ExpiredNextTokenException; applies only to ListShards with a NextToken.
    ExpiredToken,
    /// AccessDeniedException.
    AccessDenied,
    /// ResourceInUseException.
    ResourceInUse,
    /// ResourceNotFoundException.
    NotFound,
    /// LimitExceededException.
    LimitExceeded,
    /// KMSDisabledException.
    KmsDisabled,
    /// ExpiredTokenException: the credentials have expired.
    ExpiredCredentials,
    /// UnrecognizedClientException: the credentials are unknown.
    InvalidSignature,
    /// GetRecords: an empty page that is behind the latest record; its next iterator is the request's.
    EmptyPage,
    /// SubscribeToShard: the connection closes within the second event.
    ResetMidStream,
    /// SubscribeToShard: nothing comes after the first event, on a connection that stays open for five minutes.
    SilenceMidStream,
    /// SubscribeToShard: InternalFailureException in the stream, after the first event.
    FailureMidStream,
    /// SubscribeToShard: ResourceInUseException in the stream, after the first event: another subscription replaced it.
    TakenMidStream,
    /// SubscribeToShard: the checksum of the second event is wrong.
    GarbageMidStream,
    /// SubscribeToShard: an event without any field, after the first event. The SDK takes it for the end of the shard.
    BareMidStream,
    /// SubscribeToShard: the stream ends after the first event, as after five minutes.
    EndMidStream,
}

impl Fault {
    /// Whether this fault applies to a request; `body` is there for JSON requests only.
    fn fits(self, operation: Operation, body: Option<&Value>) -> bool {
        let has = |field| body.is_some_and(|body| body.get(field).is_some());
        match self {
            Self::ThrottleEntries | Self::FailEntries | Self::ReorderEntries | Self::DropResult => {
                operation == Operation::PutRecords && has("Records")
            }
            Self::ResetMidStream
            | Self::SilenceMidStream
            | Self::FailureMidStream
            | Self::TakenMidStream
            | Self::GarbageMidStream
            | Self::BareMidStream
            | Self::EndMidStream => operation == Operation::SubscribeToShard,
            Self::EmptyPage => operation == Operation::GetRecords && has("ShardIterator"),
            Self::ExpiredToken => operation == Operation::ListShards && has("NextToken"),
            _ => true,
        }
    }
}

/// How the server handles a position before the records that [`Faults::trim`] left.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PastRetention {
    /// GetShardIterator rejects the sequence number with InvalidArgumentException; older iterators go on at the
    /// first remaining record.
    InvalidArgument,
    /// Reading goes on at the first remaining record.
    Jump,
    /// Reading goes on at the first remaining record, after three empty pages.
    EmptyPages,
}

/// A fault to be injected into a request.
pub(crate) struct Injection {
    pub(crate) fault: Fault,
    /// Chooses entries; `None` if the choice is fixed.
    pub(crate) rng: Option<StdRng>,
}

/// The faults of a server, shared with its thread.
#[derive(Default)]
pub struct Faults {
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    queue: VecDeque<(Operation, Fault, usize)>,
    random: Option<RandomFaults>,
    injected: HashMap<Fault, u64>,
    requests: HashMap<Operation, u64>,
    page: Option<usize>,
    read_quota: bool,
    holds_resharding: bool,
    reads: HashMap<(String, String), VecDeque<Instant>>,
    trimmed: HashMap<(String, String), (String, PastRetention)>,
    modes: Modes,
    changed_lists: u64,
}

struct RandomFaults {
    rng: StdRng,
    chances: Vec<(Operation, Fault, f64)>,
}

impl Faults {
    /// Injects this fault into the next `times` requests of this operation, after those of earlier calls. A request
    /// that the fault does not apply to (for example, [`Fault::EmptyPage`] to one that is not GetRecords) does not count.
    pub fn inject(&self, operation: Operation, fault: Fault, times: usize) {
        if times > 0 {
            self.state().queue.push_back((operation, fault, times));
        }
    }

    /// Injects faults at random from now on, each with its probability from 0 to 1, as the seed decides. Replaces those
    /// of an earlier call.
    pub fn inject_randomly(&self, seed: u64, chances: Vec<(Operation, Fault, f64)>) {
        self.state().random = Some(RandomFaults { rng: StdRng::seed_from_u64(seed), chances });
    }

    /// Removes the queued and random faults, the read quota, the page size, the hold on resharding and the modes. Counts
    /// and trimmed records stay.
    pub fn clear(&self) {
        let mut state = self.state();
        state.queue.clear();
        state.random = None;
        state.page = None;
        state.read_quota = false;
        state.holds_resharding = false;
        state.reads.clear();
        state.modes = Modes::default();
    }

    /// How often this fault was injected.
    pub fn injected(&self, fault: Fault) -> u64 {
        self.state().injected.get(&fault).copied().unwrap_or_default()
    }

    /// Number of requests of this operation.
    pub fn requests(&self, operation: Operation) -> u64 {
        let state = self.state();
        state.requests.iter().filter(|(came, _)| operation.covers(**came)).map(|(_, count)| count).sum()
    }

    /// Sets whether a shard accepts at most five GetRecords per second; more fail with
    /// ProvisionedThroughputExceededException.
    pub fn set_read_quota(&self, on: bool) {
        self.state().read_quota = on;
    }

    /// Sets whether a reshard waits before its next split or merge, so that the stream stays UPDATING.
    pub fn hold_resharding(&self, on: bool) {
        self.state().holds_resharding = on;
    }

    /// Removes the records of a shard up to and including this sequence number, as retention does. `form` is how a
    /// position before the first remaining record is handled.
    pub fn trim(&self, stream: &str, shard: &str, up_to: &str, form: PastRetention) {
        self.state().trimmed.insert((stream.to_owned(), shard.to_owned()), (up_to.to_owned(), form));
    }

    /// Sets the most shards per response to ListShards; 0 means as many as on AWS.
    pub fn set_page(&self, shards: usize) {
        self.state().page = (shards > 0).then_some(shards);
    }

    /// Sets which shard list ListShards returns.
    pub fn set_list_mode(&self, mode: ListMode) {
        self.state().modes.set_list(mode);
    }

    /// Number of responses to ListShards of a list that lacked a shard, or had a closed one as open.
    pub fn changed_lists(&self) -> u64 {
        self.state().changed_lists
    }

    /// Sets how the ends of closed shards are reported.
    pub fn set_end_mode(&self, mode: EndMode) {
        self.state().modes.end = mode;
    }

    /// Sets whether a sequence number ahead of its shard's last record is rejected as a position. By default, it is a
    /// position at which no record has arrived yet. AWS documents neither.
    pub fn set_rejects_ahead(&self, on: bool) {
        self.state().modes.rejects_ahead = on;
    }

    /// Counts a request.
    pub(crate) fn count(&self, operation: Operation) {
        *self.state().requests.entry(operation).or_default() += 1;
    }

    /// The next fault for a request, if any.
    pub(crate) fn next(&self, operation: Operation, body: Option<&Value>) -> Option<Injection> {
        let mut state = self.state();
        let injection = state.next_queued(operation, body).or_else(|| state.next_random(operation, body))?;
        *state.injected.entry(injection.fault).or_default() += 1;
        Some(injection)
    }

    /// Counts a read of a shard; returns whether it exceeds the quota.
    pub(crate) fn exceeds_read_quota(&self, stream: &str, shard: &str) -> bool {
        let mut state = self.state();
        if !state.read_quota {
            return false;
        }
        let now = Instant::now();
        let reads = state.reads.entry((stream.to_owned(), shard.to_owned())).or_default();
        reads.retain(|read| now.duration_since(*read) < Duration::from_secs(1));
        if reads.len() >= READS {
            return true;
        }
        reads.push_back(now);
        false
    }

    /// Whether a reshard has to wait.
    pub(crate) fn holds_resharding(&self) -> bool {
        self.state().holds_resharding
    }

    /// The last sequence number that was trimmed from a shard.
    pub(crate) fn trimmed(&self, stream: &str, shard: &str) -> Option<(String, PastRetention)> {
        self.state().trimmed.get(&(stream.to_owned(), shard.to_owned())).cloned()
    }

    /// The view of the next listing.
    pub(crate) fn next_view(&self) -> View {
        self.state().modes.next_view(now_ms())
    }

    /// Counts a response to ListShards that differs from the current list.
    pub(crate) fn count_changed_list(&self) {
        self.state().changed_lists += 1;
    }

    /// How the ends of closed shards are reported.
    pub(crate) fn end_mode(&self) -> EndMode {
        self.state().modes.end
    }

    /// Whether a position ahead of its shard's last record is rejected.
    pub(crate) fn rejects_ahead(&self) -> bool {
        self.state().modes.rejects_ahead
    }

    /// The page size of ListShards.
    pub(crate) fn page(&self) -> usize {
        self.state().page.unwrap_or(usize::MAX)
    }

    /// Forgets a stream that was deleted.
    pub(crate) fn forget(&self, stream: &str) {
        let mut state = self.state();
        state.trimmed.retain(|(of, _), _| of != stream);
        state.reads.retain(|(of, _), _| of != stream);
    }

    fn state(&self) -> MutexGuard<'_, State> {
        // No change is left half done by a panic.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn next_queued(&mut self, operation: Operation, body: Option<&Value>) -> Option<Injection> {
        let fits = |&(of, fault, _): &(Operation, Fault, usize)| of.covers(operation) && fault.fits(operation, body);
        let place = self.queue.iter().position(fits)?;
        let (_, fault, times) = &mut self.queue[place];
        let injection = Injection { fault: *fault, rng: None };
        *times -= 1;
        if *times == 0 {
            self.queue.remove(place);
        }
        Some(injection)
    }

    fn next_random(&mut self, operation: Operation, body: Option<&Value>) -> Option<Injection> {
        let RandomFaults { rng, chances } = self.random.as_mut()?;
        for &(of, fault, probability) in chances.iter() {
            if of.covers(operation) && fault.fits(operation, body) && rng.random_bool(probability.clamp(0.0, 1.0)) {
                return Some(Injection { fault, rng: Some(StdRng::seed_from_u64(rng.random())) });
            }
        }
        None
    }
}

impl fmt::Debug for Faults {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let state = self.state();
        f.debug_struct("Faults")
            .field("queue", &state.queue)
            .field("random", &state.random.as_ref().map(|random| &random.chances))
            .field("injected", &state.injected)
            .field("requests", &state.requests)
            .finish_non_exhaustive()
    }
}
