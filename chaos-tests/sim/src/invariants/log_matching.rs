//! Two logs that have an entry of the same term at the same index hold the same up to it.
//!
//! It is enough that such entries are the same and stand behind entries of one term: what is before
//! them follows step by step.

use std::collections::BTreeMap;

use platbook_protocol::ShardId;

use super::Invariant;
use crate::board::{Event, Who};

/// What every log had at some time.
#[derive(Default)]
pub(crate) struct LogMatching {
    /// By index and term: what it is, and the term of the entry before it where that is known.
    entries: BTreeMap<(ShardId, u64, u64), (u64, Option<u64>)>,
    /// The terms in each replica's log, by index.
    logs: BTreeMap<Who, BTreeMap<u64, u64>>,
}

impl Invariant for LogMatching {
    fn name(&self) -> &'static str {
        "log matching"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Installs { who, .. } => {
                // What comes next stands behind a state, not behind an entry.
                self.logs.remove(who);
                Ok(())
            }
            Event::Appends { who, term, index, digest } => {
                let log = self.logs.entry(*who).or_default();
                log.split_off(index);
                let before = index.checked_sub(1).and_then(|before| log.get(&before).copied());
                log.insert(*index, *term);
                let found = (*digest, before);
                let known = self.entries.entry((who.0, *index, *term)).or_insert(found);
                known.1 = known.1.or(before);
                match known.0 == *digest && (before.is_none() || known.1 == before) {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {} replica {} has {term}.{index} as {:016x} behind term {:?}, \
                         another log as {:016x} behind term {:?}",
                        who.0, who.1, found.0, found.1, known.0, known.1
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

    fn appends(replica: u64, term: u64, index: u64, digest: u64) -> Event {
        Event::Appends { who: (ShardId(1), ReplicaId(replica)), term, index, digest }
    }

    #[test]
    fn logs_that_part_before_an_entry_they_share_are_found() {
        let mut invariant = LogMatching::default();
        let sound = [
            appends(1, 1, 1, 7),
            appends(1, 1, 2, 8),
            appends(2, 1, 1, 7),
            // What was never committed is cut, and another term has its place.
            appends(2, 2, 2, 9),
            appends(1, 2, 2, 9),
        ];
        for event in sound {
            assert_eq!(invariant.see(&event), Ok(()));
        }
        assert!(invariant.see(&appends(3, 1, 1, 6)).is_err(), "another entry");
        let mut invariant = LogMatching::default();
        for event in [appends(1, 1, 1, 7), appends(1, 3, 2, 8), appends(2, 2, 1, 5)] {
            assert_eq!(invariant.see(&event), Ok(()));
        }
        assert!(invariant.see(&appends(2, 3, 2, 8)).is_err(), "behind another entry");
        let installs = Event::Installs { who: (ShardId(1), ReplicaId(2)), index: 1 };
        assert_eq!(invariant.see(&installs), Ok(()));
        assert_eq!(invariant.see(&appends(2, 3, 2, 8)), Ok(()), "behind a state");
    }
}
