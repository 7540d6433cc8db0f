//! The first shard list of a reader: asked for again until nothing that the reader needs is missing in it.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::Instant;

use crate::backend::{Limits, StreamClient, shard_ids};
use crate::consumer::lineage::Share;
use crate::consumer::options::{ReaderOptions, Start};
use crate::consumer::shard_list::ShardList;
use crate::error::{Error, Result};
use crate::flow::retry;
use crate::model::hash_key::HashKeyRange;
use crate::model::position::Position;
use crate::model::shard::{Shard, ShardId};

/// What a reader starts from.
#[derive(Debug)]
pub(super) struct FirstList {
    /// Every shard that one of the lists has shown, sorted by id.
    pub(super) shards: Vec<Shard>,
    /// Shards that the reader was given by id, and that do not exist any more.
    pub(super) gone: BTreeSet<ShardId>,
    pub(super) share: Share,
}

/// Lists the shards until they hold every hash key, and show every shard that the options name and that exists.
///
/// # Errors
/// The error of a list, after the retries; [`Error::ShardOutOfRange`]; [`Error::Unavailable`] if the lists stay incomplete.
pub(super) async fn first_list(
    client: &dyn StreamClient,
    shard_list: &ShardList,
    limits: &Limits,
    start: &Start,
    options: &ReaderOptions,
    seed: u64,
) -> Result<FirstList> {
    let share = share(client, start, options, seed).await?;
    let mut backoff = options.retry.backoff(seed);
    let mut known: BTreeMap<ShardId, Shard> = BTreeMap::new();
    let (mut gone, mut removed) = (BTreeSet::new(), BTreeSet::new());
    loop {
        let listed = retry(options.retry.backoff(seed), || shard_list.requested_since(Instant::now())).await?;
        for shard in &*listed {
            // A list that shows a shard as open is older than one that shows it as closed.
            if known.get(&shard.id).is_none_or(Shard::is_open) {
                known.insert(shard.id.clone(), shard.clone());
            }
        }
        let unlisted = named(&share, options).filter(|id| !known.contains_key(*id) && !gone.contains(*id));
        let mut unlisted = existing(client, unlisted.cloned().collect(), &mut gone, options, seed).await?;
        if unlisted.is_none() {
            let relatives =
                parents_to_know(known.values(), start, options).chain(ended_to_know(known.values(), options));
            let relatives =
                relatives.filter(|id| !known.contains_key(*id) && !removed.contains(*id)).cloned().collect();
            unlisted = existing(client, relatives, &mut removed, options, seed).await?;
        }
        let problem = match unlisted {
            Some(shard) => unlisted_yet(client.name(), &format!("{shard}, which exists")),
            None if limits.key_routed && !covers_every_key(known.values()) => {
                unlisted_yet(client.name(), "a shard for every hash key")
            }
            None => return Ok(FirstList { shards: known.into_values().collect(), gone, share }),
        };
        if !backoff.wait(&problem).await {
            return Err(problem);
        }
    }
}

/// The part of the stream that the options choose.
async fn share(client: &dyn StreamClient, start: &Start, options: &ReaderOptions, seed: u64) -> Result<Share> {
    let share = match (&options.shards, options.hash_keys) {
        (Some(_), Some(_)) => {
            let problem = "a reader reads either chosen shards or a range of hash keys, not both".into();
            return Err(Error::Invalid { problem });
        }
        (Some(shards), None) => {
            Share::Shards(shard_ids(client, shards, options.retry, seed).await?.into_iter().collect())
        }
        (None, Some(range)) => Share::HashKeys(range),
        (None, None) => Share::All,
    };
    let (Start::At(record) | Start::After(record)) = start else { return Ok(share) };
    match share {
        Share::Shards(chosen) if !chosen.contains(&record.shard) => {
            let problem = format!("the start is in {}, which is not among the chosen shards", record.shard);
            Err(Error::Invalid { problem })
        }
        _ => Ok(Share::Shards(BTreeSet::from([record.shard.clone()]))),
    }
}

/// The shards that the reader was given by id, and of which it has to know whether they exist.
fn named<'a>(share: &'a Share, options: &'a ReaderOptions) -> impl Iterator<Item = &'a ShardId> {
    let checkpoints = options.checkpoints.iter().flat_map(|checkpoints| &checkpoints.shards);
    let begun = checkpoints.filter(|(_, checkpoint)| !checkpoint.is_ended()).map(|(shard, _)| shard);
    share.chosen().chain(begun)
}

/// The parents of shards of which the reader has to know whether they descend from one with a checkpoint: then they are read
/// from their start, and not from where the caller says.
fn parents_to_know<'a>(
    known: impl Iterator<Item = &'a Shard>,
    start: &Start,
    options: &ReaderOptions,
) -> impl Iterator<Item = &'a ShardId> {
    let checkpoints = options.checkpoints.as_ref().map(|checkpoints| &checkpoints.shards);
    let checkpoints = checkpoints.filter(|_| matches!(start, Start::Latest | Start::Time(_)));
    let is_begun = move |shard: &ShardId| checkpoints.is_none_or(|checkpoints| checkpoints.contains_key(shard));
    let fresh = known.filter(move |shard| !is_begun(&shard.id));
    fresh.flat_map(Shard::parents).filter(move |parent| !is_begun(parent))
}

/// The shards that were read to their end, where a list shows an open shard that no checkpoint accounts for: it may be older
/// than the checkpoints, so that the open shard is their parent. Otherwise they do not matter, and need not exist any more.
fn ended_to_know<'a>(
    mut known: impl Iterator<Item = &'a Shard>,
    options: &'a ReaderOptions,
) -> impl Iterator<Item = &'a ShardId> {
    let checkpoints = options.checkpoints.as_ref().map(|checkpoints| &checkpoints.shards);
    let is_unaccounted = |shard: &Shard| {
        let is_begun = |id: &ShardId| checkpoints.is_none_or(|checkpoints| checkpoints.contains_key(id));
        shard.is_open() && !is_begun(&shard.id) && !shard.parents().any(is_begun)
    };
    let checkpoints = checkpoints.filter(|_| known.any(is_unaccounted));
    let ended = checkpoints.into_iter().flatten().filter(|(_, checkpoint)| checkpoint.is_ended());
    ended.map(|(shard, _)| shard)
}

/// One of these shards that exists. If none does, all of them are gone.
async fn existing(
    client: &dyn StreamClient,
    shards: BTreeSet<ShardId>,
    gone: &mut BTreeSet<ShardId>,
    options: &ReaderOptions,
    seed: u64,
) -> Result<Option<ShardId>> {
    for shard in shards {
        if retry(options.retry.backoff(seed), || exists(client, &shard)).await? {
            return Ok(Some(shard));
        }
        gone.insert(shard);
    }
    Ok(None)
}

/// Whether a shard exists, by the backend itself: a list may lag behind.
///
/// # Errors
/// The error of opening it.
pub(super) async fn exists(client: &dyn StreamClient, shard: &ShardId) -> Result<bool> {
    match client.open_shard(shard, Position::TrimHorizon).await {
        Ok(_) => Ok(true),
        Err(Error::ShardNotFound { .. }) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether open shards hold every hash key. The shards are from lists of different ages: one that has children is closed.
fn covers_every_key<'a>(shards: impl Iterator<Item = &'a Shard> + Clone) -> bool {
    let parents: BTreeSet<&ShardId> = shards.clone().flat_map(Shard::parents).collect();
    let open = shards.filter(|shard| shard.is_open() && !parents.contains(&shard.id));
    HashKeyRange::ALL.is_covered_by(open.map(|shard| shard.hash_key_range))
}

fn unlisted_yet(stream: &str, what: &str) -> Error {
    let problem = format!("the shard list of '{stream}' does not show {what}");
    Error::Unavailable { problem, may_have_written: false, source: None }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::shard_map::ShardMap;

    #[test]
    fn a_shard_that_an_older_list_shows_as_open_holds_no_hash_keys_if_it_has_children() {
        let mut map = ShardMap::uniform("clicks", 1, 1).unwrap();
        let old = map.shards()[0].clone();
        let middle = old.hash_key_range.middle().unwrap();
        map.split(&old.id, middle, &mut 10).unwrap();
        let [closed, lower, upper] = map.shards() else { panic!("three shards") };
        assert!(covers_every_key([&old].into_iter()));
        assert!(!covers_every_key([&old, lower].into_iter()));
        assert!(covers_every_key([&old, lower, upper].into_iter()) && covers_every_key([lower, upper].into_iter()));
        assert!(!covers_every_key([closed, lower].into_iter()));
    }
}
