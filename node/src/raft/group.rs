//! One replica of one shard: the handle that the rest of the node uses.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use bytes::Bytes;
use openraft::async_runtime::WatchReceiver;
use openraft::base::BoxStream;
use openraft::errors::{ClientWriteError, Fatal, LinearizableReadError, RaftError};
use openraft::raft::TransferLeaderRequest;
use openraft::{Raft, ReadPolicy, ServerState, SnapshotPolicy};
use platbook_engine::error::StoreError;
use platbook_engine::log::GroupLog;
use platbook_engine::store::{Applied, Installer, ShardStore};
use platbook_protocol::planted::Bug;
use platbook_protocol::rpc::{Consistency, Refusal};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::sync::{mpsc, oneshot};

use super::appends::{self, Own};
use super::held::Held;
use super::log::RaftLog;
use super::machine::{Machine, SnapshotData};
use super::network::Network;
use super::types::{Command, Types};
use super::wire;
use crate::health::Health;
use crate::peer::Peers;
use crate::witness::Watched;

/// Timeouts of all groups of a node.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Timing {
    heartbeat_ms: u64,
    election_ms_min: u64,
    election_ms_max: u64,
}

impl Timing {
    /// A follower that hears nothing campaigns after `election_ms` at least and half as much again
    /// at most.
    ///
    /// openraft counts its election timeout from the end of the leader's lease, and the lease is as
    /// long as the greatest timeout. So three quarters of the time are the lease, and the timeouts
    /// are spread from one quarter to three.
    pub(crate) fn new(heartbeat_ms: u64, election_ms: u64) -> Timing {
        let quarter = election_ms / 4;
        Timing { heartbeat_ms, election_ms_min: quarter, election_ms_max: election_ms - quarter }
    }
}

/// Entries that one append message carries at most; their bytes are bounded by the log reader.
const APPEND_ENTRIES_MAX: u64 = 64;
/// Entries that a voter may lack to be handed the leadership.
const SUCCESSOR_LAG_MAX: u64 = 1000;
/// How long one snapshot may take to send and install.
const SNAPSHOT_TIMEOUT_MS: u64 = 30 * 60 * 1000;

/// A running replica. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Group {
    shard: ShardId,
    replica: ReplicaId,
    raft: Raft<Types, Machine>,
    log: GroupLog,
    store: ShardStore,
    health: Health,
    recovery: Arc<Recovery>,
}

/// What was in the log at start and has to be applied before this replica is of use.
struct Recovery {
    last: u64,
    is_over: AtomicBool,
}

/// What is known of a group without asking anybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Standing {
    pub(crate) role: Role,
    pub(crate) term: u64,
    pub(crate) leader: Option<(ReplicaId, NodeId)>,
    pub(crate) last_log: u64,
    pub(crate) applied: u64,
    pub(crate) voters: Vec<ReplicaId>,
    pub(crate) fault: Option<String>,
}

/// What a replica is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Leader,
    Candidate,
    Follower,
    Learner,
    Stopped,
}

impl Group {
    pub(crate) async fn start(
        (shard, replica): (ShardId, ReplicaId),
        timing: Timing,
        health: Health,
        peers: Peers,
        log: GroupLog,
        store: ShardStore,
        watched: Watched,
    ) -> Result<Group, String> {
        let config = openraft::Config {
            cluster_name: format!("shard-{shard}"),
            heartbeat_interval: timing.heartbeat_ms,
            election_timeout_min: timing.election_ms_min,
            election_timeout_max: timing.election_ms_max,
            install_snapshot_timeout: SNAPSHOT_TIMEOUT_MS,
            max_payload_entries: APPEND_ENTRIES_MAX,
            max_append_entries: Some(APPEND_ENTRIES_MAX),
            snapshot_policy: SnapshotPolicy::Never,
            max_in_snapshot_log_to_keep: u64::MAX,
            enable_pre_vote: Some(true),
            enable_leader_restore: Some(false),
            ..openraft::Config::default()
        };
        let config = Arc::new(config.validate().map_err(|e| e.to_string())?);
        let last = log.state().last.map_or(0, |(_, index)| index);
        let recovery = Arc::new(Recovery { last, is_over: AtomicBool::new(false) });
        let machine = Machine::new(store.clone(), Some(log.clone()), watched.clone());
        let network = Network { peers, shard, held: Held::default() };
        watched.synced(log.state().last.map_or(0, |(_, index)| index));
        let raft_log = RaftLog::new(log.clone(), watched.clone());
        let raft = Raft::new(replica, config, network, raft_log, machine)
            .await
            .map_err(|e| e.to_string())?;
        if watched.is_watched() {
            tokio::spawn(watch_leadership(raft.clone(), watched));
        }
        Ok(Group { shard, replica, raft, log, store, health, recovery })
    }

    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) fn replica(&self) -> ReplicaId {
        self.replica
    }

    /// The replica's state, for reads; fresh only behind [`Group::barrier`].
    pub(crate) fn store(&self) -> &ShardStore {
        &self.store
    }

    /// The replica's log, for readers of changes.
    pub(crate) fn log(&self) -> &GroupLog {
        &self.log
    }

    /// Whether all that the log held at start is applied. A replica that still replays can be
    /// elected at once, but would not serve before it is through.
    pub(crate) fn has_recovered(&self) -> bool {
        let recovery = &self.recovery;
        if recovery.is_over.load(Ordering::Relaxed) {
            return true;
        }
        let metrics = self.raft.metrics().borrow_watched().clone();
        // Less where a leader cut what was never committed.
        let last = recovery.last.min(metrics.last_log_index.unwrap_or(0));
        let is_over = metrics.last_applied.map_or(0, |id| id.index) >= last;
        recovery.is_over.store(is_over, Ordering::Relaxed);
        is_over
    }

    /// Notes a failed read of the state: if the disk has lost something, the node shall not lead.
    pub(crate) fn on_read_error(&self, error: &StoreError) {
        if error.is_damage() {
            self.health.on_damage(format!("tables of shard {}: {error}", self.shard));
        }
    }

    /// Founds the group. Harmless where it was founded before.
    pub(crate) async fn found(&self, members: &[(ReplicaId, NodeId)]) -> Result<(), Refusal> {
        let members: std::collections::BTreeMap<_, _> = members.iter().copied().collect();
        match self.raft.initialize(members).await {
            Ok(()) | Err(RaftError::APIError(openraft::errors::InitializeError::NotAllowed(_))) => {
                Ok(())
            }
            Err(e) => Err(self.unavailable(e.to_string())),
        }
    }

    /// Queues one command in submission order; the answer comes when it is applied here.
    pub(crate) async fn propose(&self, command: Bytes) -> Result<Pending, Refusal> {
        let (responder, answer) = openraft::impls::ProgressResponder::complete_only();
        let submitted = self.raft.client_write_ff(Command(command), Some(responder)).await;
        submitted.map_err(|e| self.unavailable(e.to_string()))?;
        let (tx, rx) = oneshot::channel();
        let group = self.clone();
        tokio::spawn(async move {
            let outcome = match answer.await {
                Ok(Ok(response)) => Ok(response.data.0),
                Ok(Err(error)) => Err(group.refusal_of(error)),
                Err(_) => Err(group.unknown("the group stopped")),
            };
            // The caller may have given up; the entry is decided all the same.
            let _ = tx.send(outcome);
        });
        Ok(Pending { shard: self.shard, rx })
    }

    /// Returns when this replica has applied everything acknowledged before the call.
    pub(crate) async fn barrier(&self, consistency: Consistency) -> Result<(), Refusal> {
        let bug = match consistency {
            Consistency::Linearizable => Bug::StaleRead,
            Consistency::Lease => Bug::EndlessLease,
        };
        if bug.is_planted() && self.raft.is_leader() {
            return Ok(());
        }
        let policy = match consistency {
            Consistency::Linearizable => ReadPolicy::ReadIndex,
            Consistency::Lease => ReadPolicy::LeaseRead,
        };
        match self.raft.ensure_linearizable(policy).await {
            Ok(_) => Ok(()),
            Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(to))) => {
                Err(self.not_leader(to.leader_node))
            }
            Err(RaftError::APIError(e)) => Err(self.unavailable(e.to_string())),
            Err(RaftError::Fatal(e)) => Err(self.unavailable(e.to_string())),
        }
    }

    pub(crate) fn standing(&self) -> Standing {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let role = match metrics.state {
            ServerState::Leader => Role::Leader,
            ServerState::Candidate => Role::Candidate,
            ServerState::Follower => Role::Follower,
            ServerState::Learner => Role::Learner,
            ServerState::Shutdown => Role::Stopped,
        };
        let membership = metrics.membership_config.membership();
        let leader =
            metrics.current_leader.and_then(|id| membership.get_node(&id).map(|node| (id, *node)));
        let fault = metrics.running_state.as_ref().err().map(ToString::to_string);
        Standing {
            role: if fault.is_some() { Role::Stopped } else { role },
            term: metrics.current_term,
            leader,
            last_log: metrics.last_log_index.unwrap_or(0),
            applied: metrics.last_applied.map_or(0, |id| id.index),
            voters: membership.voter_ids().collect(),
            fault,
        }
    }

    /// Waits until the replica stops by a fault, and tells which; `None` when it is stopped.
    pub(crate) async fn fault(&self) -> Option<String> {
        let mut metrics = self.raft.metrics();
        loop {
            match metrics.borrow_watched().running_state.as_ref() {
                Ok(()) => {}
                Err(Fatal::Stopped) => return None,
                Err(fault) => return Some(fault.to_string()),
            }
            metrics.changed().await.ok()?;
        }
    }

    pub(crate) fn is_leader(&self) -> bool {
        self.raft.is_leader()
    }

    /// Whether this replica leads and `other` is a voter that has nearly everything.
    pub(crate) fn can_lead(&self, other: ReplicaId) -> bool {
        self.successors().iter().any(|(id, _)| *id == other)
    }

    /// The voter that has most of the log, of those on `nodes`, besides this replica.
    pub(crate) fn best_successor(&self, nodes: &[NodeId]) -> Option<ReplicaId> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let membership = metrics.membership_config.membership();
        let is_there = |id: &ReplicaId| membership.get_node(id).is_some_and(|n| nodes.contains(n));
        let successors = self.successors().into_iter().filter(|(id, _)| is_there(id));
        successors.max_by_key(|(_, matched)| *matched).map(|(id, _)| id)
    }

    /// Voters elsewhere that lag little, and how far they are; empty where another one leads.
    fn successors(&self) -> Vec<(ReplicaId, u64)> {
        let metrics = self.raft.metrics().borrow_watched().clone();
        let last = metrics.last_log_index.unwrap_or(0);
        let voters: Vec<ReplicaId> = metrics.membership_config.membership().voter_ids().collect();
        let replication = metrics.replication.unwrap_or_default();
        replication
            .into_iter()
            .filter(|(id, _)| *id != self.replica && voters.contains(id))
            .filter_map(|(id, matched)| Some((id, matched?.index)))
            .filter(|(_, matched)| matched + SUCCESSOR_LAG_MAX >= last)
            .collect()
    }

    pub(crate) async fn hand_over(&self, to: ReplicaId) -> Result<(), Refusal> {
        let asked = self.raft.trigger().transfer_leader(to).await;
        asked.map_err(|e| self.unavailable(e.to_string()))
    }

    /// Adds a fresh replica that receives the state but has no vote.
    pub(crate) async fn add_learner(&self, id: ReplicaId, node: NodeId) -> Result<(), Refusal> {
        // openraft's own wait is content with a learner that has nothing, if the log is short.
        let added = self.raft.add_learner(id, node, false).await;
        added.map(|_| ()).map_err(|e| self.membership_refusal(e))
    }

    /// Waits until `other` has everything that the log holds at the time of the call.
    pub(crate) async fn await_caught_up(&self, other: ReplicaId) -> Result<(), Refusal> {
        let mut metrics = self.raft.metrics();
        let target = metrics.borrow_watched().last_log_index.unwrap_or(0);
        loop {
            let matched = match &metrics.borrow_watched().replication {
                None => return Err(self.not_leader(None)),
                Some(replication) => replication.get(&other).cloned().flatten(),
            };
            if matched.is_some_and(|id| id.index >= target) {
                return Ok(());
            }
            metrics.changed().await.map_err(|_| self.unavailable("the group stopped".into()))?;
        }
    }

    /// Makes exactly these replicas the voters, by joint consensus; others leave the group.
    pub(crate) async fn change_voters(&self, voters: &[ReplicaId]) -> Result<(), Refusal> {
        let voters: std::collections::BTreeSet<_> = voters.iter().copied().collect();
        let changed = self.raft.change_membership(voters, false).await;
        changed.map(|_| ()).map_err(|e| self.membership_refusal(e))
    }

    fn membership_refusal(&self, error: RaftError<Types, ClientWriteError<Types>>) -> Refusal {
        match error {
            RaftError::APIError(e) => self.refusal_of(e),
            RaftError::Fatal(e) => self.unavailable(e.to_string()),
        }
    }

    /// Gives up log entries up to `index`. The snapshot that openraft wants first costs nothing.
    pub(crate) async fn purge(&self, index: u64) -> Result<(), Refusal> {
        let trigger = self.raft.trigger();
        let asked = async {
            trigger.snapshot().await?;
            trigger.purge_log(index).await
        };
        asked.await.map_err(|e| self.unavailable(e.to_string()))
    }

    pub(crate) async fn stop(&self) {
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(shard = %self.shard, %error, "group did not stop cleanly");
        }
    }

    pub(crate) async fn on_vote(&self, body: &[u8]) -> Result<Bytes, String> {
        let request = wire::decode_vote_request(body).map_err(|e| e.to_string())?;
        let answer = self.raft.vote(request).await.map_err(|e| e.to_string())?;
        Ok(wire::encode_vote_answer(&answer))
    }

    pub(crate) async fn on_pre_vote(&self, body: &[u8]) -> Result<Bytes, String> {
        let request = wire::decode_vote_request(body).map_err(|e| e.to_string())?;
        let answer = self.raft.pre_vote(request).await.map_err(|e| e.to_string())?;
        Ok(wire::encode_vote_answer(&answer))
    }

    pub(crate) async fn on_transfer(&self, body: &[u8]) -> Result<Bytes, String> {
        let (vote, to, last) = wire::decode_transfer(body).map_err(|e| e.to_string())?;
        if to == self.replica && !self.health.may_lead() {
            return Err("this node should not lead at the moment".into());
        }
        let request = TransferLeaderRequest::new(vote, to, last);
        match self.raft.handle_transfer_leader(request).await {
            Ok(Ok(())) => {
                if to == self.replica {
                    self.health.on_leadership_received();
                }
                Ok(Bytes::new())
            }
            Ok(Err(e)) => Err(e.to_string()),
            Err(e) => Err(e.to_string()),
        }
    }

    /// Takes appends in order and answers them in order; the first refusal ends the stream.
    pub(crate) fn on_appends(
        &self,
        queue: mpsc::Receiver<Bytes>,
    ) -> BoxStream<'static, Result<Bytes, String>> {
        let (log, store, health) = (self.log.clone(), self.store.clone(), self.health.clone());
        appends::answers(&self.raft, Own { log, store, health }, queue)
    }

    /// Installs a snapshot that was received whole. Answers our vote.
    pub(crate) async fn on_snapshot(
        &self,
        head: &[u8],
        installer: Installer,
    ) -> Result<Bytes, String> {
        let (vote, meta) = wire::decode_snapshot_head(head).map_err(|e| e.to_string())?;
        let snapshot = openraft::alias::SnapshotOf::<Types, SnapshotData> {
            meta,
            snapshot: SnapshotData::Incoming(Box::new(installer)),
        };
        let answer = self.raft.install_full_snapshot(vote, snapshot).await;
        answer.map(|a| wire::encode_vote(&a.vote)).map_err(|e| e.to_string())
    }

    fn refusal_of(&self, error: ClientWriteError<Types>) -> Refusal {
        match error {
            ClientWriteError::ForwardToLeader(to) => self.not_leader(to.leader_node),
            ClientWriteError::LogEntryDiscarded(_) => self.unknown("the entry was discarded"),
            ClientWriteError::ChangeMembershipError(e) => self.unavailable(e.to_string()),
            ClientWriteError::PreconditionFailed(e) => self.unavailable(e.to_string()),
        }
    }

    fn not_leader(&self, leader: Option<NodeId>) -> Refusal {
        Refusal::NotLeader { shard: self.shard, leader }
    }

    fn unavailable(&self, reason: String) -> Refusal {
        Refusal::Unavailable { shard: self.shard, reason }
    }

    fn unknown(&self, reason: &str) -> Refusal {
        Refusal::Unknown { shard: self.shard, reason: reason.into() }
    }
}

/// Tells the witness of every term that this replica leads.
async fn watch_leadership(raft: Raft<Types, Machine>, watched: Watched) {
    let (mut metrics, mut told) = (raft.metrics(), 0);
    drop(raft);
    loop {
        {
            let now = metrics.borrow_watched();
            if now.state == ServerState::Leader && now.current_term != told {
                told = now.current_term;
                watched.leads(told, now.last_log_index.unwrap_or(0));
            }
        }
        if metrics.changed().await.is_err() {
            return;
        }
    }
}

/// A command on its way.
pub(crate) struct Pending {
    shard: ShardId,
    rx: oneshot::Receiver<Result<Applied, Refusal>>,
}

impl Pending {
    pub(crate) fn shard(&self) -> ShardId {
        self.shard
    }

    pub(crate) async fn outcome(self) -> Result<Applied, Refusal> {
        let gone = |_| Refusal::Unknown { shard: self.shard, reason: "the group stopped".into() };
        self.rx.await.map_err(gone)?
    }
}

#[cfg(test)]
mod tests {
    use super::Timing;

    #[test]
    fn a_silent_leader_is_replaced_after_the_election_time_or_half_as_much_again() {
        for election_ms in [375, 400, 1_000, 4_001] {
            let Timing { heartbeat_ms, election_ms_min, election_ms_max } =
                Timing::new(75, election_ms);
            // What openraft makes of it: the lease, then a timeout.
            let lease_ms = election_ms_max;
            assert_eq!(lease_ms + election_ms_min, election_ms);
            assert!(lease_ms + election_ms_max <= election_ms * 3 / 2 + 2);
            assert!(heartbeat_ms < election_ms_min, "openraft refuses it otherwise");
        }
    }
}
