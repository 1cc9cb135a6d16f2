//! What may be chosen about the store.

use std::path::PathBuf;

/// Where the store lives and how much memory and how many threads it may use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoreConfig {
    /// A directory of its own: `db/` holds RocksDB, `incoming/` snapshots being received.
    pub path: PathBuf,
    /// Memory for blocks read from disk.
    pub block_cache_bytes: usize,
    /// Memory for what is not yet flushed, over all memtables.
    pub memtable_bytes: usize,
    /// Threads for flushes and compactions.
    pub background_jobs_max: u16,
    /// Files that RocksDB keeps open at once.
    pub open_files_max: u16,
    /// In a simulation: entries and operations after which a flush is made. It is waited for, as
    /// are compactions, so that what is on disk does not depend on threads.
    pub simulated_flushes: Option<u64>,
}

impl StoreConfig {
    /// The defaults, under `path`.
    pub fn at(path: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            path: path.into(),
            block_cache_bytes: 256 << 20,
            memtable_bytes: 256 << 20,
            background_jobs_max: 4,
            // Leaves room for sockets under the usual soft limit of 1024.
            open_files_max: 512,
            simulated_flushes: None,
        }
    }
}
