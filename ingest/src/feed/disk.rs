//! The feed's log on disk: numbered segments, appended by one thread, read by many.
//!
//! A segment is removed when no copy in it is left and it is the oldest: deletes stand behind the
//! messages they delete, so removing from the front never brings a message back. The queues'
//! records are repeated at the head of every segment for the same reason.

use std::collections::BTreeMap;
use std::fs::{self, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use bytes::{Bytes, BytesMut};

use super::record::{self, Key, Location, Message, RECORD_HEAD_BYTES, Record, SEGMENT_HEAD_BYTES};
use super::recovery::{self, Scan};
use super::store::{Recovered, StoreError};

/// Size at which a segment is closed, in bytes.
pub(super) const SEGMENT_BYTES: u32 = 64 << 20;
const _: () = assert!(SEGMENT_BYTES as usize > record::PAYLOAD_BYTES_MAX);
/// First read of a record, in bytes: most messages fit.
const READ_BYTES: usize = 16 << 10;

/// The write side.
#[derive(Debug)]
pub(super) struct Disk {
    segments: Arc<Segments>,
    active: Arc<File>,
    number: u32,
    /// Size at which the active segment is closed.
    segment_bytes: u32,
    /// Bytes of the active segment that are written.
    written: u32,
    /// What is not written yet.
    buffer: Vec<u8>,
    /// Copies of each segment that are not deleted.
    live: BTreeMap<u32, u64>,
    /// The current record of each queue.
    queues: BTreeMap<u32, Record>,
    /// Held for as long as the directory is ours.
    _lock: File,
}

/// The read side: all open segments.
#[derive(Debug)]
pub(super) struct Segments {
    dir: PathBuf,
    files: RwLock<BTreeMap<u32, Arc<File>>>,
}

impl Disk {
    /// Opens the log in `dir`, or makes one. Gives also what is still to be delivered, and what
    /// was accepted after the message `last_journaled`.
    pub(super) fn try_open(
        dir: &Path,
        last_journaled: Option<u128>,
        segment_bytes: u32,
    ) -> Result<(Disk, (Recovered, Vec<Location>)), StoreError> {
        fs::create_dir_all(dir).map_err(StoreError::io("make", dir))?;
        let lock = lock(dir)?;
        let scan = recovery::scan(dir, last_journaled)?;
        let mut files = BTreeMap::new();
        for number in &scan.segments {
            let path = segment_path(dir, *number);
            let options = File::options().read(true).append(true).open(&path);
            files.insert(*number, Arc::new(options.map_err(StoreError::io("open", &path))?));
        }
        let segments = Arc::new(Segments { dir: dir.to_owned(), files: RwLock::new(files) });
        let Scan { recovered, unjournaled, live, queues, last, .. } = scan;
        let (number, written, active) = match last.and_then(|(n, _)| segments.file(n)) {
            Some(file) => last.map(|(number, written)| (number, written, file)),
            None => None,
        }
        .map_or_else(|| segments.create(1), Ok)?;
        let mut disk = Disk {
            segments,
            active,
            number,
            segment_bytes,
            written,
            buffer: Vec::new(),
            live,
            queues,
            _lock: lock,
        };
        disk.live.entry(number).or_default();
        disk.remove_dead()?;
        Ok((disk, (recovered, unjournaled)))
    }

    pub(super) fn segments(&self) -> Arc<Segments> {
        Arc::clone(&self.segments)
    }

    /// Takes a record into the round; it is durable after [`Disk::finish_round`].
    pub(super) fn append(&mut self, record: &Record) -> Result<Location, StoreError> {
        if self.written as usize + self.buffer.len() >= self.segment_bytes as usize {
            self.roll()?;
        }
        let location = self.encode(record);
        match record {
            Record::Message(message) => {
                *self.live.entry(self.number).or_default() += u64::from(message.copies);
            }
            Record::Delete { key, back: false } => self.count_delete(*key),
            Record::Delete { back: true, .. } => {}
            Record::Queue { queue, .. } => drop(self.queues.insert(*queue, record.clone())),
            Record::QueueGone { queue } => drop(self.queues.remove(queue)),
        }
        Ok(location)
    }

    /// Writes the round, and makes it durable where somebody waits for that.
    pub(super) fn finish_round(&mut self, must_sync: bool) -> Result<(), StoreError> {
        self.flush()?;
        if must_sync {
            self.sync()?;
        }
        self.remove_dead()
    }

    fn encode(&mut self, record: &Record) -> Location {
        let offset = self.written + self.buffer.len() as u32;
        record::encode(record, &mut self.buffer);
        Location { segment: self.number, offset }
    }

    fn count_delete(&mut self, key: Key) {
        let live = self.live.get_mut(&key.location.segment);
        // Each copy is deleted once: the queue forgets it in the same moment.
        let live = live.expect("a segment with a live copy is never removed");
        *live = live.checked_sub(1).expect("a copy is counted before it is deleted");
    }

    fn flush(&mut self) -> Result<(), StoreError> {
        let path = || segment_path(&self.segments.dir, self.number);
        (&*self.active).write_all(&self.buffer).map_err(|e| StoreError::io("write", &path())(e))?;
        self.written += self.buffer.len() as u32;
        self.buffer.clear();
        Ok(())
    }

    fn sync(&self) -> Result<(), StoreError> {
        let path = || segment_path(&self.segments.dir, self.number);
        self.active.sync_data().map_err(|e| StoreError::io("sync", &path())(e))
    }

    fn roll(&mut self) -> Result<(), StoreError> {
        self.flush()?;
        // Whatever the next segment says must not outlive what stands here.
        self.sync()?;
        let (number, written, active) = self.segments.create(self.number + 1)?;
        (self.number, self.written, self.active) = (number, written, active);
        self.live.insert(number, 0);
        for record in self.queues.clone().values() {
            self.encode(record);
        }
        Ok(())
    }

    fn remove_dead(&mut self) -> Result<(), StoreError> {
        while let Some((oldest, 0)) = self.live.first_key_value().map(|(n, live)| (*n, *live)) {
            if oldest == self.number {
                break;
            }
            self.segments.remove(oldest)?;
            self.live.remove(&oldest);
        }
        Ok(())
    }
}

impl Segments {
    /// The message at `location`; `None` where its segment is gone.
    pub(super) fn read(&self, location: Location) -> Result<Option<Message>, StoreError> {
        let Some(file) = self.file(location.segment) else { return Ok(None) };
        let path = || segment_path(&self.dir, location.segment);
        let damaged = |reason: String| StoreError::Damaged {
            path: path(),
            offset: u64::from(location.offset),
            reason,
        };
        let fail = |e| StoreError::io("read", &path())(e);
        let mut bytes = BytesMut::zeroed(READ_BYTES);
        let got = read_at(&file, &mut bytes, u64::from(location.offset)).map_err(fail)?;
        bytes.truncate(got);
        let len = record::payload_len(&bytes).map_err(|e| damaged(e.to_string()))?;
        let whole = RECORD_HEAD_BYTES + len;
        if whole > bytes.len() && got == READ_BYTES {
            bytes.resize(whole, 0);
            let rest = u64::from(location.offset) + got as u64;
            file.read_exact_at(&mut bytes[got..], rest).map_err(fail)?;
        }
        match record::decode(&Bytes::from(bytes)) {
            Ok((Record::Message(message), _)) => Ok(Some(message)),
            Ok(_) => Err(damaged("not a message".to_string())),
            Err(error) => Err(damaged(error.to_string())),
        }
    }

    fn file(&self, number: u32) -> Option<Arc<File>> {
        let files = self.files.read().unwrap_or_else(PoisonError::into_inner);
        files.get(&number).map(Arc::clone)
    }

    /// Makes a segment whose head and name are durable before anything is put into it.
    fn create(&self, number: u32) -> Result<(u32, u32, Arc<File>), StoreError> {
        let path = segment_path(&self.dir, number);
        let mut file = File::options()
            .read(true)
            .append(true)
            .create_new(true)
            .open(&path)
            .map_err(StoreError::io("make", &path))?;
        file.write_all(&record::segment_head(number))
            .and_then(|()| file.sync_all())
            .and_then(|()| File::open(&self.dir)?.sync_all())
            .map_err(StoreError::io("sync", &path))?;
        let file = Arc::new(file);
        let mut files = self.files.write().unwrap_or_else(PoisonError::into_inner);
        files.insert(number, Arc::clone(&file));
        Ok((number, SEGMENT_HEAD_BYTES as u32, file))
    }

    fn remove(&self, number: u32) -> Result<(), StoreError> {
        let path = segment_path(&self.dir, number);
        fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
        self.files.write().unwrap_or_else(PoisonError::into_inner).remove(&number);
        Ok(())
    }
}

/// File of segment `number`.
pub(super) fn segment_path(dir: &Path, number: u32) -> PathBuf {
    dir.join(format!("feed-{number:010}.log"))
}

fn lock(dir: &Path) -> Result<File, StoreError> {
    let path = dir.join("lock");
    let file = File::create(&path).map_err(StoreError::io("make", &path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse { path }),
        Err(TryLockError::Error(source)) => Err(StoreError::Io { action: "lock", path, source }),
    }
}

/// Reads until the buffer is full or the file ends.
fn read_at(file: &File, buffer: &mut [u8], offset: u64) -> std::io::Result<usize> {
    let mut got = 0;
    while got < buffer.len() {
        match file.read_at(&mut buffer[got..], offset + got as u64) {
            Ok(0) => break,
            Ok(n) => got += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(got)
}
