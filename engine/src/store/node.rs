//! The store of a node: opens the database, hands out its shards.

use std::collections::BTreeMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};

use platbook_protocol::{ReplicaId, ShardId, SlotRange};

use super::config::StoreConfig;
use super::db::Db;
use super::shard::{Inner, ShardStore};
use crate::error::StoreError;

pub(super) const DB_DIR: &str = "db";
const INCOMING_DIR: &str = "incoming";

/// One RocksDB, shared by all shards of the node. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Store {
    pub(super) shared: Arc<Shared>,
}

/// What shards share.
#[derive(Debug)]
pub(super) struct Shared {
    pub(super) db: Db,
    pub(super) incoming: PathBuf,
    pub(super) totals: Totals,
    simulated_flushes: Option<u64>,
    shards: Mutex<BTreeMap<ShardId, Weak<Inner>>>,
}

/// Entries and operations after which a flush is started: what a crash leaves to be replayed, some
/// tenths of a second, before this replica can lead or serve.
pub(super) const REPLAY_MAX: u64 = 1 << 15;

/// Flushed files that a simulation lets gather before it compacts them.
const SIMULATED_FILES_MAX: u64 = 8;

/// Counted since the store was opened.
#[derive(Debug, Default)]
pub(super) struct Totals {
    /// Entries and operations applied since the last flush that was started for their sake.
    pub(super) unflushed: AtomicU64,
    pub(super) batches: AtomicU64,
    pub(super) batch_bytes: AtomicU64,
    pub(super) entries: AtomicU64,
    pub(super) operations: AtomicU64,
    pub(super) changes: AtomicU64,
    pub(super) installs: AtomicU64,
}

/// What the store counts, and what RocksDB says about itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counters {
    /// Batches written since the start.
    pub batches: u64,
    /// Their bytes.
    pub batch_bytes: u64,
    /// Entries applied since the start.
    pub entries: u64,
    /// Operations applied since the start.
    pub operations: u64,
    /// Changes made since the start.
    pub changes: u64,
    /// Snapshots installed since the start.
    pub installs: u64,
    /// Bytes not yet flushed.
    pub memtable_bytes: u64,
    /// Bytes in the block cache.
    pub cache_bytes: u64,
    /// Bytes in files.
    pub file_bytes: u64,
    /// Bytes that compactions have yet to rewrite.
    pub compaction_debt_bytes: u64,
    /// Bytes a second that writes are slowed down to; 0 for no limit.
    pub write_rate_max: u64,
    /// Whether writes are stopped.
    pub writes_stopped: bool,
    /// Snapshots that keep old values alive.
    pub snapshots: u64,
    /// Errors of flushes and compactions.
    pub background_errors: u64,
}

impl Store {
    /// Opens or creates the store, and clears what an interrupted installation left behind.
    pub fn open(config: StoreConfig) -> Result<Store, StoreError> {
        let incoming = config.path.join(INCOMING_DIR);
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(io("clear", &incoming))?;
        }
        fs::create_dir_all(&incoming).map_err(io("create", &incoming))?;
        let db = Db::open(&config, &config.path.join(DB_DIR))?;
        // RocksDB makes its files durable, but not the directories that lead to them.
        let parent = config.path.parent().filter(|parent| !parent.as_os_str().is_empty());
        for dir in parent.into_iter().chain([config.path.as_path()]) {
            File::open(dir).and_then(|dir| dir.sync_all()).map_err(io("sync", dir))?;
        }
        let (totals, shards) = (Totals::default(), Mutex::default());
        let simulated_flushes = config.simulated_flushes;
        let shared = Shared { db, incoming, totals, simulated_flushes, shards };
        Ok(Store { shared: Arc::new(shared) })
    }

    /// The state of a shard; empty for a new one. `slots` is `None` for the system shard. Fails if
    /// what is on disk belongs to another replica: [`Store::destroy`] removes it.
    pub fn shard(
        &self,
        shard: ShardId,
        slots: Option<SlotRange>,
        replica: ReplicaId,
    ) -> Result<ShardStore, StoreError> {
        let mut shards = self.shared.shards();
        if let Some(inner) = shards.get(&shard).and_then(Weak::upgrade) {
            return match inner.slots == slots && inner.replica == replica {
                true => Ok(ShardStore { inner }),
                false => Err(StoreError::AlreadyOpen { shard }),
            };
        }
        let inner = Arc::new(Inner::open(Arc::clone(&self.shared), shard, slots, replica)?);
        shards.insert(shard, Arc::downgrade(&inner));
        Ok(ShardStore { inner })
    }

    /// Removes all that is kept of a shard, whichever replica it belonged to. Handles that are
    /// still open for it apply nothing any more.
    pub fn destroy(&self, shard: ShardId, slots: Option<SlotRange>) -> Result<(), StoreError> {
        let open = self.shared.shards().get(&shard).and_then(Weak::upgrade);
        match open {
            Some(inner) => inner.destroy(),
            None => super::shard::destroy(&self.shared.db, shard, slots),
        }
    }

    /// Makes everything applied so far durable, for all shards.
    pub fn flush(&self) -> Result<(), StoreError> {
        self.shared.db.flush()
    }

    /// Flushes and stops background work. Reads still work; applying must have ended.
    pub fn close(self) -> Result<(), StoreError> {
        self.shared.db.flush()?;
        self.shared.db.stop_background_work();
        Ok(())
    }

    /// Why RocksDB no longer flushes or compacts, if so: the node must not go on.
    pub fn background_error(&self) -> Option<String> {
        match self.shared.db.property("rocksdb.background-errors") {
            0 => None,
            count => Some(format!("{count} background errors, see the LOG file of the database")),
        }
    }

    /// What the store counts, and what RocksDB says about itself.
    pub fn counters(&self) -> Counters {
        let Shared { db, totals, .. } = &*self.shared;
        let total = |counter: &AtomicU64| counter.load(Ordering::Relaxed);
        Counters {
            batches: total(&totals.batches),
            batch_bytes: total(&totals.batch_bytes),
            entries: total(&totals.entries),
            operations: total(&totals.operations),
            changes: total(&totals.changes),
            installs: total(&totals.installs),
            memtable_bytes: db.property("rocksdb.cur-size-all-mem-tables"),
            cache_bytes: db.cache_used_bytes(),
            file_bytes: db.property("rocksdb.total-sst-files-size"),
            compaction_debt_bytes: db.property("rocksdb.estimate-pending-compaction-bytes"),
            write_rate_max: db.property("rocksdb.actual-delayed-write-rate"),
            writes_stopped: db.property("rocksdb.is-write-stopped") != 0,
            snapshots: db.property("rocksdb.num-snapshots"),
            background_errors: db.property("rocksdb.background-errors"),
        }
    }
}

impl Shared {
    /// Counts what a crash would leave to be replayed, and starts a flush when that is much.
    pub(super) fn on_applied(&self, entries: u64, operations: u64) -> Result<(), StoreError> {
        let added = entries + operations;
        let unflushed = self.totals.unflushed.fetch_add(added, Ordering::Relaxed) + added;
        // Shards apply at the same time: one of them starts the flush.
        let max = self.simulated_flushes.unwrap_or(REPLAY_MAX);
        let starts = unflushed >= max && self.totals.unflushed.swap(0, Ordering::Relaxed) >= max;
        match (starts, self.simulated_flushes) {
            (false, _) => Ok(()),
            (true, None) => self.db.start_flush(),
            (true, Some(_)) => self.flush_in_simulation(),
        }
    }

    /// What threads would do behind the scenes, done here and now.
    fn flush_in_simulation(&self) -> Result<(), StoreError> {
        self.db.flush()?;
        if self.db.property("rocksdb.num-files-at-level0") >= SIMULATED_FILES_MAX {
            self.db.compact();
        }
        Ok(())
    }

    /// Takes a shard off the list of open ones, so that it can be opened as another replica.
    pub(super) fn forget(&self, inner: &Inner) {
        let mut shards = self.shards();
        if shards.get(&inner.shard).is_some_and(|open| std::ptr::eq(open.as_ptr(), inner)) {
            shards.remove(&inner.shard);
        }
    }

    fn shards(&self) -> MutexGuard<'_, BTreeMap<ShardId, Weak<Inner>>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The error for a file operation.
pub(super) fn io(action: &'static str, path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_path_buf();
    move |source| StoreError::Io { action, path, source }
}
