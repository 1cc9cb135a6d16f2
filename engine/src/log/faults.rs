//! Files in memory that behave as badly as real disks may, from a seed.
//!
//! What was not synced may be lost at a power loss, block by block; names that were not synced may
//! vanish or come back. Syncs can fail, be slow or lie; reads and writes can fail; space can end.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use platbook_protocol::TimeMs;

use super::files::{File, Files};

/// Blocks are written whole or not at all.
const BLOCK: usize = 512;

/// Faults to come; all off by default.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Faults {
    /// Syncs until one fails, 0 being the next; that one loses what it should have synced.
    pub sync_fails_in: Option<u64>,
    /// Syncs tell success and do nothing.
    pub syncs_lie: bool,
    /// How long each sync of the log takes; [`Duration::MAX`]: for ever.
    pub sync_delay: Duration,
    /// Writes until one fails.
    pub write_fails_in: Option<u64>,
    /// Changes (writes, syncs, creations, removals, allocations) until the disk stops, as before
    /// a power loss: the last one may reach it, nothing later does.
    pub stops_in: Option<u64>,
    /// Reads fail.
    pub reads_fail: bool,
    /// Bytes that all files may have together.
    pub bytes_max: Option<u64>,
}

/// What was asked of the disk so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FileCounts {
    /// Calls to write.
    pub writes: u64,
    /// Calls to sync a file.
    pub syncs: u64,
    /// Bytes read.
    pub bytes_read: u64,
}

#[derive(Clone, Default)]
struct Content {
    /// As a reader sees it.
    seen: Vec<u8>,
    /// As a power loss leaves it, if nothing else is lucky.
    durable: Vec<u8>,
    /// Blocks that differ since the last sync.
    dirty: BTreeSet<usize>,
    /// When it was last written.
    written: TimeMs,
}

#[derive(Clone, Default)]
struct Disk {
    files: BTreeMap<u64, Content>,
    names: BTreeMap<String, u64>,
    durable_names: BTreeMap<String, u64>,
    next_file: u64,
    /// Counts power losses: handles from before one are dead.
    life: u64,
    faults: Faults,
    stopped: bool,
    counts: FileCounts,
    now: TimeMs,
}

/// A directory in memory. Clones share it.
#[derive(Clone, Default)]
pub struct FaultyFiles {
    disk: Arc<Mutex<Disk>>,
    life: u64,
}

/// A small generator (SplitMix64): the same seed gives the same faults.
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// True in `parts` of 256 cases.
    fn is_lucky(&mut self, parts: u64) -> bool {
        self.next() & 255 < parts
    }
}

impl FaultyFiles {
    /// An empty directory without faults.
    pub fn new() -> FaultyFiles {
        FaultyFiles::default()
    }

    fn disk(&self) -> MutexGuard<'_, Disk> {
        self.disk.lock().expect("no holder of the disk panics")
    }

    /// The disk, unless it lost power since this handle was made.
    fn live(&self) -> io::Result<MutexGuard<'_, Disk>> {
        let disk = self.disk();
        if disk.life == self.life { Ok(disk) } else { Err(io::Error::other("the power was lost")) }
    }

    /// The disk for a change; an error tells the change to happen, or not, but to fail.
    fn change(&self) -> io::Result<(MutexGuard<'_, Disk>, bool)> {
        let mut disk = self.live()?;
        if disk.stopped {
            return Err(io::Error::other("injected: the disk stopped"));
        }
        disk.stopped = counts_down(&mut disk.faults.stops_in);
        let stops = disk.stopped;
        Ok((disk, stops))
    }

    /// Sets the faults to come.
    pub fn set_faults(&self, faults: Faults) {
        self.disk().faults = faults;
    }

    /// Sets the disk's clock, which stands still otherwise.
    pub fn set_time(&self, now: TimeMs) {
        self.disk().now = now;
    }

    /// What was asked so far.
    pub fn counts(&self) -> FileCounts {
        self.disk().counts
    }

    /// The power goes and comes back: unsynced blocks survive or not, by `seed`. Older handles are
    /// dead; the directory goes on in the one returned, without faults.
    pub fn lose_power(&self, seed: u64) -> FaultyFiles {
        let mut dice = Dice(seed);
        // Now and then nothing or everything survives: both ends of the range.
        let parts = [0, 64, 128, 192, 256][(dice.next() % 5) as usize];
        self.lose(dice, parts)
    }

    /// Of what is unsynced, so many in 256 survive.
    fn lose(&self, mut dice: Dice, parts: u64) -> FaultyFiles {
        let mut disk = self.disk();
        disk.life += 1;
        disk.faults = Faults::default();
        disk.stopped = false;
        disk.lose_names(&mut dice, parts);
        for content in disk.files.values_mut() {
            content.lose_blocks(&mut dice, parts);
        }
        FaultyFiles { disk: self.disk.clone(), life: disk.life }
    }

    /// A copy of the directory as a power loss now would leave it.
    pub fn fork_at_power_loss(&self, seed: u64) -> FaultyFiles {
        self.copy().lose_power(seed)
    }

    fn copy(&self) -> FaultyFiles {
        let disk = self.disk();
        FaultyFiles { disk: Arc::new(Mutex::new(disk.clone())), life: disk.life }
    }

    /// The same, where nothing survives that was not synced.
    pub fn fork_at_worst_power_loss(&self) -> FaultyFiles {
        self.copy().lose(Dice(0), 0)
    }

    /// A copy of the directory as readers see it now, for another future.
    pub fn fork(&self) -> FaultyFiles {
        let disk = self.disk();
        let files = disk.names.iter().map(|(name, id)| (name.clone(), disk.files[id].seen.clone()));
        let copy = FaultyFiles::new();
        for (name, bytes) in files.collect::<Vec<_>>() {
            copy.put(&name, bytes);
        }
        copy
    }

    /// The bytes of a file as readers see them.
    pub fn bytes(&self, name: &str) -> Option<Vec<u8>> {
        let disk = self.disk();
        disk.names.get(name).map(|id| disk.files[id].seen.clone())
    }

    /// Puts a file there, durably: damage on purpose.
    pub fn put(&self, name: &str, bytes: Vec<u8>) {
        let mut disk = self.disk();
        let id = disk.name(name);
        disk.durable_names.insert(name.to_owned(), id);
        let written = disk.now;
        let content =
            Content { durable: bytes.clone(), seen: bytes, dirty: BTreeSet::new(), written };
        disk.files.insert(id, content);
    }
}

impl Disk {
    fn name(&mut self, name: &str) -> u64 {
        let id = self.next_file;
        self.next_file += 1;
        self.names.insert(name.to_owned(), id);
        self.files.insert(id, Content::default());
        id
    }

    fn lose_names(&mut self, dice: &mut Dice, parts: u64) {
        let changed: BTreeSet<String> = self
            .names
            .keys()
            .chain(self.durable_names.keys())
            .filter(|name| self.names.get(*name) != self.durable_names.get(*name))
            .cloned()
            .collect();
        for name in changed {
            if dice.is_lucky(parts) {
                continue;
            }
            match self.durable_names.get(&name) {
                Some(id) => self.names.insert(name, *id),
                None => self.names.remove(&name),
            };
        }
        self.durable_names = self.names.clone();
        let kept: BTreeSet<u64> = self.names.values().copied().collect();
        self.files.retain(|id, _| kept.contains(id));
    }

    /// Whether files may grow by `bytes` in all.
    fn check_space(&self, bytes: u64) -> io::Result<()> {
        let Some(max) = self.faults.bytes_max else { return Ok(()) };
        let used: u64 = self.names.values().map(|id| self.files[id].seen.len() as u64).sum();
        if used + bytes > max { Err(io::ErrorKind::StorageFull.into()) } else { Ok(()) }
    }
}

fn unless_stopped(stops: bool) -> io::Result<()> {
    if stops { Err(io::Error::other("injected: the disk stopped")) } else { Ok(()) }
}

fn counts_down(counter: &mut Option<u64>) -> bool {
    match counter {
        Some(0) => {
            *counter = None;
            true
        }
        Some(left) => {
            *left -= 1;
            false
        }
        None => false,
    }
}

impl Content {
    fn write(&mut self, offset: usize, bytes: &[u8]) {
        let end = offset + bytes.len();
        if self.seen.len() < end {
            self.seen.resize(end, 0);
        }
        self.seen[offset..end].copy_from_slice(bytes);
        self.dirty.extend(offset / BLOCK..end.div_ceil(BLOCK));
    }

    fn sync(&mut self) {
        self.durable.resize(self.seen.len(), 0);
        for block in std::mem::take(&mut self.dirty) {
            let end = ((block + 1) * BLOCK).min(self.seen.len());
            self.durable[block * BLOCK..end].copy_from_slice(&self.seen[block * BLOCK..end]);
        }
    }

    fn lose_blocks(&mut self, dice: &mut Dice, parts: u64) {
        let lucky: BTreeSet<usize> =
            std::mem::take(&mut self.dirty).into_iter().filter(|_| dice.is_lucky(parts)).collect();
        // The length is written with any block that needs it, or by luck.
        let needed = lucky.last().map_or(0, |block| (block + 1) * BLOCK);
        if self.durable.len() < self.seen.len() {
            let length = if dice.is_lucky(parts) { self.seen.len() } else { needed };
            self.durable.resize(length.clamp(self.durable.len(), self.seen.len()), 0);
        }
        self.dirty = lucky;
        let seen = self.seen.len().min(self.durable.len());
        self.seen.truncate(seen);
        self.sync();
        self.seen = self.durable.clone();
    }
}

impl Files for FaultyFiles {
    fn create(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let (mut disk, stops) = self.change()?;
        let file = disk.name(name);
        unless_stopped(stops)?;
        Ok(Arc::new(FaultyFile { files: self.clone(), file }))
    }

    fn open(&self, name: &str) -> io::Result<Arc<dyn File>> {
        let disk = self.live()?;
        let file = *disk.names.get(name).ok_or(io::ErrorKind::NotFound)?;
        Ok(Arc::new(FaultyFile { files: self.clone(), file }))
    }

    fn list(&self) -> io::Result<Vec<String>> {
        Ok(self.live()?.names.keys().cloned().collect())
    }

    fn remove(&self, name: &str) -> io::Result<()> {
        let (mut disk, stops) = self.change()?;
        disk.names.remove(name).ok_or(io::ErrorKind::NotFound)?;
        unless_stopped(stops)
    }

    fn sync_dir(&self) -> io::Result<()> {
        let (mut disk, stops) = self.change()?;
        unless_stopped(stops)?;
        if !disk.faults.syncs_lie {
            disk.durable_names = disk.names.clone();
        }
        Ok(())
    }
}

struct FaultyFile {
    files: FaultyFiles,
    file: u64,
}

fn size(value: u64) -> io::Result<usize> {
    usize::try_from(value).map_err(|_| io::ErrorKind::InvalidInput.into())
}

impl FaultyFile {
    fn with<T>(&self, run: impl FnOnce(&mut Content) -> T) -> io::Result<T> {
        let mut disk = self.files.live()?;
        Ok(run(disk.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?))
    }
}

impl File for FaultyFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let (mut disk, stops) = self.files.change()?;
        disk.counts.writes += 1;
        if counts_down(&mut disk.faults.write_fails_in) {
            return Err(io::Error::other("injected: write failed"));
        }
        let length = disk.files.get(&self.file).map_or(0, |content| content.seen.len() as u64);
        disk.check_space((offset + bytes.len() as u64).saturating_sub(length))?;
        let now = disk.now;
        let content = disk.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        content.write(size(offset)?, bytes);
        content.written = now;
        unless_stopped(stops)
    }

    fn read_at(&self, offset: u64, buffer: &mut [u8]) -> io::Result<usize> {
        let mut disk = self.files.live()?;
        if disk.faults.reads_fail {
            return Err(io::Error::other("injected: read failed"));
        }
        let content = disk.files.get(&self.file).ok_or(io::ErrorKind::NotFound)?;
        let rest = content.seen.get(size(offset)?..).unwrap_or_default();
        let filled = rest.len().min(buffer.len());
        buffer[..filled].copy_from_slice(&rest[..filled]);
        disk.counts.bytes_read += filled as u64;
        Ok(filled)
    }

    fn sync_data(&self) -> io::Result<()> {
        let (mut disk, stops) = self.files.change()?;
        unless_stopped(stops)?;
        disk.counts.syncs += 1;
        let fails = counts_down(&mut disk.faults.sync_fails_in);
        let lies = disk.faults.syncs_lie;
        let content = disk.files.get_mut(&self.file).ok_or(io::ErrorKind::NotFound)?;
        if fails {
            // As Linux does it: the pages count as clean, though they never reached the disk.
            content.dirty.clear();
            return Err(io::Error::other("injected: sync failed"));
        }
        if !lies {
            content.sync();
        }
        Ok(())
    }

    fn allocate(&self, bytes: u64) -> io::Result<()> {
        let (disk, stops) = self.files.change()?;
        unless_stopped(stops)?;
        let length = disk.files.get(&self.file).map_or(0, |content| content.seen.len() as u64);
        disk.check_space(bytes.saturating_sub(length))?;
        drop(disk);
        let bytes = size(bytes)?;
        self.with(|content| {
            if content.seen.len() < bytes {
                content.seen.resize(bytes, 0);
            }
        })
    }

    fn bytes(&self) -> io::Result<u64> {
        self.with(|content| content.seen.len() as u64)
    }

    fn written(&self) -> io::Result<TimeMs> {
        self.with(|content| content.written)
    }

    fn sync_delay(&self) -> Duration {
        self.files.disk().faults.sync_delay
    }
}
