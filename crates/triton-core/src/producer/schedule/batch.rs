//! A call on its way: what it holds, and what of each entry has to be remembered.

use tokio::time::Instant;

use crate::backend::Limits;
use crate::record::aggregate::Packer;
use crate::record::{Entries, PutEntry};

use super::lane::{Claim, Lane, Lanes, Pending};

/// Bytes that an aggregate has at least, where there is so much: what Kinesis bills as one. More only where the quota
/// allows more at once. Larger ones would cost little less, and make the shard's pace coarse.
pub(super) const AGGREGATE_BYTES: usize = 25 << 10;

/// What keeps the records of one key in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Nothing: any number of calls, any number of a key's records in each.
    Relaxed,
    /// A key has one record on its way.
    ByKey,
    /// A lane has one aggregate on its way.
    ByLane,
    /// There is one call on its way, and calls keep their order.
    ByCall,
}

/// One entry of a call.
pub(super) struct Wire {
    pub(super) lane: usize,
    /// The record that it is, or the records that are packed into it.
    pub(super) records: Records,
}

pub(super) enum Records {
    /// Its entry is the call's.
    One(Claim),
    Packed(Vec<Pending>),
}

/// Entries that are sent together.
pub(super) struct Call {
    pub(super) entries: Entries,
    pub(super) wires: Vec<Wire>,
    /// The map of lanes that it was made by.
    pub(super) generation: u64,
}

/// Fills a call.
pub(super) struct Loader<'a> {
    limits: &'a Limits,
    order: Order,
    aggregates: bool,
    now: Instant,
    entries: Vec<PutEntry>,
    wires: Vec<Wire>,
    bytes: usize,
}

/// Why a lane gives no more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ends {
    /// It has nothing that may be sent now.
    Lane,
    /// The call is full.
    Call,
}

impl<'a> Loader<'a> {
    pub(super) fn new(limits: &'a Limits, order: Order, aggregates: bool, now: Instant) -> Self {
        Self { limits, order, aggregates, now, entries: Vec::new(), wires: Vec::new(), bytes: 0 }
    }

    /// Takes from the lanes in turns what may be sent now, until the call is full or there is no more.
    pub(super) fn load(mut self, lanes: &mut Lanes, generation: u64) -> Option<Call> {
        for _ in 0..lanes.active.len() {
            let Some(index) = lanes.active.pop_front() else { break };
            let lane = &mut lanes.lanes[index];
            let before = self.wires.len();
            let ends = if lane.sends_at(self.now) <= self.now { self.take_from(lane, index) } else { Ends::Lane };
            if ends == Ends::Call && self.wires.len() == before {
                // Its turn is in the next call.
                lanes.active.push_front(index);
                break;
            }
            lanes.end_turn(index);
            if ends == Ends::Call {
                break;
            }
        }
        let (entries, wires) = (self.entries.into(), self.wires);
        (!wires.is_empty()).then_some(Call { entries, wires, generation })
    }

    fn take_from(&mut self, lane: &mut Lane, index: usize) -> Ends {
        while let Some(first) = lane.ready.front() {
            let room = self.limits.max_call_bytes.saturating_sub(self.bytes);
            let is_over = self.entries.len() >= self.limits.max_entries || first.entry.size() > room;
            // What no call takes goes alone, and is refused.
            if is_over && !self.entries.is_empty() {
                return Ends::Call;
            }
            if self.order == Order::ByLane && lane.in_flight > 0 {
                return Ends::Lane;
            }
            if lane.pace.as_mut().is_some_and(|pace| pace.ready_at(self.now) > self.now) {
                return Ends::Lane;
            }
            let Some((entry, records)) = (match self.aggregates {
                true => self.pack(lane, room),
                false => one(lane),
            }) else {
                return Ends::Lane;
            };
            if let Some(pace) = &mut lane.pace {
                pace.acquire(self.now, entry.size(), 1);
            }
            lane.in_flight += 1;
            self.bytes += entry.size();
            self.entries.push(entry);
            self.wires.push(Wire { lane: index, records });
        }
        Ends::Lane
    }

    /// As many records as an aggregate holds; a single one as it is.
    fn pack(&self, lane: &mut Lane, room: usize) -> Option<(PutEntry, Records)> {
        let allowed = lane.pace.as_mut().map_or(0, |pace| pace.available_bytes(self.now));
        let most = allowed.max(AGGREGATE_BYTES).min(self.limits.max_record_bytes).min(room);
        let mut packer = Packer::new();
        let mut packed = Vec::new();
        while let Some(next) = lane.ready.front() {
            // The first goes in any case: it is as large as it is.
            let bytes = if packed.is_empty() { usize::MAX } else { most };
            if !packer.push_within(&next.entry, bytes) {
                break;
            }
            packed.extend(lane.pop_front().map(sent));
        }
        let entry = packer.finish()?;
        match packed.len() {
            1 => Some((entry, Records::One(packed.pop()?.claim))),
            _ => Some((entry, Records::Packed(packed))),
        }
    }
}

fn one(lane: &mut Lane) -> Option<(PutEntry, Records)> {
    let Pending { entry, claim } = lane.pop_front().map(sent)?;
    Some((entry, Records::One(claim)))
}

fn sent(mut pending: Pending) -> Pending {
    pending.claim.place.may_have_written = true;
    pending
}
