//! At most one leader a term.

use std::collections::BTreeMap;

use platbook_protocol::{ReplicaId, ShardId};

use super::Invariant;
use crate::board::Event;

/// Who led which term of which shard.
#[derive(Default)]
pub(crate) struct ElectionSafety(BTreeMap<(ShardId, u64), ReplicaId>);

impl Invariant for ElectionSafety {
    fn name(&self) -> &'static str {
        "election safety"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        let Event::Leads { who: (shard, replica), term, .. } = event else { return Ok(()) };
        let known = *self.0.entry((*shard, *term)).or_insert(*replica);
        match known == *replica {
            true => Ok(()),
            false => Err(format!("shard {shard} term {term} is led by {known} and by {replica}")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_leaders_of_one_term_are_found() {
        let leads = |shard, replica, term| Event::Leads {
            who: (ShardId(shard), ReplicaId(replica)),
            term,
            last: 0,
        };
        let mut invariant = ElectionSafety::default();
        for event in [leads(1, 1, 1), leads(1, 1, 1), leads(1, 2, 2), leads(2, 2, 1)] {
            assert_eq!(invariant.see(&event), Ok(()));
        }
        assert!(invariant.see(&leads(1, 3, 2)).is_err());
    }
}
