//! The shards of a stream, by ListShards.

use aws_sdk_kinesis::error::ProvideErrorMetadata as _;
use aws_sdk_kinesis::operation::list_shards::ListShardsOutput;
use triton_core::{Error, HashKeyRange, Result, Shard, ShardId};

use crate::error::contract_violation;
use crate::stream::KinesisStream;

/// Shards in a page of ListShards: as many as it gives.
const PAGE: i32 = 1_000;
/// How often a listing starts over because its page token expired (they live 300 s) before that is an error.
const MAX_RESTARTS: usize = 3;

impl KinesisStream {
    pub(crate) async fn list_shards(&self) -> Result<Vec<Shard>> {
        for _ in 0..=MAX_RESTARTS {
            if let Some(shards) = self.list().await? {
                return Ok(shards);
            }
            tracing::debug!(stream = self.stream_ref().name(), "a page token expired; listing again");
        }
        let problem =
            format!("listing the shards of '{}' takes longer than its page tokens live", self.stream_ref().name());
        Err(Error::Unavailable { problem, may_have_written: false, source: None })
    }

    /// All pages of a listing, or `None` where a page token expired on the way.
    async fn list(&self) -> Result<Option<Vec<Shard>>> {
        let (mut shards, mut token): (_, Option<String>) = (Vec::new(), None);
        loop {
            let request = self.kinesis().control_client().list_shards().max_results(PAGE);
            // A token stands for the stream as well; a request may not have both.
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
        hash_key_range: HashKeyRange {
            first: keys.starting_hash_key.parse().map_err(|_| missing("hash keys")())?,
            last: keys.ending_hash_key.parse().map_err(|_| missing("hash keys")())?,
        },
        first_sequence_number: first.parse().map_err(|_| missing("sequence numbers")())?,
        last_sequence_number: last.map(|last| last.parse().map_err(|_| missing("sequence numbers")())).transpose()?,
    })
}
