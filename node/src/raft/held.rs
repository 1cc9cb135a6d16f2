//! What followers told a leader to have on disk, and what a follower makes of it that has not.
//!
//! A disk whose syncs lie loses, with the power, what its node acknowledged. Such a replica must
//! not go on as if nothing had been: what its leader counted on is gone, and its votes may be too.
//! It cannot know that by itself, but its leader can tell it, with every append.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platbook_engine::log::GroupState;
use platbook_protocol::ReplicaId;

use super::types::Vote;
use super::wire;

/// The end of a log: the index behind its last entry.
pub(crate) type End = u64;

/// What the members of one group acknowledged to this replica while it leads. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Held(Arc<Mutex<Inner>>);

#[derive(Default)]
struct Inner {
    /// What was acknowledged in an earlier term may have been cut since.
    term: u64,
    ends: BTreeMap<ReplicaId, End>,
}

impl Held {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Notes that `replica` has everything before `end`, as it told the leader of `term`.
    pub(crate) fn acknowledged(&self, term: u64, replica: ReplicaId, end: End) {
        let mut inner = self.inner();
        if term > inner.term {
            *inner = Inner { term, ends: BTreeMap::new() };
        }
        if term == inner.term {
            let known = inner.ends.entry(replica).or_default();
            *known = (*known).max(end);
        }
    }

    /// What `replica` acknowledged to the leader of `term`; 0 is nothing.
    pub(crate) fn by(&self, term: u64, replica: ReplicaId) -> End {
        let inner = self.inner();
        let known = inner.ends.get(&replica).copied().unwrap_or(0);
        if term == inner.term { known } else { 0 }
    }
}

/// Whether a log that is in `own` state lost entries before `held`, which it acknowledged to the
/// leader with this vote: only a leader of a later term may have cut them.
pub(crate) fn is_lost(own: &GroupState, leader: &Vote, held: End) -> bool {
    let has = own.last.max(own.purged).map_or(0, |(_, index)| index + 1);
    if held <= has {
        return false;
    }
    match own.vote.as_deref().map(wire::decode_vote) {
        Some(Ok(vote)) => vote.leader_id().term <= leader.leader_id().term,
        // Without a vote it followed nobody later.
        None => true,
        Some(Err(_)) => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_was_acknowledged_counts_in_its_term_only() {
        let (held, one, two) = (Held::default(), ReplicaId(1), ReplicaId(2));
        held.acknowledged(3, one, 10);
        held.acknowledged(3, one, 8);
        assert_eq!([held.by(3, one), held.by(3, two), held.by(4, one)], [10, 0, 0]);
        held.acknowledged(5, two, 4);
        held.acknowledged(3, one, 12);
        assert_eq!([held.by(5, one), held.by(5, two), held.by(3, one)], [0, 4, 0]);
    }

    #[test]
    fn only_entries_that_nobody_may_have_cut_are_lost() {
        let vote = |term| wire::encode_vote(&Vote::new_committed(term, ReplicaId(2)));
        let leader = Vote::new_committed(5, ReplicaId(2));
        let own = |vote, purged, last| GroupState { vote, purged, last };
        let lost = |own: GroupState, held| is_lost(&own, &leader, held);
        assert!(!lost(own(Some(vote(5)), None, Some((5, 9))), 10), "all is there");
        assert!(!lost(own(Some(vote(5)), Some((5, 9)), None), 10), "it is in the state");
        assert!(!lost(own(None, None, None), 0), "nothing was acknowledged");
        assert!(!lost(own(Some(vote(6)), None, Some((4, 7))), 10), "a later leader cut it");
        assert!(lost(own(Some(vote(5)), None, Some((5, 8))), 10));
        assert!(lost(own(Some(vote(4)), None, Some((4, 2))), 10), "its vote is gone, too");
        assert!(lost(own(None, None, None), 1));
    }
}
