//! Installing a snapshot: checked while it arrives, written to sorted files, then taken over by
//! RocksDB in one atomic step. A crash at any point leaves the old state or the new one.
//!
//! Each file replaces its own part of the key space, so the files together erase what was there.
//! The shard's scope, with the applied position in it, is a file of its own: one file that spans
//! the scope and the slots would lie across all other shards and stall their writes.

use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};

use bytes::Bytes;

use super::Position;
use super::db::SortedFile;
use super::key::{self, Key, KeyRange};
use super::node::io;
use super::shard::ShardStore;
use super::stream::{self, Frame, StreamError};
use super::value::state::{State, encode_replica};
use crate::error::StoreError;

/// A file that grew to this is ended, and the next one begun.
const FILE_BYTES_MAX: u64 = 256 << 20;

static NEXT_DIR: AtomicU64 = AtomicU64::new(0);

/// Receives one snapshot. Dropping it leaves the shard as it was.
pub struct Installer {
    shard: ShardStore,
    dir: Dir,
    file_bytes_max: u64,
    buffer: Vec<u8>,
    frames: u64,
    head_seen: bool,
    end_seen: bool,
    entries: u64,
    bytes: u64,
    last_key: Vec<u8>,
    has_state: bool,
    owner_written: bool,
    /// Ranges not yet begun, in order.
    ranges: std::vec::IntoIter<KeyRange>,
    open: Option<OpenFile>,
    done: Vec<PathBuf>,
}

/// The file being written, and the part of the key space that it replaces.
struct OpenFile {
    file: SortedFile,
    path: PathBuf,
    from: Vec<u8>,
    range: KeyRange,
}

impl ShardStore {
    /// Starts to receive a snapshot of this shard.
    pub fn install(&self) -> Result<Installer, StoreError> {
        self.install_in_files_of(FILE_BYTES_MAX)
    }

    pub(super) fn install_in_files_of(&self, file_bytes_max: u64) -> Result<Installer, StoreError> {
        let number = NEXT_DIR.fetch_add(1, Ordering::Relaxed);
        let path = self.inner.shared.incoming.join(format!("{}-{number}", self.inner.shard));
        fs::create_dir_all(&path).map_err(io("create", &path))?;
        Ok(Installer {
            shard: self.clone(),
            dir: Dir { path },
            file_bytes_max,
            buffer: Vec::new(),
            frames: 0,
            head_seen: false,
            end_seen: false,
            entries: 0,
            bytes: 0,
            last_key: Vec::new(),
            has_state: false,
            owner_written: false,
            ranges: key::ranges_of(self.inner.shard, self.inner.slots).into_iter(),
            open: None,
            done: Vec::new(),
        })
    }
}

impl Installer {
    /// Takes the next bytes of the stream, cut anywhere.
    pub fn write(&mut self, chunk: &[u8]) -> Result<(), StoreError> {
        let mut buffer = std::mem::take(&mut self.buffer);
        buffer.extend_from_slice(chunk);
        let mut used = 0;
        while let Some((frame, bytes)) =
            stream::next_frame(&buffer[used..], self.frames).map_err(|e| self.refused(e))?
        {
            self.frame(frame)?;
            self.frames += 1;
            used += bytes;
        }
        buffer.drain(..used);
        self.buffer = buffer;
        Ok(())
    }

    /// Replaces the shard's state by the snapshot: its position and membership. Applying must
    /// have paused.
    pub fn finish(mut self) -> Result<Installed, StoreError> {
        if !self.end_seen || !self.buffer.is_empty() {
            return Err(self.refused(StreamError::Truncated));
        }
        if !self.has_state {
            return Err(self.refused(StreamError::NoState));
        }
        // Ranges without entries are replaced as well: by nothing.
        while self.close_range()? {}
        let files = std::mem::take(&mut self.done);
        let inner = &self.shard.inner;
        inner.write_alone(|| inner.db().ingest(files).and_then(|()| inner.reload()))?;
        inner.shared.totals.installs.fetch_add(1, Ordering::Relaxed);
        let applied = self.shard.applied();
        Ok(Installed { position: applied.position, membership: applied.membership })
    }

    fn frame(&mut self, frame: Frame<'_>) -> Result<(), StoreError> {
        if self.end_seen {
            return Err(self.refused(StreamError::Trailing));
        }
        match frame {
            Frame::Head { shard, slots } => {
                if self.head_seen {
                    return Err(
                        self.refused(StreamError::OutOfPlace { frame: self.frames, kind: 1 })
                    );
                }
                if shard != self.shard.inner.shard || slots != self.shard.inner.slots {
                    return Err(self.refused(StreamError::WrongShard { found: shard }));
                }
                self.head_seen = true;
            }
            Frame::Entries(payload) => {
                if !self.head_seen {
                    return Err(
                        self.refused(StreamError::OutOfPlace { frame: self.frames, kind: 2 })
                    );
                }
                for entry in stream::entries(payload) {
                    let frame = self.frames;
                    let (key, value) = entry
                        .map_err(|source| self.refused(StreamError::Malformed { frame, source }))?;
                    self.entry(key, value)?;
                }
            }
            Frame::End { entries, bytes } => {
                if entries != self.entries || bytes != self.bytes {
                    let found = self.entries;
                    return Err(self.refused(StreamError::Totals { found, said: entries }));
                }
                self.end_seen = true;
            }
        }
        Ok(())
    }

    fn entry(&mut self, bytes: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let wrong = StreamError::Key { entry: self.entries };
        let key = match Key::decode(bytes) {
            Ok(key) if !key.is_local() && bytes > self.last_key.as_slice() => key,
            Ok(_) | Err(_) => return Err(self.refused(wrong)),
        };
        if let Key::State(_) = key {
            State::decode(value).map_err(|source| key.corrupt(source))?;
            self.has_state = true;
        }
        self.put(bytes, value)?;
        self.last_key.clear();
        self.last_key.extend_from_slice(bytes);
        self.entries += 1;
        self.bytes += (bytes.len() + value.len()) as u64;
        Ok(())
    }

    fn put(&mut self, bytes: &[u8], value: &[u8]) -> Result<(), StoreError> {
        while self.open.as_ref().is_none_or(|open| !open.range.contains(bytes)) {
            let behind = self.open.as_ref().is_none_or(|open| open.range.upper.as_slice() <= bytes);
            if !behind || !self.next_range()? {
                return Err(self.refused(StreamError::Key { entry: self.entries }));
            }
        }
        self.split_before(bytes)?;
        self.write_owner(Some(bytes))?;
        match &mut self.open {
            Some(open) => open.file.put(bytes, value),
            None => Err(self.refused(StreamError::Key { entry: self.entries })),
        }
    }

    /// Ends the open range and begins the next one; `false` if there is none.
    fn next_range(&mut self) -> Result<bool, StoreError> {
        self.close_open()?;
        let Some(range) = self.ranges.next() else { return Ok(false) };
        self.begin(range.lower.clone(), range)?;
        Ok(true)
    }

    /// As [`Installer::next_range`], for what is left at the end.
    fn close_range(&mut self) -> Result<bool, StoreError> {
        match self.open.is_some() {
            true => self.close_open().map(|()| true),
            false => self.next_range(),
        }
    }

    /// Ends a file that has grown large enough at the key to be written next.
    fn split_before(&mut self, bytes: &[u8]) -> Result<(), StoreError> {
        match self.open.take_if(|open| open.file.bytes() >= self.file_bytes_max) {
            Some(open) => {
                let range = open.range.clone();
                self.end(open, bytes)?;
                self.begin(bytes.to_vec(), range)
            }
            None => Ok(()),
        }
    }

    fn begin(&mut self, from: Vec<u8>, range: KeyRange) -> Result<(), StoreError> {
        let path = self.dir.path.join(format!("{:06}.sst", self.done.len()));
        let file = self.shard.inner.db().sorted_file(&path)?;
        self.open = Some(OpenFile { file, path, from, range });
        Ok(())
    }

    fn close_open(&mut self) -> Result<(), StoreError> {
        if self.open.is_some() {
            self.write_owner(None)?;
        }
        match self.open.take() {
            Some(open) => {
                let upper = open.range.upper.clone();
                self.end(open, &upper)
            }
            None => Ok(()),
        }
    }

    fn end(&mut self, mut open: OpenFile, until: &[u8]) -> Result<(), StoreError> {
        open.file.replace(&open.from, until)?;
        open.file.finish()?;
        self.done.push(open.path);
        Ok(())
    }

    /// The owner is not part of the stream, and is erased with the shard's scope: it is written
    /// again at its place among the keys.
    fn write_owner(&mut self, next: Option<&[u8]>) -> Result<(), StoreError> {
        let owner = Key::Replica(self.shard.inner.shard).encode();
        let Some(open) = &mut self.open else { return Ok(()) };
        let due = !self.owner_written && next.is_none_or(|next| owner.as_slice() < next);
        if due && open.range.contains(&owner) {
            open.file.put(&owner, &encode_replica(self.shard.inner.replica))?;
            self.owner_written = true;
        }
        Ok(())
    }

    fn refused(&self, source: StreamError) -> StoreError {
        StoreError::Snapshot { shard: self.shard.inner.shard, source }
    }
}

/// What was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Installed {
    /// The last applied entry.
    pub position: Option<Position>,
    /// The last membership entry, with its place in the log.
    pub membership: Option<(Option<Position>, Bytes)>,
}

/// A directory that goes when it is dropped.
struct Dir {
    path: PathBuf,
}

impl Drop for Dir {
    fn drop(&mut self) {
        if let Err(e) = fs::remove_dir_all(&self.path) {
            // Whatever stays is cleared when the store is opened next.
            tracing::warn!(path = %self.path.display(), error = %e, "cannot remove directory");
        }
    }
}
