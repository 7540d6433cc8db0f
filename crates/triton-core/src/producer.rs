//! Putting records so that each ends exactly once: acknowledged, or failed to its caller.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasherDefault, DefaultHasher};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tokio::sync::OnceCell;
use tokio::time::Instant;

use crate::chance;
use crate::client::{Limits, StreamClient};
use crate::error::{Error, Result};
use crate::record::{PartitionKey, PutEntry, PutReceipt};
use crate::retry::{Backoff, RetryPolicy, until_done};

/// How a [`Producer`] works.
#[derive(Clone, Copy, Debug, Default)]
#[non_exhaustive]
pub struct ProducerOptions {
    /// When what failed is sent again, and when it is given up.
    pub retry: RetryPolicy,
    /// Decides the waits; from the operating system if `None`.
    pub seed: Option<u64>,
}

impl ProducerOptions {
    /// With another retry policy.
    pub fn with_retry(self, retry: RetryPolicy) -> Self {
        Self { retry, ..self }
    }

    /// With a seed, so that a test replays.
    pub fn with_seed(self, seed: u64) -> Self {
        Self { seed: Some(seed), ..self }
    }
}

/// Puts entries into one stream: splits them into calls, sends again what failed, and keeps each key's order.
///
/// Records of one partition key that are given in one call, or in calls that wait for each other, are read in that order,
/// retries included; calls made at once have no order among them. After a lost reply a record may be there twice; first occurrences are in order. For that, a key has at most one record in a call unless
/// the backend [keeps the order of a call](Limits::keeps_order).
#[derive(Debug)]
pub struct Producer {
    client: Arc<dyn StreamClient>,
    options: ProducerOptions,
    random: Mutex<StdRng>,
    limits: OnceCell<Limits>,
}

impl Producer {
    /// A producer for this stream.
    pub fn new(client: Arc<dyn StreamClient>, options: ProducerOptions) -> Self {
        let random = Mutex::new(StdRng::seed_from_u64(options.seed.unwrap_or_else(chance::seed)));
        Self { client, options, random, limits: OnceCell::new() }
    }

    /// Puts every entry and answers with one result each, in their order, when all are decided.
    ///
    /// An entry that fails in a way that may pass is sent again until the [`RetryPolicy`]'s deadline after its first
    /// failure; all that are left are given up when none has succeeded for that long.
    ///
    /// One entry's failure does not keep the others from being put, except that entries are
    /// [withheld](Error::Withheld) if an earlier one of their key failed and may be written late.
    ///
    /// Dropping the future leaves open which entries are written.
    pub async fn put_all(&self, entries: &[PutEntry]) -> Vec<Result<PutReceipt>> {
        let limits = match self.limits().await {
            Ok(limits) => limits,
            Err(error) => return entries.iter().map(|_| Err(error.clone())).collect(),
        };
        let mut round = Round::new(entries, limits);
        let mut backoff = self.backoff();
        while let Some(call) = round.next_call() {
            let answer = self.client.put_batch(&call.entries(entries)).await;
            let (succeeded, last_error) = round.record(&call, answer, self.client.name());
            if succeeded {
                backoff.reset();
            }
            if let Some(error) = last_error {
                round.give_up_after(self.options.retry.deadline, &error);
                if !round.pending.is_empty() && !backoff.wait(&error).await && !succeeded {
                    round.give_up(&error);
                }
            }
        }
        round.outcomes()
    }

    /// The stream's limits, asked for once.
    ///
    /// # Errors
    /// As [`StreamClient::limits`], after the retries.
    pub async fn limits(&self) -> Result<Limits> {
        self.limits.get_or_try_init(|| until_done(self.backoff(), || self.client.limits())).await.copied()
    }

    fn backoff(&self) -> Backoff {
        let seed = self.random.lock().unwrap_or_else(PoisonError::into_inner).random();
        self.options.retry.backoff(seed)
    }
}

/// The entries of one call to [`Producer::put_all`] on their way to an outcome each.
struct Round<'a> {
    entries: &'a [PutEntry],
    limits: Limits,
    /// Indexes of entries without an outcome, in order.
    pending: Vec<usize>,
    outcomes: Vec<Option<Result<PutReceipt>>>,
    /// When an entry that is pending failed first.
    failing_since: BTreeMap<usize, Instant>,
    /// Indexes of entries of which an earlier try may have been written.
    uncertain: BTreeSet<usize>,
    /// Keys of which a record failed that may still be written, and how it failed.
    poisoned: Vec<(PartitionKey, Error)>,
}

/// Which keys a call holds already. Asked, and never gone through, so that its order cannot matter; hashed by the same
/// function in every run.
#[expect(clippy::disallowed_types, reason = "a tree compares keys nine times for each of 500")]
type KeysInCall<'a> = std::collections::HashSet<&'a PartitionKey, BuildHasherDefault<DefaultHasher>>;

/// Which entries go into a call.
struct Call {
    /// Their indexes, in order.
    picked: Vec<usize>,
    /// How many of those pending were looked at for it.
    seen: usize,
}

impl Call {
    /// The entries themselves: a slice where they are neighbours, as they are unless some were sent before.
    fn entries<'e>(&self, entries: &'e [PutEntry]) -> Cow<'e, [PutEntry]> {
        match (self.picked.first(), self.picked.last()) {
            (Some(&first), Some(&last)) if last - first + 1 == self.picked.len() => {
                Cow::Borrowed(&entries[first..=last])
            }
            _ => self.picked.iter().map(|&index| entries[index].clone()).collect(),
        }
    }
}

impl<'a> Round<'a> {
    fn new(entries: &'a [PutEntry], limits: Limits) -> Self {
        let mut outcomes: Vec<Option<Result<PutReceipt>>> = Vec::with_capacity(entries.len());
        outcomes.extend(entries.iter().map(|entry| limits.check_record(entry).err().map(Err)));
        let pending = (0..entries.len()).filter(|&index| outcomes[index].is_none()).collect();
        Self {
            entries,
            limits,
            pending,
            outcomes,
            failing_since: BTreeMap::new(),
            uncertain: BTreeSet::new(),
            poisoned: Vec::new(),
        }
    }

    /// The next entries to send, in order and within the limits; `None` when every entry has its outcome.
    fn next_call(&mut self) -> Option<Call> {
        self.withhold();
        let most = self.pending.len().min(self.limits.max_entries);
        let keyed = if self.limits.keeps_order { 0 } else { most };
        let mut keys = KeysInCall::with_capacity_and_hasher(keyed, BuildHasherDefault::default());
        let (mut bytes, mut seen, mut picked) = (0, 0, Vec::with_capacity(most));
        for &index in &self.pending {
            let entry = &self.entries[index];
            if picked.len() == self.limits.max_entries || bytes + entry.size() > self.limits.max_call_bytes {
                break;
            }
            seen += 1;
            if self.limits.keeps_order || keys.insert(&entry.partition_key) {
                bytes += entry.size();
                picked.push(index);
            }
        }
        (!picked.is_empty()).then_some(Call { picked, seen })
    }

    /// Takes a call's answer. Tells whether any entry was written, and the last error after which some are sent again.
    fn record(&mut self, call: &Call, answer: Result<Vec<Result<PutReceipt>>>, stream: &str) -> (bool, Option<Error>) {
        let count = call.picked.len();
        let answers = match answer {
            Ok(answers) if answers.len() == count => answers,
            Ok(answers) => {
                let problem = format!("{} results for {count} entries", answers.len());
                vec![Err(Error::Contract { backend: stream.into(), problem }); count]
            }
            Err(error) => vec![Err(error); count],
        };
        let (mut succeeded, mut last_error) = (false, None);
        for (&index, answer) in call.picked.iter().zip(answers) {
            match answer {
                Ok(receipt) => {
                    succeeded = true;
                    self.outcomes[index] = Some(Ok(receipt));
                }
                Err(error) => {
                    if error.may_have_written() {
                        self.uncertain.insert(index);
                    }
                    if error.is_retryable() {
                        self.failing_since.entry(index).or_insert_with(Instant::now);
                        last_error = Some(error);
                    } else {
                        self.fail(index, error);
                    }
                }
            }
        }
        let (outcomes, mut place) = (&self.outcomes, 0);
        self.pending.retain(|&index| {
            place += 1;
            place > call.seen || outcomes[index].is_none()
        });
        (succeeded, last_error)
    }

    fn fail(&mut self, index: usize, error: Error) {
        if self.uncertain.contains(&index) {
            self.poisoned.push((self.entries[index].partition_key.clone(), error.clone()));
        }
        self.outcomes[index] = Some(Err(self.with_certainty(index, error)));
    }

    /// An error says that the entry may have been written if any of its own tries may have, and only then.
    fn with_certainty(&self, index: usize, error: Error) -> Error {
        match (self.uncertain.contains(&index), error.may_have_written()) {
            (true, false) => {
                let problem = "an earlier try had no answer, the last one failed".to_owned();
                Error::Unavailable { problem, may_have_written: true, source: Some(Arc::new(error)) }
            }
            (false, true) => {
                let problem = "not sent: the stream took nothing for too long".to_owned();
                Error::Unavailable { problem, may_have_written: false, source: Some(Arc::new(error)) }
            }
            _ => error,
        }
    }

    /// Fails what is pending behind a record of the same key that may still be written: it could overtake it.
    fn withhold(&mut self) {
        if self.poisoned.is_empty() {
            return;
        }
        for index in std::mem::take(&mut self.pending) {
            let key = &self.entries[index].partition_key;
            match self.poisoned.iter().find(|(poisoned, _)| poisoned == key) {
                Some((_, error)) => {
                    self.outcomes[index] = Some(Err(Error::Withheld { source: Box::new(error.clone()) }));
                }
                None => self.pending.push(index),
            }
        }
    }

    /// Fails the entries that have been failing for so long.
    fn give_up_after(&mut self, deadline: Duration, error: &Error) {
        for index in std::mem::take(&mut self.pending) {
            match self.failing_since.get(&index) {
                Some(since) if since.elapsed() >= deadline => self.fail(index, error.clone()),
                _ => self.pending.push(index),
            }
        }
    }

    fn give_up(&mut self, error: &Error) {
        for index in std::mem::take(&mut self.pending) {
            self.outcomes[index] = Some(Err(self.with_certainty(index, error.clone())));
        }
    }

    fn outcomes(self) -> Vec<Result<PutReceipt>> {
        let unanswered =
            || Error::Contract { backend: "the producer".into(), problem: "an entry has no outcome".into() };
        self.outcomes.into_iter().map(|outcome| outcome.unwrap_or_else(|| Err(unanswered()))).collect()
    }
}

#[cfg(test)]
mod tests;
