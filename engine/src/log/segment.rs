//! The segments on disk, and the one that is being written.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};

use super::error::LogError;
use super::event::SegmentEvents;
use super::files::{File, Files};
use super::layout::{self, ROUND_HEADER};

/// Sealed segments kept open for reading.
const OPEN_FILES_MAX: usize = 64;

const SUFFIX: &str = ".log";
const DIGITS: usize = 10;

/// The name of a segment's file.
pub(crate) fn name(number: u32) -> String {
    format!("{number:0DIGITS$}{SUFFIX}")
}

/// The segment whose file has this name, if it is one.
pub(crate) fn parse_name(name: &str) -> Option<u32> {
    let digits = name.strip_suffix(SUFFIX)?;
    let is_number = digits.len() == DIGITS && digits.bytes().all(|b| b.is_ascii_digit());
    if is_number { digits.parse().ok().filter(|number| *number > 0) } else { None }
}

/// All segments of the log, for reading and removal.
pub(crate) struct Segments {
    files: Arc<dyn Files>,
    table: Mutex<BTreeMap<u32, Segment>>,
}

struct Segment {
    bytes: u64,
    file: Option<Arc<dyn File>>,
}

impl Segments {
    pub(crate) fn new(files: Arc<dyn Files>) -> Segments {
        Segments { files, table: Mutex::new(BTreeMap::new()) }
    }

    pub(crate) fn files(&self) -> &Arc<dyn Files> {
        &self.files
    }

    fn table(&self) -> MutexGuard<'_, BTreeMap<u32, Segment>> {
        self.table.lock().expect("no holder of the segments panics")
    }

    /// Adds a segment, or tells its new size.
    pub(crate) fn add(&self, number: u32, bytes: u64, file: Option<Arc<dyn File>>) {
        self.table().insert(number, Segment { bytes, file });
    }

    /// Numbers and sizes in bytes, oldest first.
    pub(crate) fn sizes(&self) -> Vec<(u32, u64)> {
        self.table().iter().map(|(number, segment)| (*number, segment.bytes)).collect()
    }

    /// The segment's file, opened if need be.
    pub(crate) fn file(&self, number: u32) -> Result<Arc<dyn File>, LogError> {
        let mut table = self.table();
        let segment = table.get_mut(&number).ok_or(LogError::MissingSegment { segment: number })?;
        if let Some(file) = &segment.file {
            return Ok(file.clone());
        }
        let name = name(number);
        let file = self.files.open(&name).map_err(|e| LogError::io("open", &name, e))?;
        segment.file = Some(file.clone());
        // The oldest are read least.
        if table.values().filter(|segment| segment.file.is_some()).count() > OPEN_FILES_MAX {
            let oldest = table.iter_mut().find(|(n, s)| **n != number && s.file.is_some());
            if let Some((_, segment)) = oldest {
                segment.file = None;
            }
        }
        Ok(file)
    }

    /// Removes the oldest segment for good. Synced before it returns: were a newer one gone after
    /// a crash but not an older one, the log would have a gap.
    pub(crate) fn remove(&self, number: u32) -> Result<(), LogError> {
        self.table().remove(&number);
        let name = name(number);
        self.files.remove(&name).map_err(|e| LogError::io("remove", &name, e))?;
        self.files.sync_dir().map_err(|e| LogError::io("sync the directory of", &name, e))
    }
}

/// The segment that is being written.
pub(crate) struct OpenSegment {
    pub(crate) number: u32,
    pub(crate) file: Arc<dyn File>,
    /// Where the next round goes.
    pub(crate) end: usize,
    /// Bytes reserved on disk.
    pub(crate) capacity: usize,
    pub(crate) events: SegmentEvents,
    pub(crate) seed: u32,
}

impl OpenSegment {
    pub(crate) fn new(
        number: u32,
        file: Arc<dyn File>,
        capacity: usize,
        identity: u64,
    ) -> OpenSegment {
        let seed = layout::seed(identity, number);
        OpenSegment { number, file, end: 0, capacity, events: SegmentEvents::default(), seed }
    }

    /// Bytes that the segment will have when a round with this body is written, and then a footer
    /// that has grown by this much.
    pub(crate) fn bytes_with(&self, body: usize, footer: usize) -> usize {
        let round = layout::whole_blocks(ROUND_HEADER + body);
        self.end + round + layout::whole_blocks(ROUND_HEADER + self.events.bytes() + footer)
    }
}
