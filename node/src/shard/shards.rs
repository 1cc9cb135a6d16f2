//! The shards that live on this node.

use std::collections::BTreeMap;
use std::sync::{Arc, RwLock};

use platbook_protocol::ShardId;

use super::Shard;

/// Shards by number. Clones share it.
#[derive(Clone, Default)]
pub(crate) struct Shards {
    by_id: Arc<RwLock<BTreeMap<ShardId, Shard>>>,
}

impl Shards {
    pub(crate) fn insert(&self, shard: Shard) {
        self.by_id.write().expect("never poisoned").insert(shard.id(), shard);
    }

    pub(crate) fn remove(&self, id: ShardId) -> Option<Shard> {
        self.by_id.write().expect("never poisoned").remove(&id)
    }

    pub(crate) fn get(&self, id: ShardId) -> Option<Shard> {
        self.by_id.read().expect("never poisoned").get(&id).cloned()
    }

    /// All of them, ordered by number.
    pub(crate) fn all(&self) -> Vec<Shard> {
        self.by_id.read().expect("never poisoned").values().cloned().collect()
    }
}
