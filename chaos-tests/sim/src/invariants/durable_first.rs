//! Nothing is applied, and so nothing is acknowledged, before most replicas have it on disk; and no
//! replica applies what its own log has not on disk.

use std::collections::BTreeMap;

use platbook_protocol::map::{REPLICAS_WANTED, SYSTEM_REPLICAS_MAX};
use platbook_protocol::{ReplicaId, ShardId};

use super::Invariant;
use crate::board::Event;

/// How far each replica's log is durable.
pub(crate) struct DurableFirst {
    nodes: usize,
    durable: BTreeMap<ShardId, BTreeMap<ReplicaId, u64>>,
}

impl DurableFirst {
    pub(crate) fn new(nodes: u64) -> DurableFirst {
        DurableFirst { nodes: nodes as usize, durable: BTreeMap::new() }
    }

    fn majority(&self, shard: ShardId) -> usize {
        let most = if shard == ShardId::SYSTEM { SYSTEM_REPLICAS_MAX } else { REPLICAS_WANTED };
        self.nodes.min(most) / 2 + 1
    }
}

impl Invariant for DurableFirst {
    fn name(&self) -> &'static str {
        "durable first"
    }

    fn see(&mut self, event: &Event) -> Result<(), String> {
        match event {
            Event::Synced { who, index } | Event::Installs { who, index } => {
                let durable = self.durable.entry(who.0).or_default().entry(who.1).or_default();
                *durable = (*durable).max(*index);
                Ok(())
            }
            Event::Applies { who: (shard, replica), index, .. } => {
                let of_shard = self.durable.entry(*shard).or_default();
                let own = of_shard.get(replica).copied().unwrap_or(0);
                let have = of_shard.values().filter(|durable| **durable >= *index).count();
                let told = format!("shard {shard} replica {replica} applies {index}");
                if own < *index {
                    return Err(format!("{told}, its own log is durable to {own}"));
                }
                match have >= self.majority(*shard) {
                    true => Ok(()),
                    false => Err(format!("{told}, which {have} replicas have on disk")),
                }
            }
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_that_is_applied_too_early_is_found() {
        let who = |replica| (ShardId(1), ReplicaId(replica));
        let synced = |replica, index| Event::Synced { who: who(replica), index };
        let applies =
            |replica, index| Event::Applies { who: who(replica), term: 1, index, digest: 0 };
        let mut invariant = DurableFirst::new(3);
        assert_eq!(invariant.see(&synced(1, 5)), Ok(()));
        assert!(invariant.see(&applies(1, 5)).is_err(), "one of three");
        assert_eq!(invariant.see(&synced(2, 5)), Ok(()));
        assert_eq!(invariant.see(&applies(1, 5)), Ok(()));
        assert!(invariant.see(&applies(3, 5)).is_err(), "not in its own log");
    }
}
