//! Whoever leads a term has everything that was committed in the terms before it.

use std::collections::BTreeMap;

use platbook_protocol::ShardId;

use super::Invariant;
use crate::board::Event;

/// The greatest index that some replica applied, of each shard and term.
#[derive(Default)]
pub(crate) struct LeaderCompleteness(BTreeMap<(ShardId, u64), u64>);

impl Invariant for LeaderCompleteness {
    fn name(&self) -> &'static str {
        "leader completeness"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Applies { who, term, index, .. } => {
                let greatest = self.0.entry((who.0, *term)).or_default();
                *greatest = (*greatest).max(*index);
                Ok(())
            }
            Event::Leads { who: (shard, replica), term, last } => {
                let before = self.0.range((*shard, 0)..(*shard, *term));
                let committed = before.map(|(_, index)| *index).max().unwrap_or(0);
                match *last >= committed {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {shard} replica {replica} leads term {term} with a log to {last}, \
                         {committed} was applied"
                    )),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::ReplicaId;

    use super::*;

    #[test]
    fn a_leader_that_lacks_what_was_committed_is_found() {
        let who = (ShardId(1), ReplicaId(1));
        let mut invariant = LeaderCompleteness::default();
        let applied = Event::Applies { who, term: 1, index: 5, digest: 0 };
        assert_eq!(invariant.see(&applied), Ok(()));
        assert_eq!(invariant.see(&Event::Leads { who, term: 2, last: 5 }), Ok(()));
        assert!(invariant.see(&Event::Leads { who, term: 3, last: 4 }).is_err());
        let by_another = Event::Applies { who, term: 9, index: 6, digest: 0 };
        assert_eq!(invariant.see(&by_another), Ok(()));
        let deposed = Event::Leads { who, term: 2, last: 5 };
        assert_eq!(invariant.see(&deposed), Ok(()), "it need not know of later terms");
    }
}
