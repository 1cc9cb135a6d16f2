//! Whoever watches what replicas do, to see that Raft keeps its promises.

use std::sync::Arc;

use platbook_engine::log::Record;
use platbook_engine::store::{Entry, EntryBody};
use platbook_protocol::{ReplicaId, ShardId, slot};

/// Is told of every step of every replica of a node, as it is done.
pub trait Witness: Send + Sync {
    /// The replica leads its shard in `term`, with a log that reaches up to `last`.
    fn leads(&self, shard: ShardId, replica: ReplicaId, term: u64, last: u64);
    /// The replica's log takes an entry at `index`, in place of whatever was there and behind it.
    fn appends(&self, shard: ShardId, replica: ReplicaId, term: u64, index: u64, digest: u64);
    /// Everything up to `index` is in the replica's log and synced.
    fn synced(&self, shard: ShardId, replica: ReplicaId, index: u64);
    /// The replica applies an entry; `digest` tells different ones apart.
    fn applies(&self, shard: ShardId, replica: ReplicaId, term: u64, index: u64, digest: u64);
    /// The replica took over the whole state of another one, as it was after `index`.
    fn installs(&self, shard: ShardId, replica: ReplicaId, index: u64);
}

/// One replica as its witness sees it; outside of simulations there is none.
#[derive(Clone, Default)]
pub(crate) struct Watched(Option<(ShardId, ReplicaId, Arc<dyn Witness>)>);

impl Watched {
    pub(crate) fn new(
        (shard, replica): (ShardId, ReplicaId),
        witness: Option<Arc<dyn Witness>>,
    ) -> Watched {
        Watched(witness.map(|witness| (shard, replica, witness)))
    }

    pub(crate) fn is_watched(&self) -> bool {
        self.0.is_some()
    }

    pub(crate) fn leads(&self, term: u64, last: u64) {
        if let Some((shard, replica, witness)) = &self.0 {
            witness.leads(*shard, *replica, term, last);
        }
    }

    pub(crate) fn appends(&self, records: &[Record]) {
        let Some((shard, replica, witness)) = &self.0 else { return };
        for Record { term, index, payload, .. } in records {
            witness.appends(*shard, *replica, *term, *index, slot::hash(payload));
        }
    }

    pub(crate) fn synced(&self, index: u64) {
        if let Some((shard, replica, witness)) = &self.0 {
            witness.synced(*shard, *replica, index);
        }
    }

    pub(crate) fn applies(&self, entries: &[Entry]) {
        let Some((shard, replica, witness)) = &self.0 else { return };
        for Entry { position, body } in entries {
            let digest = match body {
                EntryBody::Blank => 0,
                EntryBody::Command(bytes) => slot::hash(bytes),
                EntryBody::Membership(bytes) => slot::hash(bytes),
            };
            witness.applies(*shard, *replica, position.term, position.index, digest);
        }
    }

    pub(crate) fn installs(&self, index: u64) {
        if let Some((shard, replica, witness)) = &self.0 {
            witness.installs(*shard, *replica, index);
        }
    }
}
