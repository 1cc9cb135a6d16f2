//! The replicas that live on this node.

use std::collections::HashMap;
use std::sync::{Arc, RwLock};

use platbook_protocol::{ReplicaId, ShardId};

use super::Group;

/// Running replicas by shard. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Groups {
    by_shard: Arc<RwLock<HashMap<ShardId, Group>>>,
}

impl Groups {
    pub(crate) fn insert(&self, group: Group) {
        self.by_shard.write().expect("never poisoned").insert(group.shard(), group);
    }

    pub(crate) fn remove(&self, shard: ShardId) -> Option<Group> {
        self.by_shard.write().expect("never poisoned").remove(&shard)
    }

    /// Removes this replica, and no other one of the shard.
    pub(crate) fn remove_replica(&self, shard: ShardId, replica: ReplicaId) {
        let mut groups = self.by_shard.write().expect("never poisoned");
        if groups.get(&shard).is_some_and(|group| group.replica() == replica) {
            groups.remove(&shard);
        }
    }

    /// The replica of `shard`, if it is the one that the caller means.
    pub(crate) fn get(&self, shard: ShardId, replica: ReplicaId) -> Option<Group> {
        let groups = self.by_shard.read().expect("never poisoned");
        groups.get(&shard).filter(|group| group.replica() == replica).cloned()
    }
}
