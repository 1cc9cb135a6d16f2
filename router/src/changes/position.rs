//! Where a reader stands in all its shards, and the tokens that say so.

use std::collections::{BTreeMap, BTreeSet};

use platbook_protocol::follow::Told;
use platbook_protocol::map::Map;
use platbook_protocol::token::{Position, Token, TokenError};
use platbook_protocol::{Seq, ShardId, TimeMs};

/// Where a reader stands.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    token: Token,
    /// Changes told of no longer, because nothing of them was wanted: first and last.
    skipped: BTreeMap<ShardId, (Seq, Seq)>,
    resolved: BTreeMap<ShardId, TimeMs>,
    newly_resolved: BTreeMap<ShardId, TimeMs>,
    /// Shards whose state is still being told.
    in_state: BTreeSet<ShardId>,
}

impl Standing {
    /// At these positions of the cluster of `map`.
    pub(crate) fn new(map: &Map, shards: BTreeMap<ShardId, Position>) -> Standing {
        let is_state = |(id, at): (&ShardId, &Position)| at.cursor().is_some().then_some(*id);
        let in_state = shards.iter().filter_map(is_state).collect();
        let (cluster, incarnation, epoch) = (map.cluster, map.incarnation, map.epoch);
        let token = Token { cluster, incarnation, epoch, shards };
        let (skipped, resolved, newly_resolved) = Default::default();
        Standing { token, skipped, resolved, newly_resolved, in_state }
    }

    /// The token of this moment.
    pub(crate) fn token(&self) -> Result<String, TokenError> {
        self.token.encode()
    }

    /// Where the reader stands in a shard.
    pub(crate) fn positions(&self) -> &BTreeMap<ShardId, Position> {
        &self.token.shards
    }

    /// Whether the state of every shard is told.
    pub(crate) fn is_following(&self) -> bool {
        self.in_state.is_empty()
    }

    /// Whether this is where a state begins that nothing was told of.
    pub(crate) fn is_beginning(&self) -> bool {
        self.token.shards.values().all(|position| match position {
            Position::State { cursor, .. } => cursor.is_empty(),
            Position::Follow { .. } | Position::CatchUp { .. } => false,
        })
    }

    /// Whether rows of the shard are told to catch up.
    pub(crate) fn is_catching_up(&self, shard: ShardId) -> bool {
        matches!(self.token.shards.get(&shard), Some(Position::CatchUp { .. }))
    }

    /// The changes that are not told one by one, but by what they have left.
    pub(crate) fn catch_ups(&self) -> Vec<(ShardId, Seq, Seq)> {
        let range = |(shard, position): (&ShardId, &Position)| match position {
            Position::CatchUp { after, seq, .. } => Some((*shard, Seq(after.0 + 1), *seq)),
            Position::Follow { .. } | Position::State { .. } => None,
        };
        self.token.shards.iter().filter_map(range).collect()
    }

    /// Moves on behind a message; `true` if that was the end of the last state.
    pub(crate) fn on_told(&mut self, shard: ShardId, told: &Told<'_>) -> bool {
        let Some(position) = self.token.shards.get_mut(&shard) else { return false };
        advance(position, told);
        match told {
            Told::StateEnd { .. } => self.in_state.remove(&shard) && self.in_state.is_empty(),
            Told::Resolved { at: Some(at), .. } => {
                // Whoever tells it may have made sure earlier than whoever told the last one.
                if self.resolved.get(&shard).is_none_or(|last| last < at) {
                    self.resolved.insert(shard, *at);
                    self.newly_resolved.insert(shard, *at);
                }
                false
            }
            _ => false,
        }
    }

    /// Notes that changes are left out.
    pub(crate) fn on_skipped(&mut self, shard: ShardId, first: Seq, last: Seq) {
        let range = self.skipped.entry(shard).or_insert((first, last));
        range.1 = last;
    }

    /// What was left out in a shard since this was last asked.
    pub(crate) fn take_skipped(&mut self, shard: ShardId) -> Option<(Seq, Seq)> {
        self.skipped.remove(&shard)
    }

    /// What was left out in all shards.
    pub(crate) fn take_all_skipped(&mut self) -> BTreeMap<ShardId, (Seq, Seq)> {
        std::mem::take(&mut self.skipped)
    }

    /// The moments up to which everything acknowledged is told, of shards of which there is a later
    /// one than when this was last asked.
    pub(crate) fn take_newly_resolved(&mut self) -> BTreeMap<ShardId, TimeMs> {
        std::mem::take(&mut self.newly_resolved)
    }

    /// The moment up to which everything acknowledged is told, in all shards.
    pub(crate) fn resolved(&self) -> Option<TimeMs> {
        let all = self.resolved.len() == self.token.shards.len();
        self.resolved.values().min().copied().filter(|_| all)
    }
}

/// Moves one shard's position behind a message.
pub(crate) fn advance(position: &mut Position, told: &Told<'_>) {
    match told {
        Told::Row { cursor, .. } | Told::Erased { cursor, .. } | Told::Passed { cursor } => {
            position.move_to(cursor);
        }
        Told::StateEnd { seq } | Told::Change { seq, .. } | Told::Skip { last: seq, .. } => {
            *position = Position::Follow { seq: *seq };
        }
        Told::Resolved { .. } | Told::Gone { .. } | Told::TrimmingSoon { .. } | Told::End => {}
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::map::{ClusterId, Node};
    use platbook_protocol::op::Body;
    use platbook_protocol::{NodeId, Revision, Zip};

    use super::*;

    fn standing() -> Standing {
        let node = Node { id: NodeId(1), address: "127.0.0.1:1".into(), zone: String::new() };
        let map = Map::initial(ClusterId(5), vec![node], 2);
        let state = || Position::State { seq: Seq(7), cursor: Vec::new() };
        let shards = [(ShardId(1), state()), (ShardId(2), state())].into();
        Standing::new(&map, shards)
    }

    #[test]
    fn a_state_is_told_when_all_shards_are_through() {
        let mut standing = standing();
        assert!(standing.is_beginning() && !standing.is_following());
        let body = Body { summary: &[], frame: &[] };
        let (zip, seq, revision) = (Zip::Code(*b"98103"), Seq(3), Revision(3));
        let row = Told::Row { cursor: b"key", zip, id: "a", revision, seq, body };
        standing.on_told(ShardId(1), &row);
        let expected = Position::State { seq: Seq(7), cursor: b"key".to_vec() };
        assert_eq!(standing.positions()[&ShardId(1)], expected);
        assert!(!standing.is_beginning());
        assert!(!standing.on_told(ShardId(1), &Told::StateEnd { seq: Seq(7) }));
        assert!(standing.on_told(ShardId(2), &Told::StateEnd { seq: Seq(7) }));
        assert!(standing.is_following());
        standing.on_told(ShardId(2), &Told::Skip { first: Seq(8), last: Seq(9) });
        assert_eq!(standing.positions()[&ShardId(2)], Position::Follow { seq: Seq(9) });
        let token = Token::decode(&standing.token().expect("short")).expect("whole");
        assert_eq!(&token.shards, standing.positions());
    }

    #[test]
    fn a_catch_up_is_a_range_of_changes_told_by_rows_and_ends_as_a_state_does() {
        let mut standing = standing();
        let cursor = Vec::new();
        let position = Position::CatchUp { after: Seq(4), seq: Seq(7), cursor };
        standing.token.shards.insert(ShardId(1), position);
        assert!(!standing.is_beginning() && standing.is_catching_up(ShardId(1)));
        assert_eq!(standing.catch_ups(), [(ShardId(1), Seq(5), Seq(7))]);
        let (zip, seq, revision) = (Zip::Code(*b"98103"), Seq(5), Revision(3));
        let row = Told::Erased { cursor: b"key", zip, id: "a", revision, seq, moved_to: None };
        standing.on_told(ShardId(1), &row);
        assert_eq!(standing.positions()[&ShardId(1)].cursor(), Some(&b"key"[..]));
        standing.on_told(ShardId(1), &Told::Passed { cursor: b"kez" });
        assert_eq!(standing.positions()[&ShardId(1)].cursor(), Some(&b"kez"[..]));
        standing.on_told(ShardId(1), &Told::StateEnd { seq: Seq(7) });
        assert_eq!(standing.positions()[&ShardId(1)], Position::Follow { seq: Seq(7) });
        assert!(!standing.is_following(), "the other shard's state is not told");
    }

    #[test]
    fn the_moment_that_is_resolved_is_the_one_of_the_last_shard() {
        let mut standing = standing();
        let at = |ms| Told::Resolved { seq: Seq(7), at: Some(TimeMs(ms)) };
        standing.on_told(ShardId(1), &at(9));
        assert_eq!(standing.resolved(), None);
        standing.on_told(ShardId(2), &at(5));
        standing.on_told(ShardId(2), &Told::Resolved { seq: Seq(8), at: None });
        assert_eq!(standing.resolved(), Some(TimeMs(5)));
        let both = [(ShardId(1), TimeMs(9)), (ShardId(2), TimeMs(5))];
        assert_eq!(standing.take_newly_resolved(), both.into());
        standing.on_told(ShardId(1), &at(9));
        standing.on_told(ShardId(2), &at(6));
        assert_eq!(standing.take_newly_resolved(), [(ShardId(2), TimeMs(6))].into());
    }

    #[test]
    fn what_is_left_out_is_one_range_until_it_is_told() {
        let mut standing = standing();
        standing.on_skipped(ShardId(1), Seq(8), Seq(8));
        standing.on_skipped(ShardId(1), Seq(9), Seq(12));
        assert_eq!(standing.take_skipped(ShardId(1)), Some((Seq(8), Seq(12))));
        assert_eq!(standing.take_skipped(ShardId(1)), None);
        standing.on_skipped(ShardId(2), Seq(8), Seq(8));
        assert_eq!(standing.take_all_skipped().len(), 1);
    }
}
