//! How openraft's types are filled: ids are replica ids, the "node" of a member is our node id
//! (addresses stand in the map and may change), commands are opaque bytes.

use std::fmt;

use bytes::Bytes;
use openraft::impls::leader_id_std;
use openraft::vote::RaftLeaderId;
use platbook_engine::store::Applied;
use platbook_protocol::{NodeId, ReplicaId};

openraft::declare_raft_types!(
    /// One shard's Raft group.
    pub(crate) Types:
        D = Command,
        R = Answer,
        NodeId = ReplicaId,
        Node = NodeId,
        Term = u64,
        // At most one leader a term, as in the paper; the default of openraft allows several.
        LeaderId = leader_id_std::LeaderId<u64, ReplicaId>,
        AsyncRuntime = openraft_rt_tokio::TokioRuntime,
);

pub(crate) type Entry = openraft::alias::EntryOf<Types>;
pub(crate) type LogId = openraft::alias::LogIdOf<Types>;
pub(crate) type Vote = openraft::alias::VoteOf<Types>;
pub(crate) type Membership = openraft::Membership<ReplicaId, NodeId>;
pub(crate) type StoredMembership = openraft::alias::StoredMembershipOf<Types>;
pub(crate) type SnapshotMeta = openraft::alias::SnapshotMetaOf<Types>;

/// A command as the engine reads it.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Command(pub(crate) Bytes);

impl fmt::Debug for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Command({} bytes)", self.0.len())
    }
}

impl fmt::Display for Command {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(self, f)
    }
}

/// What applying one entry gave.
#[derive(Debug)]
pub(crate) struct Answer(pub(crate) Applied);

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("answer")
    }
}

/// A log id from its two numbers.
pub(crate) fn log_id(term: u64, index: u64) -> LogId {
    LogId::new(leader_id_std::LeaderId::new(term, ReplicaId(0)).to_committed(), index)
}

/// Term and index of a log id.
pub(crate) fn parts(id: &LogId) -> (u64, u64) {
    (*id.leader_id, id.index)
}
