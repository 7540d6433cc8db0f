//! The list of a stream's shards, open and closed, by ListShards; hides its pages. Also the children that are named at the
//! end of a shard.

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use triton_core::{ChildShard, Error, HashKeyRange, Result, Shard, ShardId};

use crate::error::contract_violation;
use crate::stream::KinesisStream;

/// Shards per page of ListShards: its maximum.
const PAGE: i32 = 1_000;
/// Number of times that a listing starts over because a page token has expired (after 300 s).
const MAX_RESTARTS: usize = 3;

impl KinesisStream {
    /// All shards, sorted by id. Cancel safe.
    ///
    /// # Errors
    /// [`Error::Unavailable`] where page tokens keep expiring before the list is complete.
    pub(crate) async fn list_shards(&self) -> Result<Vec<Shard>> {
        for _ in 0..=MAX_RESTARTS {
            if let Some(shards) = self.list().await? {
                return Ok(shards);
            }
            tracing::debug!(stream = self.stream_ref().name(), "a page token expired, listing again");
        }
        let problem =
            format!("listing the shards of '{}' takes longer than its page tokens live", self.stream_ref().name());
        Err(Error::Unavailable { problem, may_have_written: false, source: None })
    }

    /// All pages of one listing; `None` if a page token expired.
    async fn list(&self) -> Result<Option<Vec<Shard>>> {
        let (mut shards, mut token): (_, Option<String>) = (Vec::new(), None);
        loop {
            let request = self.kinesis().control_client().list_shards().max_results(PAGE);
            // A token includes the stream, and a request may not have both.
            let request = match token.clone() {
                Some(token) => request.next_token(token),
                None => request
                    .set_stream_name(self.stream_ref().stream_name())
                    .set_stream_arn(self.stream_ref().stream_arn()),
            };
            let page: ListShardsOutput = match request.send().await {
                Ok(page) => page,
                Err(error) if error.code() == Some("ExpiredNextTokenException") => return Ok(None),
                Err(error) => return Err(self.kinesis().read_context(self.stream_ref().name(), None).error(error)),
            };
            let Some(page_of_shards) = page.shards else {
                return Err(self.kinesis().read_context(self.stream_ref().name(), None).empty_response());
            };
            for shard in page_of_shards {
                shards.push(to_shard(shard)?);
            }
            let next = page.next_token.filter(|token| !token.is_empty());
            if next.is_some() && next == token {
                return Err(contract_violation("ListShards goes round in a circle"));
            }
            token = next;
            if token.is_none() {
                shards.sort_unstable_by(|a, b| a.id.cmp(&b.id));
                return Ok(Some(shards));
            }
        }
    }
}

fn to_shard(shard: aws_sdk_kinesis::types::Shard) -> Result<Shard> {
    let missing = |what| move || contract_violation(&format!("a shard in the list has no {what}"));
    let keys = shard.hash_key_range.ok_or_else(missing("hash keys"))?;
    let numbers = shard.sequence_number_range.ok_or_else(missing("sequence numbers"))?;
    let (first, last) = (numbers.starting_sequence_number, numbers.ending_sequence_number);
    Ok(Shard {
        id: ShardId::from(shard.shard_id.as_str()),
        parent: shard.parent_shard_id.as_deref().map(ShardId::from),
        adjacent_parent: shard.adjacent_parent_shard_id.as_deref().map(ShardId::from),
        hash_key_range: to_range(&keys).ok_or_else(missing("hash keys"))?,
        first_sequence_number: first.parse().map_err(|_| missing("sequence numbers")())?,
        last_sequence_number: last.map(|last| last.parse().map_err(|_| missing("sequence numbers")())).transpose()?,
    })
}

fn to_range(keys: &aws_sdk_kinesis::types::HashKeyRange) -> Option<HashKeyRange> {
    let (first, last) = (keys.starting_hash_key.parse().ok()?, keys.ending_hash_key.parse().ok()?);
    Some(HashKeyRange { first, last })
}

/// The children that the last page of a shard names. None if one of them is incomplete: the list has them all.
pub(crate) fn to_children(children: &[aws_sdk_kinesis::types::ChildShard]) -> Vec<ChildShard> {
    let to_child = |child: &aws_sdk_kinesis::types::ChildShard| {
        let parents: Vec<ShardId> = child.parent_shards.iter().map(|parent| ShardId::from(parent.as_str())).collect();
        let hash_key_range = to_range(child.hash_key_range.as_ref()?)?;
        let is_complete = !child.shard_id.is_empty() && !parents.is_empty();
        is_complete.then(|| ChildShard { id: ShardId::from(child.shard_id.as_str()), parents, hash_key_range })
    };
    children.iter().map(to_child).collect::<Option<_>>().unwrap_or_default()
}
