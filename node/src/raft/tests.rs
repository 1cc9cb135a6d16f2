//! openraft's own storage suite on the real log and the real store.

use std::io;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use futures_util::{FutureExt, Stream, StreamExt, TryStreamExt};
use openraft::entry::RaftEntry;
use openraft::raft::AppendEntriesRequest;
use openraft::storage::{EntryResponder, RaftLogReader, RaftStateMachine};
use openraft::testing::log::{StoreBuilder, Suite};
use openraft::{OptionalSend, StorageError};
use platbook_engine::log::faults::{Faults, FaultyFiles};
use platbook_engine::log::{GroupLog, LogConfig, OsFiles, SharedLog, WriterKind};
use platbook_engine::store::{ShardStore, Store, StoreConfig};
use platbook_protocol::{ReplicaId, ShardId, SlotRange};

use super::appends::{self, Own};
use super::log::RaftLog;
use super::machine::{Machine, SnapshotBuilder, SnapshotData};
use super::types::{self, Entry, LogId, SnapshotMeta, StoredMembership, Types, Vote};
use super::wire;
use crate::health::Health;
use crate::witness::Watched;

struct OnDisk;

/// Keeps the directory and the open files until the case is over.
struct Kept {
    _dir: tempfile::TempDir,
    _log: SharedLog,
    _store: Store,
}

/// The suite applies entries with gaps between them, which the store refuses as a fault of Raft:
/// here the gaps are filled with blank entries, and snapshots streamed.
struct Gapless(Machine, ShardStore);

type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

impl RaftStateMachine<Types> for Gapless {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        self.0.applied_state().await
    }

    async fn apply<Strm>(&mut self, mut entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<Types>, io::Error>> + Unpin + OptionalSend,
    {
        let (applied, _) = self.0.applied_state().await?;
        let mut next = applied.map_or(0, |id| id.index + 1);
        let mut filled = Vec::new();
        while let Some(entry) = entries.next().await {
            let entry = entry?;
            let (term, index) = types::parts(&entry.0.log_id());
            let blanks = next..index;
            filled.extend(blanks.map(|i| Ok((Entry::new_blank(types::log_id(term, i)), None))));
            next = index + 1;
            filled.push(Ok(entry));
        }
        self.0.apply(futures_util::stream::iter(filled)).await
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        self.0.get_snapshot_builder().await
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotData,
    ) -> Result<(), io::Error> {
        // The suite hands a snapshot over as it was built; a network would have streamed it.
        let SnapshotData::Outgoing(mut sent) = snapshot else {
            return self.0.install_snapshot(meta, snapshot).await;
        };
        let mut installer = self.1.install().map_err(io::Error::other)?;
        while let Some(chunk) = sent.next_chunk(1 << 20).map_err(io::Error::other)? {
            installer.write(&chunk).map_err(io::Error::other)?;
        }
        self.0.install_snapshot(meta, SnapshotData::Incoming(Box::new(installer))).await
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        self.0.get_current_snapshot().await
    }
}

impl StoreBuilder<Types, RaftLog, Gapless, Kept> for OnDisk {
    async fn build(&self) -> Result<(Kept, RaftLog, Gapless), StorageError<Types>> {
        let dir = tempfile::tempdir().expect("a temporary directory");
        let files = OsFiles::try_new(&dir.path().join("log")).expect("a log directory");
        let config = LogConfig { segment_bytes: 1 << 20, ..LogConfig::default() };
        let log = SharedLog::open(config, Arc::new(files)).expect("a new log opens");
        let store = Store::open(StoreConfig {
            block_cache_bytes: 1 << 20,
            memtable_bytes: 4 << 20,
            ..StoreConfig::at(dir.path().join("db"))
        })
        .expect("a new store opens");
        let (shard, replica) = (ShardId(1), ReplicaId(1));
        let slots = SlotRange::partition(1).first().copied();
        let state = store.shard(shard, slots, replica).expect("a new shard opens");
        let group = log.group(replica, shard);
        let machine = Gapless(Machine::new(state.clone(), None, Watched::default()), state);
        Ok((
            Kept { _dir: dir, _log: log, _store: store },
            RaftLog::new(group, Watched::default()),
            machine,
        ))
    }
}

/// A replica of its own, without a group around it.
struct Alone {
    _store: Store,
    files: FaultyFiles,
    _log: SharedLog,
    group: GroupLog,
    state: ShardStore,
    machine: Machine,
}

impl Alone {
    fn open(dir: &Path) -> Alone {
        let files = FaultyFiles::new();
        let config = LogConfig { writer: WriterKind::Task, ..LogConfig::default() };
        let log = SharedLog::open(config, Arc::new(files.clone())).expect("a new log opens");
        let store = Store::open(StoreConfig::at(dir)).expect("a new store opens");
        let (shard, replica) = (ShardId(1), ReplicaId(1));
        let slots = SlotRange::partition(1).first().copied();
        let state = store.shard(shard, slots, replica).expect("a new shard opens");
        let group = log.group(replica, shard);
        let machine = Machine::new(state.clone(), Some(group.clone()), Watched::default());
        Alone { _store: store, files, _log: log, group, state, machine }
    }
}

/// The store has no log of its own: what it flushed must never pass what this replica's log has.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_applied_before_this_replicas_own_log_has_it() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let mut alone = Alone::open(dir.path());
    let blank = Entry::new_blank(types::log_id(1, 0));
    alone.files.set_faults(Faults { sync_delay: Duration::MAX, ..Faults::default() });
    alone.group.append(vec![wire::record_of(blank.clone())], Box::new(|_| ())).await;
    let applied = alone.machine.apply(futures_util::stream::iter([Ok((blank, None))]));
    let applied = tokio::time::timeout(Duration::from_millis(200), applied).await;
    assert!(applied.is_err(), "applied although no fsync returned: {applied:?}");
    assert_eq!(alone.state.applied().position, None);
}

/// A snapshot is installed, and acknowledged, before the log that it replaces is given up.
#[tokio::test(flavor = "multi_thread")]
async fn only_what_neither_log_nor_state_has_is_lost() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Alone { _store, _log, group, state, mut machine, .. } = Alone::open(dir.path());
    let entries = [0, 1, 2].map(|index| Entry::new_blank(types::log_id(1, index)));
    group.append(entries.iter().cloned().map(wire::record_of).collect(), Box::new(|_| ())).await;
    let given = entries.map(|entry| Ok((entry, None)));
    machine.apply(futures_util::stream::iter(given)).await.expect("the log has them");
    // A log without the entries that are in the state.
    let log = _log.group(ReplicaId(2), ShardId(1));
    let told = async |held| {
        let health = Health::default();
        let own = Own { log: log.clone(), store: state.clone(), health: health.clone() };
        let (sender, queue) = tokio::sync::mpsc::channel(1);
        let request = AppendEntriesRequest {
            vote: Vote::new_committed(1, ReplicaId(1)),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        };
        let body = wire::encode_append(request, held).concat().into();
        sender.send(body).await.expect("it is read");
        let is_taken = Box::pin(appends::requests(own, queue)).next().await.is_some();
        assert_eq!(health.log_lost().now_or_never().is_none(), is_taken);
        is_taken
    };
    assert!(told(0).await, "nothing was acknowledged");
    assert!(told(3).await, "it is in the state");
    assert!(!told(4).await, "an entry that is nowhere");
}

/// Seed 168 of the simulation: what was appended to a log that had failed was not in it, and what
/// was then asked of it, to be applied, counted as applied although it was not given.
#[tokio::test(flavor = "multi_thread")]
async fn entries_that_a_failed_log_does_not_have_do_not_count_as_applied() {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let Alone { _store, _log, files, group, state, mut machine } = Alone::open(dir.path());
    let append = async |index| {
        let record = wire::record_of(Entry::new_blank(types::log_id(1, index)));
        let (sender, told) = tokio::sync::oneshot::channel();
        group.append(vec![record], Box::new(|result| drop(sender.send(result)))).await;
        told.await.expect("an answer")
    };
    append(0).await.expect("it is sound");
    files.set_faults(Faults { sync_fails_in: Some(0), ..Faults::default() });
    append(1).await.expect_err("a failed sync");
    append(2).await.expect_err("and no second try");
    let mut log = RaftLog::new(group.clone(), Watched::default());
    let given: Vec<_> = log.entries_stream(0..3).await.collect().await;
    let told: Vec<_> = given.iter().map(Result::is_ok).collect();
    assert_eq!(told, [true, true, false], "{given:?}");
    let short = log.entries_stream(2..3).await.map_ok(|entry| (entry, None));
    assert!(machine.apply(Box::pin(short)).await.is_err(), "it counts as applied");
    assert_eq!(state.applied().position, None);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_storage_suite_of_openraft_passes_on_the_real_store() {
    Suite::test_all(OnDisk).await.expect("the suite passes");
}
