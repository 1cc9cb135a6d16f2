//! openraft's state machine over one shard of the state store.
//!
//! Entries are applied in batches, one RocksDB write a batch, and only once this replica's own log
//! is durable up to them: the store has no write-ahead log, so a flushed applied id that the log
//! does not have would be a hole after a power loss.

use std::io;

use futures_util::{FutureExt, Stream, StreamExt};
use openraft::storage::{EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};
use platbook_engine::log::GroupLog;
use platbook_engine::store::{self, EntryBody, Installer, Position, ShardSnapshot, ShardStore};
use platbook_protocol::planted::Bug;

use super::types::{self, Answer, Entry, LogId, SnapshotMeta, StoredMembership, Types};
use super::wire;

use crate::blocking::blocking;
use crate::witness::Watched;

/// Most entries that one RocksDB batch applies.
const APPLY_ENTRIES_MAX: usize = 64;
/// Most command bytes that one RocksDB batch applies, unless one entry is larger.
const APPLY_BYTES_MAX: usize = 4 << 20;

type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;
type Responder = openraft::storage::ApplyResponder<Types>;

/// A snapshot on its way out (scanned lazily) or in (received, not yet installed).
pub(crate) enum SnapshotData {
    /// To be streamed to a follower.
    Outgoing(Box<ShardSnapshot>),
    /// Received whole and checked.
    Incoming(Box<Installer>),
}

/// One replica's state machine.
pub(crate) struct Machine {
    shard: ShardStore,
    /// `None` only for openraft's storage suite, which applies entries that no log has.
    log: Option<GroupLog>,
    watched: Watched,
}

/// Takes a consistent view when it is made; building it is free.
pub(crate) struct SnapshotBuilder(Option<Result<Snapshot, io::Error>>);

impl Machine {
    pub(crate) fn new(shard: ShardStore, log: Option<GroupLog>, watched: Watched) -> Machine {
        Machine { shard, log, watched }
    }

    /// Waits until the log holds everything up to `index` on disk.
    async fn await_durable(&self, index: u64) -> Result<(), io::Error> {
        let Some(log) = self.log.as_ref().filter(|_| !Bug::ApplyAheadOfSync.is_planted()) else {
            return Ok(());
        };
        let mut durable = log.durable_index();
        let reached = durable.wait_for(|found| found.is_some_and(|found| found >= index)).await;
        reached.map(|_| ()).map_err(|_| io::Error::other("the log was closed"))
    }

    fn snapshot(&self) -> Result<Snapshot, io::Error> {
        let snapshot = self.shard.snapshot().map_err(io::Error::other)?;
        let meta = SnapshotMeta {
            last_log_id: snapshot.position().map(log_id_of),
            last_membership: membership_of(snapshot.membership().cloned())?,
        };
        Ok(Snapshot { meta, snapshot: SnapshotData::Outgoing(Box::new(snapshot)) })
    }
}

fn log_id_of(position: Position) -> LogId {
    types::log_id(position.term, position.index)
}

fn membership_of(
    kept: Option<(Option<Position>, bytes::Bytes)>,
) -> Result<StoredMembership, io::Error> {
    let kept = kept.map(|(at, bytes)| (at.map(|p| (p.term, p.index)), bytes));
    wire::stored_membership(kept).map_err(io::Error::other)
}

fn engine_entry(entry: Entry) -> store::Entry {
    let (term, index) = types::parts(&entry.log_id);
    let body = match entry.payload {
        EntryPayload::Blank => EntryBody::Blank,
        EntryPayload::Normal(command) => EntryBody::Command(command.0),
        EntryPayload::Membership(m) => EntryBody::Membership(wire::encode_membership(&m)),
    };
    store::Entry { position: Position { term, index }, body }
}

/// Entries gathered for one batch, with those who wait for their answers.
#[derive(Default)]
struct Batch {
    entries: Vec<store::Entry>,
    responders: Vec<Option<Responder>>,
    bytes: usize,
}

impl Batch {
    fn push(&mut self, (entry, responder): EntryResponder<Types>) {
        let entry = engine_entry(entry);
        if let EntryBody::Command(bytes) = &entry.body {
            self.bytes += bytes.len();
        }
        self.entries.push(entry);
        self.responders.push(responder);
    }

    fn is_full(&self) -> bool {
        self.entries.len() >= APPLY_ENTRIES_MAX || self.bytes >= APPLY_BYTES_MAX
    }
}

impl RaftStateMachine<Types> for Machine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let applied = self.shard.applied();
        Ok((applied.position.map(log_id_of), membership_of(applied.membership)?))
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        while let Some(first) = entries.next().await {
            let mut batch = Batch::default();
            batch.push(first?);
            while !batch.is_full() {
                match entries.next().now_or_never() {
                    Some(Some(next)) => batch.push(next?),
                    Some(None) | None => break,
                }
            }
            let last = batch.entries.last().expect("a batch holds at least its first entry");
            self.await_durable(last.position.index).await?;
            self.watched.applies(&batch.entries);
            let shard = self.shard.clone();
            let answers = blocking(move || shard.apply(batch.entries))
                .await
                .map_err(io::Error::other)?
                .map_err(io::Error::other)?;
            for (responder, answer) in batch.responders.into_iter().zip(answers) {
                if let Some(responder) = responder {
                    responder.send(Answer(answer));
                }
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder> {
        Some(SnapshotBuilder(Some(self.snapshot())))
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(Some(self.snapshot()))
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        let installer = match snapshot {
            SnapshotData::Incoming(installer) => installer,
            // Only at start does openraft hand back what `get_current_snapshot` gave, and only
            // where the state machine lies behind it; ours is its own snapshot, so it never does.
            SnapshotData::Outgoing(_) => return Ok(()),
        };
        let installed = blocking(move || installer.finish())
            .await
            .map_err(io::Error::other)?
            .map_err(io::Error::other)?;
        self.watched.installs(installed.position.map_or(0, |position| position.index));
        if installed.position.map(log_id_of) != meta.last_log_id {
            return Err(io::Error::other("snapshot holds another position than its head says"));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let snapshot = self.snapshot()?;
        Ok(snapshot.meta.last_log_id.is_some().then_some(snapshot))
    }
}

impl RaftSnapshotBuilder<Types> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        self.0.take().unwrap_or_else(|| Err(io::Error::other("a builder builds one snapshot")))
    }
}
