//! Tests of the lineage: which reader owns a shard, and when and where it starts. The shard lists may be old or incomplete.

mod property;

use super::*;
use crate::model::hash_key::HashKey;
use crate::model::record_id::RecordId;
use crate::model::shard_map::ShardMap;
use crate::model::timestamp::Timestamp;

fn id(number: u64) -> ShardId {
    ShardId::numbered(number)
}

fn map(count: usize) -> ShardMap {
    ShardMap::uniform("clicks", count, 1).unwrap()
}

fn split(map: &mut ShardMap, number: u64) {
    let at = map.get(&id(number)).unwrap().hash_key_range.middle().unwrap();
    map.split(&id(number), at, &mut 10).unwrap();
}

fn merge(map: &mut ShardMap, a: u64, b: u64) {
    map.merge(&id(a), &id(b), &mut 10).unwrap();
}

/// The shards of these numbers, as a list that lacks the others.
fn only(map: &ShardMap, numbers: &[u64]) -> Vec<Shard> {
    let ids: Vec<ShardId> = numbers.iter().copied().map(id).collect();
    map.shards().iter().filter(|shard| ids.contains(&shard.id)).cloned().collect()
}

fn of(shards: &[Shard], start: Start, share: Share) -> Lineage {
    Lineage::new("clicks", shards, &BTreeSet::new(), start, share, BTreeMap::new()).unwrap()
}

fn all(map: &ShardMap, start: Start) -> Lineage {
    of(map.shards(), start, Share::All)
}

fn chosen(numbers: &[u64]) -> Share {
    Share::Shards(numbers.iter().copied().map(id).collect())
}

fn after(number: u64) -> Checkpoint {
    Checkpoint::after(&RecordId::new(id(0), number))
}

/// A reader that goes on from these checkpoints. `gone` are those of their shards that do not exist any more.
fn resumed(shards: &[Shard], start: Start, checkpoints: &[(u64, Checkpoint)], gone: &[u64]) -> Lineage {
    let gone = gone.iter().copied().map(id).collect();
    let checkpoints = checkpoints.iter().map(|(number, checkpoint)| (id(*number), *checkpoint)).collect();
    Lineage::new("clicks", shards, &gone, start, Share::All, checkpoints).unwrap()
}

/// What the lineage says now: the shards that can be read, in words where it says something else.
fn said(lineage: &mut Lineage) -> Vec<String> {
    let said = lineage.outcomes().into_iter().map(|outcome| match outcome {
        Outcome::Ready(shard, start) => format!("{} {}", number(&shard), short(start.position)),
        Outcome::Confirm(shard) => format!("confirm {}", number(&shard)),
        Outcome::Ended(shard, children) => {
            let children: Vec<String> = children.iter().map(|child| number(child).to_string()).collect();
            format!("ended {} -> {}", number(&shard), children.join(" "))
        }
        Outcome::Failed(shard, Lost::Removed) => format!("lost {}", number(&shard)),
        Outcome::Failed(shard, Lost::Orphaned { chosen }) => {
            format!("orphaned {} by {}", number(&shard), number(&chosen))
        }
    });
    said.collect()
}

fn number(shard: &ShardId) -> u64 {
    shard.number().unwrap()
}

fn short(position: Position) -> String {
    match position {
        Position::Latest => "latest".into(),
        Position::TrimHorizon => "start".into(),
        Position::At(number) => format!("at {number}"),
        Position::After { sequence_number, .. } => format!("after {sequence_number}"),
        Position::AtTime(time) => format!("time {}", time.as_millis()),
    }
}

#[test]
fn a_child_waits_for_every_parent() {
    let mut map = map(2);
    merge(&mut map, 0, 1);
    let mut reader = all(&map, Start::All);
    assert_eq!(said(&mut reader), ["0 start", "1 start"]);
    reader.drained(&id(0), vec![]);
    assert_eq!(said(&mut reader), ["ended 0 -> 2"]);
    reader.drained(&id(1), vec![]);
    assert_eq!(said(&mut reader), ["ended 1 -> 2", "2 start"]);
    reader.apply(map.shards());
    assert_eq!(said(&mut reader), Vec::<String>::new(), "once");
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn a_parent_that_no_list_shows_is_confirmed_to_be_gone_before_its_child_is_read() {
    let mut map = map(1);
    split(&mut map, 0);
    let mut reader = of(&map.shards()[1..], Start::All, Share::All);
    assert_eq!(said(&mut reader), ["confirm 0"]);
    reader.gone(&id(0));
    assert_eq!(said(&mut reader), ["1 start", "2 start"]);
    // And where the list had forgotten it, it is read first.
    let mut reader = of(&map.shards()[1..], Start::All, Share::All);
    reader.exists(&id(0));
    assert_eq!(reader.awaits_list(), Some(&id(0)));
    reader.outcomes();
    reader.apply(&map.shards()[1..]);
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec![], Some(&id(0))), "it has forgotten it again");
    reader.apply(map.shards());
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec!["0 start".to_owned()], None));
}

#[test]
fn the_children_of_a_drained_shard_are_awaited_until_they_hold_all_its_keys() {
    let (old, mut map) = (map(1), map(1));
    split(&mut map, 0);
    let mut reader = all(&old, Start::All);
    assert_eq!(said(&mut reader), ["0 start"]);
    reader.drained(&id(0), vec![]);
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec![], Some(&id(0))));
    reader.apply(old.shards());
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec![], Some(&id(0))), "the list is old");
    reader.apply(&only(&map, &[0, 2]));
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec!["2 start".to_owned()], Some(&id(0))), "and partial");
    reader.apply(old.shards());
    reader.apply(&only(&map, &[1]));
    assert_eq!(said(&mut reader), ["ended 0 -> 2 1", "1 start"]);
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn children_that_the_backend_names_need_no_list() {
    let (old, mut map) = (map(2), map(2));
    merge(&mut map, 0, 1);
    let child = || vec![ChildShard::from(&map.shards()[2])];
    let mut reader = all(&old, Start::Latest);
    assert_eq!(said(&mut reader), ["0 latest", "1 latest"]);
    reader.drained(&id(0), child());
    assert_eq!(said(&mut reader), ["ended 0 -> 2"]);
    reader.drained(&id(1), child());
    assert_eq!(said(&mut reader), ["ended 1 -> 2", "2 start"]);
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn a_waiting_shard_that_a_list_forgets_goes_on_waiting() {
    let mut map = map(1);
    split(&mut map, 0);
    let mut reader = all(&map, Start::All);
    assert_eq!(said(&mut reader), ["0 start"]);
    reader.apply(&only(&map, &[0, 2]));
    reader.drained(&id(0), vec![]);
    assert_eq!(said(&mut reader), ["ended 0 -> 1 2", "1 start", "2 start"]);
}

#[test]
fn a_shard_that_retention_removes_before_it_is_read_is_lost_and_nobody_waits_for_it() {
    let mut map = map(1);
    split(&mut map, 0);
    split(&mut map, 1);
    let mut reader = all(&map, Start::All);
    reader.outcomes();
    reader.drained(&id(0), vec![]);
    assert_eq!(said(&mut reader), ["ended 0 -> 1 2", "1 start", "2 start"]);
    reader.gone(&id(1));
    assert_eq!(said(&mut reader), ["lost 1", "3 start", "4 start"]);
    assert_eq!(reader.incomplete(), [id(1)]);
}

/// A reader that has drained shard 0. The list shows its child 2 and the children 3 and 4 of its child 1, but not 1.
fn beside_an_unlisted_child() -> (ShardMap, Lineage) {
    let (old, mut map) = (map(1), map(1));
    split(&mut map, 0);
    split(&mut map, 1);
    let mut reader = all(&old, Start::All);
    reader.outcomes();
    reader.drained(&id(0), vec![]);
    reader.apply(&only(&map, &[0, 2, 3, 4]));
    assert_eq!(said(&mut reader), ["confirm 1", "2 start"]);
    (map, reader)
}

#[test]
fn a_child_that_retention_removed_unseen_is_replaced_by_its_children() {
    let (_, mut reader) = beside_an_unlisted_child();
    reader.gone(&id(1));
    assert_eq!(said(&mut reader), ["ended 0 -> 2", "3 start", "4 start"]);
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn a_child_that_a_list_forgets_is_awaited_although_its_children_are_listed() {
    let (map, mut reader) = beside_an_unlisted_child();
    reader.exists(&id(1));
    reader.apply(map.shards());
    assert_eq!(said(&mut reader), ["ended 0 -> 2 1", "1 start"]);
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn latest_skips_closed_shards_and_reads_later_ones_from_their_start() {
    let mut map = map(1);
    split(&mut map, 0);
    let mut latest = all(&map, Start::Latest);
    assert_eq!(said(&mut latest), ["1 latest", "2 latest"]);
    split(&mut map, 2);
    latest.drained(&id(2), vec![]);
    latest.apply(map.shards());
    assert_eq!(said(&mut latest), ["ended 2 -> 3 4", "3 start", "4 start"]);
    let mut latest = of(&map.shards()[1..], Start::Latest, Share::All);
    assert_eq!(said(&mut latest), ["1 latest", "3 latest", "4 latest"], "a parent does not matter");
}

#[test]
fn latest_skips_closed_shards_that_only_a_later_list_shows() {
    let mut map = map(1);
    split(&mut map, 0);
    split(&mut map, 1);
    let mut reader = of(&only(&map, &[2, 3, 4]), Start::Latest, Share::All);
    assert_eq!(said(&mut reader), ["2 latest", "3 latest", "4 latest"]);
    split(&mut map, 2);
    reader.drained(&id(2), vec![]);
    reader.apply(map.shards());
    assert_eq!(said(&mut reader), ["ended 2 -> 5 6", "5 start", "6 start"], "and neither 0 nor 1");
}

/// Shard 0 is split into 1 and 2, these are merged into 3, and 3 is split into 4 and 5.
fn hourglass() -> ShardMap {
    let mut map = map(1);
    split(&mut map, 0);
    merge(&mut map, 1, 2);
    split(&mut map, 3);
    map
}

#[test]
fn latest_takes_no_closed_shard_for_a_new_one_before_its_descendants_are_listed() {
    let map = hourglass();
    let mut reader = of(&only(&map, &[4, 5]), Start::Latest, Share::All);
    assert_eq!(said(&mut reader), ["4 latest", "5 latest"]);
    for (list, awaited) in [(&[0, 1][..], Some(0)), (&[2], Some(0)), (&[3], None)] {
        reader.apply(&only(&map, list));
        assert_eq!(said(&mut reader), Vec::<String>::new(), "0 to 3 were closed before the start");
        assert_eq!(reader.awaits_list(), awaited.map(id).as_ref(), "{list:?}");
    }
}

#[test]
fn a_shard_that_was_split_after_the_start_is_read_whole_once_its_descendants_are_listed() {
    let mut map = map(1);
    let mut reader = all(&map, Start::Latest);
    assert_eq!(said(&mut reader), ["0 latest"]);
    reader.drained(&id(0), vec![]);
    split(&mut map, 0);
    split(&mut map, 1);
    reader.apply(&only(&map, &[1, 2]));
    assert_eq!(said(&mut reader), ["ended 0 -> 1 2", "2 start"]);
    assert_eq!(reader.awaits_list(), Some(&id(1)));
    reader.apply(&only(&map, &[3, 4]));
    assert_eq!(said(&mut reader), ["1 start"]);
}

#[test]
fn an_ancestor_of_a_checkpointed_shard_is_not_read_again_before_those_between_are_listed() {
    let map = hourglass();
    for start in [Start::All, Start::Latest, Start::Time(Timestamp::from_millis(5))] {
        let checkpoints = [(4, after(7)), (5, after(8))];
        let mut reader = resumed(&only(&map, &[0, 1, 4, 5]), start, &checkpoints, &[]);
        assert_eq!(said(&mut reader), ["4 after 7", "5 after 8"]);
        assert_eq!(reader.awaits_list(), Some(&id(0)));
        reader.apply(&only(&map, &[2]));
        reader.apply(&only(&map, &[3]));
        assert_eq!(said(&mut reader), Vec::<String>::new(), "0 to 3 were read");
        assert_eq!(reader.awaits_list(), None);
    }
}

#[test]
fn a_start_time_applies_to_every_shard() {
    let mut map = map(1);
    split(&mut map, 0);
    let mut reader = all(&map, Start::Time(Timestamp::from_millis(5)));
    assert_eq!(said(&mut reader), ["0 time 5"]);
    reader.drained(&id(0), vec![]);
    assert_eq!(said(&mut reader), ["ended 0 -> 1 2", "1 time 5", "2 time 5"]);
}

#[test]
fn a_record_starts_one_shard_and_its_descendants_are_read_whole() {
    let mut map = map(2);
    split(&mut map, 0);
    let record = RecordId::new(id(0), 7);
    for (start, expected) in [(Start::At(record.clone()), "0 at 7"), (Start::After(record), "0 after 7")] {
        let mut reader = of(map.shards(), start, chosen(&[0]));
        assert_eq!(said(&mut reader), [expected]);
        reader.drained(&id(0), vec![]);
        assert_eq!(said(&mut reader), ["ended 0 -> 2 3", "2 start", "3 start"]);
    }
}

#[test]
fn chosen_shards_are_followed_to_their_descendants() {
    let mut map = map(2);
    split(&mut map, 0);
    split(&mut map, 1);
    let mut first = of(map.shards(), Start::Latest, chosen(&[0]));
    assert_eq!(said(&mut first), ["2 latest", "3 latest"]);
}

#[test]
fn chosen_shards_that_are_gone_are_followed_by_their_ids() {
    let mut map = map(4);
    split(&mut map, 0);
    let gone = BTreeSet::from([id(0)]);
    let of = |share| Lineage::new("clicks", &map.shards()[1..], &gone, Start::All, share, BTreeMap::new());
    assert_eq!(said(&mut of(chosen(&[0, 1])).unwrap()), ["1 start", "4 start", "5 start"]);
    assert_eq!(said(&mut of(chosen(&[2, 3])).unwrap()), ["confirm 0", "2 start", "3 start"]);
    let unknown =
        Lineage::new("clicks", map.shards(), &BTreeSet::from([id(77)]), Start::All, chosen(&[77]), BTreeMap::new());
    assert_eq!(unknown.unwrap_err().to_string(), "no shard 'shardId-000000000077' in stream 'clicks'");
}

#[test]
fn a_shard_that_may_descend_from_a_chosen_one_that_is_gone_is_an_error() {
    let mut map = map(2);
    split(&mut map, 0);
    split(&mut map, 2);
    let gone = BTreeSet::from([id(0)]);
    // 3 is a child of 0; 4 and 5 are children of 2, which is gone as well.
    let listed = only(&map, &[1, 3, 4, 5]);
    let mut reader = Lineage::new("clicks", &listed, &gone, Start::All, chosen(&[0]), BTreeMap::new()).unwrap();
    assert_eq!(said(&mut reader), ["confirm 2", "3 start"]);
    reader.gone(&id(2));
    assert_eq!(said(&mut reader), ["orphaned 4 by 0", "orphaned 5 by 0"]);
    assert_eq!(reader.incomplete(), [id(4), id(5)]);
}

#[test]
fn hash_keys_divide_a_stream_whatever_is_split_merged_or_removed() {
    let mut map = map(2);
    split(&mut map, 0);
    split(&mut map, 2);
    merge(&mut map, 3, 1);
    let half = 1 << 127;
    let lower = HashKeyRange { first: HashKey(0), last: HashKey(half - 1) };
    let upper = HashKeyRange { first: HashKey(half), last: HashKey::MAX };
    for listed in [map.shards(), &map.shards()[1..], &map.shards()[3..]] {
        let mut owned = Vec::new();
        for range in [lower, upper] {
            let reader = of(listed, Start::All, Share::HashKeys(range));
            let is_owned = |(_, node): &(&ShardId, &Node)| !matches!(node.state, State::NotOwned | State::Unlisted(_));
            owned.extend(reader.nodes.iter().filter(is_owned).map(|(id, _)| id.clone()));
        }
        owned.sort();
        let all: Vec<ShardId> = listed.iter().map(|shard| shard.id.clone()).collect();
        assert_eq!(owned, all);
    }
}

#[test]
fn a_merged_child_belongs_to_its_first_parents_reader() {
    let mut map = map(2);
    let mut first = of(map.shards(), Start::All, chosen(&[1]));
    let mut second = of(map.shards(), Start::All, chosen(&[0]));
    assert_eq!((said(&mut first).len(), said(&mut second).len()), (1, 1));
    merge(&mut map, 1, 0);
    for reader in [&mut first, &mut second] {
        reader.apply(map.shards());
    }
    first.drained(&id(1), vec![]);
    assert_eq!(said(&mut first), ["ended 1 -> 2", "2 start"], "waits only for parents that it owns");
    second.drained(&id(0), vec![]);
    assert_eq!(said(&mut second), ["ended 0 -> 2"], "left to the other reader");
}

#[test]
fn a_merged_child_that_one_parent_names_first_is_owned_with_the_other() {
    let mut map = map(3);
    let mut reader = of(map.shards(), Start::All, chosen(&[0, 1, 2]));
    assert_eq!(said(&mut reader), ["0 start", "1 start", "2 start"]);
    merge(&mut map, 0, 1);
    merge(&mut map, 3, 2);
    let child = |number: u64| vec![ChildShard::from(map.get(&id(number)).unwrap())];
    reader.drained(&id(2), child(4));
    assert_eq!(said(&mut reader), ["ended 2 -> 4", "confirm 3"]);
    reader.drained(&id(0), child(3));
    reader.drained(&id(1), child(3));
    assert_eq!(said(&mut reader), ["ended 0 -> 3", "ended 1 -> 3", "3 start"]);
    reader.drained(&id(3), child(4));
    assert_eq!(said(&mut reader), ["ended 3 -> 4", "4 start"]);
}

#[test]
fn a_merged_child_is_read_once_its_second_parent_is_known_to_be_another_readers() {
    let mut map = map(3);
    let mut reader = of(map.shards(), Start::All, chosen(&[0, 2]));
    assert_eq!(said(&mut reader), ["0 start", "2 start"]);
    merge(&mut map, 1, 2);
    merge(&mut map, 0, 3);
    let child = |number: u64| vec![ChildShard::from(map.get(&id(number)).unwrap())];
    reader.drained(&id(0), child(4));
    assert_eq!(said(&mut reader), ["ended 0 -> 4", "confirm 3"]);
    reader.drained(&id(2), child(3));
    assert_eq!(said(&mut reader), ["ended 2 -> 3", "4 start"]);
}

#[test]
fn an_ancestor_beyond_a_shard_of_another_reader_is_not_taken_for_drained() {
    let mut map = map(2);
    merge(&mut map, 0, 1);
    split(&mut map, 2);
    // 1 and 4 are of this reader; 2, between them, is not.
    let upper = HashKeyRange { first: HashKey(1 << 127), last: HashKey::MAX };
    let checkpoints = BTreeMap::from([(id(4), after(5))]);
    let share = Share::HashKeys(upper);
    let mut reader = Lineage::new("clicks", map.shards(), &BTreeSet::new(), Start::All, share, checkpoints).unwrap();
    assert_eq!(said(&mut reader), ["1 start", "4 after 5"]);
}

#[test]
fn a_shard_of_another_reader_is_watched_until_the_children_in_this_range_are_listed() {
    let mut map = map(1);
    let upper = HashKeyRange { first: HashKey(1 << 127), last: HashKey::MAX };
    let mut reader = of(map.shards(), Start::Latest, Share::HashKeys(upper));
    assert_eq!((said(&mut reader), reader.watched()), (vec![], Some(&id(0))));
    split(&mut map, 0);
    reader.apply(&only(&map, &[0, 1]));
    assert_eq!(reader.watched(), Some(&id(0)), "shard 2 is missing");
    reader.apply(map.shards());
    assert_eq!((said(&mut reader), reader.watched()), (vec!["2 start".into()], None));
    merge(&mut map, 1, 2);
    reader.drained(&id(2), vec![]);
    reader.apply(map.shards());
    assert_eq!((said(&mut reader), reader.watched()), (vec!["ended 2 -> 3".into()], Some(&id(3))));
}

#[test]
fn a_merged_child_is_read_once_where_its_first_parent_is_gone() {
    let mut map = map(2);
    merge(&mut map, 0, 1);
    let listed = &map.shards()[1..];
    let gone = BTreeSet::from([id(0)]);
    let mut first = Lineage::new("clicks", listed, &gone, Start::All, chosen(&[0]), BTreeMap::new()).unwrap();
    assert_eq!(said(&mut first), ["2 start"]);
    let mut second = of(listed, Start::All, chosen(&[1]));
    assert_eq!(said(&mut second), ["confirm 0", "1 start"]);
    second.gone(&id(0));
    second.drained(&id(1), vec![]);
    assert_eq!(said(&mut second), ["ended 1 -> 2"]);
}

#[test]
fn a_restart_honours_the_lineage() {
    let mut map = map(2);
    merge(&mut map, 0, 1);
    split(&mut map, 2);
    // One parent was drained, the other was not: the child waits.
    let mut reader = resumed(map.shards(), Start::All, &[(0, Checkpoint::ENDED), (1, after(7))], &[]);
    assert_eq!(said(&mut reader), ["1 after 7"]);
    reader.drained(&id(1), vec![]);
    assert_eq!(said(&mut reader), ["ended 1 -> 2", "2 start"]);
    // An ancestor of a shard with a checkpoint was drained, and the other child of it is read whole.
    for start in [Start::All, Start::Latest] {
        let mut reader = resumed(map.shards(), start, &[(3, after(9))], &[]);
        assert_eq!(said(&mut reader), ["3 after 9", "4 start"]);
    }
    // A descendant of a shard with a checkpoint is read whole.
    let mut reader = resumed(map.shards(), Start::Latest, &[(0, Checkpoint::ENDED), (1, Checkpoint::ENDED)], &[]);
    assert_eq!(said(&mut reader), ["2 start"]);
}

#[test]
fn a_shard_without_a_checkpointed_relative_starts_where_the_caller_says() {
    let map = map(2);
    assert_eq!(said(&mut resumed(map.shards(), Start::Latest, &[(1, after(7))], &[])), ["0 latest", "1 after 7"]);
    assert_eq!(said(&mut resumed(map.shards(), Start::All, &[(1, after(7))], &[])), ["0 start", "1 after 7"]);
}

#[test]
fn a_checkpointed_shard_that_is_gone_is_lost_and_its_children_are_read_whole() {
    let mut map = map(1);
    split(&mut map, 0);
    let mut reader = resumed(&map.shards()[1..], Start::Latest, &[(0, after(7))], &[0]);
    assert_eq!(said(&mut reader), ["lost 0", "1 start", "2 start"]);
    assert_eq!(reader.incomplete(), [id(0)]);
    let mut reader = resumed(&map.shards()[1..], Start::Latest, &[(0, Checkpoint::ENDED)], &[]);
    assert_eq!(said(&mut reader), ["1 start", "2 start"], "it was drained");
    assert_eq!(reader.incomplete(), []);
}

#[test]
fn an_end_by_checkpoint_awaits_its_children() {
    let (old, mut map) = (map(1), map(1));
    split(&mut map, 0);
    let mut reader = resumed(old.shards(), Start::All, &[(0, Checkpoint::ENDED)], &[]);
    assert_eq!((said(&mut reader), reader.awaits_list()), (vec![], Some(&id(0))));
    reader.apply(map.shards());
    assert_eq!(said(&mut reader), ["1 start", "2 start"], "its end was told before");
    assert_eq!(reader.awaits_list(), None);
}

#[test]
fn shards_whose_lists_fail_for_good_are_incomplete_with_their_descendants() {
    let (old, mut map) = (map(2), map(2));
    merge(&mut map, 0, 1);
    let mut reader = all(&old, Start::All);
    reader.drained(&id(0), vec![]);
    assert_eq!(reader.give_up_lists(), [id(0)]);
    assert_eq!(reader.awaits_list(), None);
    reader.apply(map.shards());
    reader.drained(&id(1), vec![]);
    assert_eq!(reader.incomplete(), [id(0), id(2)]);
}

#[test]
fn a_deep_reshard_is_read_from_its_root() {
    let mut map = map(1);
    map.reshard(16, &mut 10).unwrap();
    let mut reader = all(&map, Start::All);
    let mut read = 0;
    loop {
        let ready: Vec<ShardId> = reader
            .outcomes()
            .into_iter()
            .filter_map(|outcome| if let Outcome::Ready(shard, _) = outcome { Some(shard) } else { None })
            .collect();
        if ready.is_empty() {
            break;
        }
        for shard in ready {
            read += 1;
            if map.get(&shard).unwrap().is_open() {
                reader.caught_up(&shard);
            } else {
                reader.drained(&shard, vec![]);
            }
        }
    }
    assert_eq!((read, reader.incomplete()), (map.shards().len(), vec![]));
}
