//! The one module that knows RocksDB: options, one owning snapshot and cursor, ingestion.
//!
//! No write uses RocksDB's write-ahead log: the shards' log replays what a crash takes. Writes
//! are never reordered (no `unordered_write`, no pipelining), and there is one column family, so
//! what is on disk is always a prefix of what was written, cut between two batches.
#![allow(unsafe_code, reason = "RocksDB's guards borrow the database; owning ones are needed")]

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rocksdb::{
    BlockBasedOptions, Cache, DB, DBCompressionType, DBRawIterator, FlushOptions,
    IngestExternalFileOptions, Options, ReadOptions, ReadTier, SstFileWriter, WriteBatch,
    WriteBufferManager, WriteOptions,
};

use super::config::StoreConfig;
use crate::error::StoreError;

/// Largest memtable, however much memory there is: what is not flushed is replayed from the log
/// after a crash, and a replica that still replays serves nothing, also if it is elected. Where
/// listings are small, [`REPLAY_MAX`](super::node::REPLAY_MAX) is met first.
pub(super) const MEMTABLE_BYTES_MAX: usize = 64 << 20;
/// Memtables that share the memory budget: one takes writes while others are flushed.
const MEMTABLES: usize = 4;
/// Rows have 3 to 10 KB: smaller blocks would make the index as large as the registers.
const BLOCK_BYTES: usize = 16 << 10;
const FILE_BYTES: u64 = 64 << 20;
const BYTES_PER_SYNC: u64 = 1 << 20;
const BULK_READAHEAD_BYTES: usize = 1 << 20;
const BLOOM_BITS_PER_KEY: f64 = 10.0;
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;
const INFO_LOG_BYTES_MAX: usize = 16 << 20;
const INFO_LOG_FILES_MAX: usize = 4;

/// What RocksDB says.
#[derive(Debug, thiserror::Error)]
#[error(transparent)]
pub struct DatabaseError(rocksdb::Error);

impl DatabaseError {
    /// Whether a table's bytes are not what was written, or cannot be had from the disk.
    pub(crate) fn is_damage(&self) -> bool {
        matches!(self.0.kind(), rocksdb::ErrorKind::Corruption | rocksdb::ErrorKind::IOError)
    }
}

fn failed(action: &'static str) -> impl FnOnce(rocksdb::Error) -> StoreError {
    move |e| StoreError::Database { action, source: DatabaseError(e) }
}

/// A key and its value.
pub(super) type KeyValue<'a> = (&'a [u8], &'a [u8]);

/// How a cursor is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Access {
    /// Answers somebody: blocks are kept in the cache.
    Serve,
    /// Reads a whole shard: must not wash the cache out.
    Bulk,
}

/// An open database. Cheap to clone.
#[derive(Clone)]
pub(super) struct Db {
    inner: Arc<Inner>,
}

struct Inner {
    db: DB,
    options: Options,
    cache: Cache,
}

impl fmt::Debug for Db {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Db").field("path", &self.inner.db.path()).finish()
    }
}

impl Db {
    pub(super) fn open(config: &StoreConfig, path: &Path) -> Result<Db, StoreError> {
        let cache = Cache::new_lru_cache(config.block_cache_bytes + config.memtable_bytes);
        let options = options(config, &cache);
        let db = DB::open(&options, path).map_err(failed("open the database"))?;
        Ok(Db { inner: Arc::new(Inner { db, options, cache }) })
    }

    /// Opens what is there only to read it.
    pub(super) fn open_to_read(path: &Path) -> Result<Db, StoreError> {
        let config = StoreConfig::at(path);
        let cache = Cache::new_lru_cache(config.block_cache_bytes);
        let mut options = options(&config, &cache);
        options.create_if_missing(false);
        let db = DB::open_for_read_only(&options, path, false);
        let db = db.map_err(failed("open the database to read it"))?;
        Ok(Db { inner: Arc::new(Inner { db, options, cache }) })
    }

    /// Hands the value of `key` to `read`, without a copy.
    pub(super) fn get<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        let found = self.inner.db.get_pinned(key).map_err(failed("read a key"))?;
        Ok(found.map(|value| read(&value)))
    }

    /// The value of `key` as it would be found after a crash now.
    pub(super) fn get_persisted(&self, key: &[u8]) -> Result<Option<Vec<u8>>, StoreError> {
        let mut options = ReadOptions::default();
        options.set_read_tier(ReadTier::Persisted);
        self.inner.db.get_opt(key, &options).map_err(failed("read a flushed key"))
    }

    pub(super) fn write(&self, batch: Batch) -> Result<(), StoreError> {
        self.inner.db.write_opt(batch.0, &write_options()).map_err(failed("write a batch"))
    }

    /// Makes everything written so far durable.
    pub(super) fn flush(&self) -> Result<(), StoreError> {
        self.inner.db.flush().map_err(failed("flush"))
    }

    /// Starts to make everything written so far durable, and does not wait for it.
    pub(super) fn start_flush(&self) -> Result<(), StoreError> {
        let mut options = FlushOptions::default();
        options.set_wait(false);
        self.inner.db.flush_opt(&options).map_err(failed("start a flush"))
    }

    /// Rewrites everything into as few files as possible, and waits for it.
    pub(super) fn compact(&self) {
        self.inner.db.compact_range(None::<&[u8]>, None::<&[u8]>);
    }

    /// Waits until no flush or compaction runs.
    #[cfg(test)]
    pub(super) fn wait_for_background_work(&self) -> Result<(), StoreError> {
        let options = rocksdb::WaitForCompactOptions::default();
        self.inner.db.wait_for_compact(&options).map_err(failed("wait for compactions"))
    }

    /// Stops flushes and compactions; reads still work.
    pub(super) fn stop_background_work(&self) {
        self.inner.db.cancel_all_background_work(true);
    }

    /// A number that RocksDB keeps about itself, 0 where it does not know.
    pub(super) fn property(&self, name: &str) -> u64 {
        self.inner.db.property_int_value(name).ok().flatten().unwrap_or(0)
    }

    pub(super) fn cache_used_bytes(&self) -> u64 {
        self.inner.cache.get_usage() as u64
    }

    pub(super) fn snapshot(&self) -> Snapshot {
        // SAFETY: `Owned` keeps the database beside the guard and drops the guard first.
        let inner = unsafe { self.forever() };
        let inner = Owned { borrower: inner.db.snapshot(), _owner: self.clone() };
        Snapshot { inner: Arc::new(inner), db: self.clone() }
    }

    /// Walks `lower..upper` of the state of now.
    pub(super) fn cursor(
        &self,
        lower: &[u8],
        upper: &[u8],
        access: Access,
    ) -> Result<Cursor, StoreError> {
        self.cursor_with(read_options(lower, upper, access), None)
    }

    fn cursor_with(
        &self,
        options: ReadOptions,
        snapshot: Option<Snapshot>,
    ) -> Result<Cursor, StoreError> {
        // SAFETY: `Owned` keeps the database beside the guard and drops the guard first.
        let inner = unsafe { self.forever() };
        let mut iterator = inner.db.raw_iterator_opt(options);
        iterator.seek_to_first();
        let cursor = Cursor {
            inner: Owned { borrower: iterator, _owner: self.clone() },
            _snapshot: snapshot,
        };
        cursor.check()?;
        Ok(cursor)
    }

    /// Takes files over, all or none; they are gone from where they were.
    pub(super) fn ingest(&self, files: Vec<PathBuf>) -> Result<(), StoreError> {
        let mut options = IngestExternalFileOptions::default();
        options.set_move_files(true);
        options.set_snapshot_consistency(true);
        self.inner.db.ingest_external_file_opts(&options, files).map_err(failed("ingest files"))
    }

    /// Starts a file that [`Db::ingest`] can take over.
    pub(super) fn sorted_file(&self, path: &Path) -> Result<SortedFile, StoreError> {
        // SAFETY: `Owned` keeps the database, and with it the options, beside the writer.
        let inner = unsafe { self.forever() };
        let writer = SstFileWriter::create(&inner.options);
        writer.open(path).map_err(failed("start a sorted file"))?;
        Ok(SortedFile { inner: Owned { borrower: writer, _owner: self.clone() } })
    }

    /// # Safety
    /// The caller must keep a clone of `self` for as long as the reference is used.
    unsafe fn forever(&self) -> &'static Inner {
        // SAFETY: the pointer is valid while any clone of the `Arc` lives.
        unsafe { &*Arc::as_ptr(&self.inner) }
    }
}

/// A guard that borrows from the database, and the database that keeps it valid. The order of the
/// fields is the order of their drops, and it matters.
struct Owned<T> {
    borrower: T,
    _owner: Db,
}

/// The database as it was at one moment. Cheap to clone; RocksDB keeps old values while it lives.
#[derive(Clone)]
pub(super) struct Snapshot {
    inner: Arc<Owned<rocksdb::Snapshot<'static>>>,
    db: Db,
}

impl Snapshot {
    /// Another one, of this moment.
    pub(super) fn of_now(&self) -> Snapshot {
        self.db.snapshot()
    }

    pub(super) fn get<T>(
        &self,
        key: &[u8],
        read: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>, StoreError> {
        let found = self.inner.borrower.get_pinned(key).map_err(failed("read a key"))?;
        Ok(found.map(|value| read(&value)))
    }

    /// Walks `lower..upper` of this moment.
    pub(super) fn cursor(
        &self,
        lower: &[u8],
        upper: &[u8],
        access: Access,
    ) -> Result<Cursor, StoreError> {
        let mut options = read_options(lower, upper, access);
        options.set_snapshot(&self.inner.borrower);
        self.db.cursor_with(options, Some(self.clone()))
    }
}

/// A place in the key space, between two bounds.
pub(super) struct Cursor {
    inner: Owned<DBRawIterator<'static>>,
    // After the iterator, which reads through it.
    _snapshot: Option<Snapshot>,
}

impl Cursor {
    /// The entry here; `None` behind the last.
    pub(super) fn entry(&self) -> Option<KeyValue<'_>> {
        self.inner.borrower.item()
    }

    /// Goes to the next entry.
    pub(super) fn advance(&mut self) -> Result<(), StoreError> {
        self.inner.borrower.next();
        self.check()
    }

    /// Goes to the first entry at or behind `key`.
    pub(super) fn seek(&mut self, key: &[u8]) -> Result<(), StoreError> {
        self.inner.borrower.seek(key);
        self.check()
    }

    /// Goes to the last entry.
    pub(super) fn seek_to_last(&mut self) -> Result<(), StoreError> {
        self.inner.borrower.seek_to_last();
        self.check()
    }

    // An iterator that met a bad block looks like one at its end: without this, a damaged file
    // would be read as an empty one.
    fn check(&self) -> Result<(), StoreError> {
        match self.inner.borrower.valid() {
            true => Ok(()),
            false => self.inner.borrower.status().map_err(failed("walk keys")),
        }
    }
}

/// Changes that become visible together and survive a crash together or not at all.
#[derive(Default)]
pub(super) struct Batch(WriteBatch);

impl Batch {
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) {
        self.0.put(key, value);
    }

    pub(super) fn delete(&mut self, key: &[u8]) {
        self.0.delete(key);
    }

    /// Deletes `lower..upper`.
    pub(super) fn delete_range(&mut self, lower: &[u8], upper: &[u8]) {
        self.0.delete_range(lower, upper);
    }

    pub(super) fn bytes(&self) -> usize {
        self.0.size_in_bytes()
    }
}

/// A file of ascending keys, not yet part of the database.
pub(super) struct SortedFile {
    inner: Owned<SstFileWriter<'static>>,
}

impl SortedFile {
    /// Adds an entry behind all others.
    pub(super) fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        self.inner.borrower.put(key, value).map_err(failed("write a sorted file"))
    }

    /// Says that the file replaces all of `lower..upper`; its own entries stay.
    pub(super) fn replace(&mut self, lower: &[u8], upper: &[u8]) -> Result<(), StoreError> {
        self.inner.borrower.delete_range(lower, upper).map_err(failed("write a sorted file"))
    }

    /// Bytes written so far.
    pub(super) fn bytes(&self) -> u64 {
        self.inner.borrower.file_size()
    }

    /// Ends the file and makes it durable.
    pub(super) fn finish(mut self) -> Result<(), StoreError> {
        self.inner.borrower.finish().map_err(failed("finish a sorted file"))
    }
}

fn options(config: &StoreConfig, cache: &Cache) -> Options {
    let mut table = BlockBasedOptions::default();
    table.set_block_cache(cache);
    table.set_block_size(BLOCK_BYTES);
    table.set_bloom_filter(BLOOM_BITS_PER_KEY, false);
    table.set_whole_key_filtering(true);
    table.set_cache_index_and_filter_blocks(true);
    table.set_cache_index_and_filter_blocks_with_high_priority(true);
    table.set_pin_l0_filter_and_index_blocks_in_cache(true);

    // Whoever closes a store flushes it, and may wait for that; the destructor of one that was
    // given up must not: the log has everything. There is no function for this option.
    let mut options = Options::default()
        .get_options_from_string("avoid_flush_during_shutdown=true")
        .expect("an option that RocksDB knows");
    options.create_if_missing(true);
    options.set_block_based_table_factory(&table);
    // Frames are compressed at the edge, and the rest is small.
    options.set_compression_type(DBCompressionType::None);
    options.set_bottommost_compression_type(DBCompressionType::None);
    options.set_paranoid_checks(true);
    options.set_enable_pipelined_write(false);
    options.set_unordered_write(false);

    let manager = WriteBufferManager::new_write_buffer_manager_with_cache(
        config.memtable_bytes,
        false,
        cache.clone(),
    );
    options.set_write_buffer_manager(&manager);
    options.set_write_buffer_size((config.memtable_bytes / MEMTABLES).min(MEMTABLE_BYTES_MAX));
    options.set_max_write_buffer_number(MEMTABLES as i32);
    // New ids are looked up before they are written: most lookups of a load find nothing.
    options.set_memtable_whole_key_filtering(true);
    options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);

    options.set_level_compaction_dynamic_level_bytes(true);
    options.set_target_file_size_base(FILE_BYTES);
    options.set_max_background_jobs(i32::from(config.background_jobs_max));
    options.set_bytes_per_sync(BYTES_PER_SYNC);
    options.set_max_open_files(i32::from(config.open_files_max));
    // A reader that ends must not pay for the deletion of old files.
    options.set_avoid_unnecessary_blocking_io(true);
    if config.simulated_flushes.is_some() {
        options.set_disable_auto_compactions(true);
    }
    options.set_max_log_file_size(INFO_LOG_BYTES_MAX);
    options.set_keep_log_file_num(INFO_LOG_FILES_MAX);
    options
}

fn read_options(lower: &[u8], upper: &[u8], access: Access) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(lower);
    options.set_iterate_upper_bound(upper);
    options.set_verify_checksums(true);
    match access {
        // Trims RocksDB's own readahead at the upper bound.
        Access::Serve => options.set_auto_readahead_size(true),
        Access::Bulk => {
            options.fill_cache(false);
            options.set_readahead_size(BULK_READAHEAD_BYTES);
        }
    }
    options
}

fn write_options() -> WriteOptions {
    let mut options = WriteOptions::default();
    options.disable_wal(true);
    options
}
