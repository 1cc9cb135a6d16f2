//! What one replica applies at an index, every replica applies there; and none leaves one out.

use std::collections::BTreeMap;

use platbook_protocol::ShardId;

use super::Invariant;
use crate::board::{Event, Who};

/// Entries by place, and how far each replica is.
#[derive(Default)]
pub(crate) struct StateMachineSafety {
    entries: BTreeMap<(ShardId, u64), (u64, u64)>,
    applied: BTreeMap<Who, u64>,
}

impl Invariant for StateMachineSafety {
    fn name(&self) -> &'static str {
        "state machine safety"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Installs { who, index } => {
                self.applied.insert(*who, *index);
                Ok(())
            }
            Event::Applies { who, term, index, digest } => {
                let last = self.applied.insert(*who, *index).unwrap_or(0);
                // After a crash a replica applies again what was not flushed.
                if *index > last + 1 {
                    let (shard, replica) = who;
                    let told = format!("shard {shard} replica {replica} applies {index}");
                    return Err(format!("{told} behind {last}"));
                }
                let known = *self.entries.entry((who.0, *index)).or_insert((*term, *digest));
                match known == (*term, *digest) {
                    true => Ok(()),
                    false => Err(format!(
                        "shard {} index {index}: replica {} applies {term} {digest:016x}, another \
                         one applied {} {:016x}",
                        who.0, who.1, known.0, known.1
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

    fn applies(replica: u64, index: u64, digest: u64) -> Event {
        Event::Applies { who: (ShardId(1), ReplicaId(replica)), term: 1, index, digest }
    }

    #[test]
    fn another_entry_at_the_same_place_is_found_and_so_is_a_hole() {
        let mut invariant = StateMachineSafety::default();
        for event in [applies(1, 1, 7), applies(1, 2, 8), applies(2, 1, 7), applies(1, 1, 7)] {
            assert_eq!(invariant.see(&event), Ok(()));
        }
        assert!(invariant.see(&applies(2, 2, 9)).is_err(), "another entry");
        assert!(invariant.see(&applies(3, 2, 8)).is_err(), "a hole");
        let installs = Event::Installs { who: (ShardId(1), ReplicaId(4)), index: 2 };
        assert_eq!(invariant.see(&installs), Ok(()));
        assert_eq!(invariant.see(&applies(4, 3, 1)), Ok(()));
    }
}
