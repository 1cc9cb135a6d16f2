//! What a directory holds when a feed starts: every segment is read once, from the oldest.
//!
//! The last segment may end in a round that was being written when the process or the machine
//! stopped; nobody was told that it is accepted, so it is cut off. (Damage inside the last synced
//! round looks the same: a known limit.) Anything wrong before that refuses to start.

use std::collections::{BTreeMap, HashMap};
use std::fs::{self, File};
use std::path::Path;

use bytes::{Buf, Bytes};
use platbook_protocol::TimeMs;
use tracing::warn;

use super::disk::segment_path;
use super::record::{self, Copy, Key, Location, Record, SEGMENT_HEAD_BYTES};
use super::store::{Recovered, RecoveredQueue, StoreError};

/// What was found.
#[derive(Debug, Default)]
pub(super) struct Scan {
    pub(super) recovered: Recovered,
    /// Messages behind the last journaled one, in order of acceptance.
    pub(super) unjournaled: Vec<Location>,
    /// Numbers of the segments.
    pub(super) segments: Vec<u32>,
    /// Copies of each segment that are not deleted.
    pub(super) live: BTreeMap<u32, u64>,
    /// The current record of each queue.
    pub(super) queues: BTreeMap<u32, Record>,
    /// The newest segment and its length.
    pub(super) last: Option<(u32, u32)>,
}

/// A message in a segment; one bit a copy that is not deleted.
#[derive(Debug)]
struct Entry {
    offset: u32,
    queue: u32,
    copies: u8,
}

#[derive(Default)]
struct Replay {
    entries: BTreeMap<u32, Vec<Entry>>,
    delayed: HashMap<Location, TimeMs>,
    queues: BTreeMap<u32, Record>,
    last_journaled: Option<u128>,
    unjournaled: Vec<Location>,
}

/// Reads the directory.
pub(super) fn scan(dir: &Path, last_journaled: Option<u128>) -> Result<Scan, StoreError> {
    let mut segments = list(dir)?;
    let mut replay = Replay { last_journaled, ..Replay::default() };
    let mut last = None;
    for (i, number) in segments.clone().into_iter().enumerate() {
        let is_last = i + 1 == segments.len();
        match replay.segment(dir, number, is_last)? {
            Some(len) => last = Some((number, len)),
            None => drop(segments.pop()),
        }
    }
    Ok(replay.into_scan(segments, last))
}

fn list(dir: &Path) -> Result<Vec<u32>, StoreError> {
    let fail = || StoreError::io("list", dir);
    let mut numbers = Vec::new();
    for entry in fs::read_dir(dir).map_err(fail())? {
        let name = entry.map_err(fail())?.file_name();
        let name = name.to_str().and_then(|n| n.strip_prefix("feed-")?.strip_suffix(".log"));
        numbers.extend(name.and_then(|n| n.parse::<u32>().ok()));
    }
    numbers.sort_unstable();
    if let Some(gap) = numbers.windows(2).find(|pair| pair[1] != pair[0] + 1) {
        let path = segment_path(dir, gap[0] + 1);
        return Err(StoreError::Damaged { path, offset: 0, reason: "is missing".to_string() });
    }
    Ok(numbers)
}

impl Replay {
    /// Reads one segment and gives its length; `None` where it was never begun and is removed.
    fn segment(
        &mut self,
        dir: &Path,
        number: u32,
        is_last: bool,
    ) -> Result<Option<u32>, StoreError> {
        let path = segment_path(dir, number);
        let mut rest = Bytes::from(fs::read(&path).map_err(StoreError::io("read", &path))?);
        let total = rest.len();
        let damaged = |offset: usize, reason: String| StoreError::Damaged {
            path: path.clone(),
            offset: offset as u64,
            reason,
        };
        if !rest.starts_with(&record::segment_head(number)) {
            // The head is synced before the first record is written.
            if is_last && total <= SEGMENT_HEAD_BYTES {
                warn!(path = %path.display(), "removing a segment that was never begun");
                fs::remove_file(&path).map_err(StoreError::io("remove", &path))?;
                return Ok(None);
            }
            return Err(damaged(0, "not a segment of this feed".to_string()));
        }
        rest.advance(SEGMENT_HEAD_BYTES);
        self.entries.entry(number).or_default();
        while !rest.is_empty() {
            let offset = total - rest.len();
            match record::decode(&rest) {
                Ok((record, len)) => {
                    self.apply(Location { segment: number, offset: offset as u32 }, record);
                    rest.advance(len);
                }
                Err(reason) if is_last => {
                    warn!(path = %path.display(), offset, %reason, "cutting a torn tail");
                    cut(&path, offset).map_err(StoreError::io("cut", &path))?;
                    return Ok(Some(offset as u32));
                }
                Err(reason) => return Err(damaged(offset, reason.to_string())),
            }
        }
        Ok(Some(total as u32))
    }

    fn apply(&mut self, location: Location, record: Record) {
        match record {
            Record::Message(message) => {
                let copies = if message.copies > 1 { 0b11 } else { 0b01 };
                let entry = Entry { offset: location.offset, queue: message.queue, copies };
                self.entries.entry(location.segment).or_default().push(entry);
                if message.visible > message.sent {
                    self.delayed.insert(location, message.visible);
                }
                match self.last_journaled == Some(message.id) {
                    true => self.unjournaled.clear(),
                    false => self.unjournaled.push(location),
                }
            }
            Record::Delete { key, back } => self.delete(key, back),
            Record::Queue { queue, .. } => drop(self.queues.insert(queue, record)),
            Record::QueueGone { queue } => drop(self.queues.remove(&queue)),
        }
    }

    fn delete(&mut self, key: Key, back: bool) {
        // A delete outlives its message where the message's segment was removed.
        let Some(entries) = self.entries.get_mut(&key.location.segment) else { return };
        let found = entries.binary_search_by_key(&key.location.offset, |entry| entry.offset);
        let Ok(at) = found else { return };
        entries[at].copies &= !(1 << key.copy as u8);
        if let Some(copy) = key.copy.back().filter(|_| back) {
            entries[at].copies |= 1 << copy as u8;
        }
    }

    fn into_scan(self, segments: Vec<u32>, last: Option<(u32, u32)>) -> Scan {
        let mut keys: HashMap<u32, Vec<(Key, TimeMs)>> = HashMap::new();
        let mut live = BTreeMap::new();
        for (segment, entries) in &self.entries {
            let mut count = 0;
            // What a send left in a queue that was being removed belongs to nobody.
            for entry in entries.iter().filter(|e| self.queues.contains_key(&e.queue)) {
                let location = Location { segment: *segment, offset: entry.offset };
                let visible = self.delayed.get(&location).copied().unwrap_or_default();
                for copy in Copy::ALL {
                    if entry.copies & (1 << copy as u8) != 0 {
                        count += 1;
                        let key = Key { location, copy };
                        keys.entry(entry.queue).or_default().push((key, visible));
                    }
                }
            }
            live.insert(*segment, count);
        }
        let mut recovered = Recovered::default();
        for record in self.queues.values() {
            let Record::Queue { queue, name, attributes } = record else { continue };
            recovered.queues.push(RecoveredQueue {
                queue: *queue,
                name: name.clone(),
                attributes: attributes.clone(),
                keys: keys.remove(queue).unwrap_or_default(),
            });
        }
        let unjournaled = self.unjournaled;
        Scan { recovered, unjournaled, segments, live, queues: self.queues, last }
    }
}

fn cut(path: &Path, len: usize) -> std::io::Result<()> {
    let file = File::options().write(true).open(path)?;
    file.set_len(len as u64)?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::super::disk::Disk;
    use super::super::record::Message;
    use super::*;

    /// Small segments: a few messages each.
    const SEGMENT_BYTES: u32 = 600;

    type Opened = (Disk, (Recovered, Vec<Location>));

    fn open(dir: &Path, last: Option<u128>) -> Result<Opened, StoreError> {
        Disk::try_open(dir, last, SEGMENT_BYTES)
    }

    fn message(id: u128) -> Record {
        Record::Message(Message {
            queue: 1,
            copies: 1,
            sent: TimeMs(10),
            visible: TimeMs(10),
            id,
            body_md5: [0; 16],
            trace: Bytes::new(),
            attributes: Bytes::new(),
            body: Bytes::from(format!("\"{}\"", "x".repeat(100))),
        })
    }

    fn write(disk: &mut Disk, records: &[Record]) -> Vec<Location> {
        let all = records.iter().map(|r| disk.append(r).expect("appends")).collect();
        disk.finish_round(true).expect("syncs");
        all
    }

    /// A directory with one queue and messages 0..`count`.
    fn filled(dir: &Path, count: u128) -> Vec<Location> {
        let (mut disk, _) = open(dir, None).expect("opens");
        let (name, attributes) = ("q".to_string(), "{}".to_string());
        write(&mut disk, &[Record::Queue { queue: 1, name, attributes }]);
        (0..count).flat_map(|id| write(&mut disk, &[message(id)])).collect()
    }

    fn gone(location: Location, copy: Copy, back: bool) -> Record {
        Record::Delete { key: Key { location, copy }, back }
    }

    fn keys(recovered: &Recovered) -> Vec<Key> {
        recovered.queues[0].keys.iter().map(|(key, _)| *key).collect()
    }

    #[test]
    fn a_restart_delivers_what_was_not_deleted_and_goes_on() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 20);
        assert!(places[19].segment > 3, "several segments");
        let (mut disk, _) = open(dir.path(), None).expect("opens");
        write(
            &mut disk,
            &[gone(places[5], Copy::First, true), gone(places[7], Copy::First, false)],
        );
        drop(disk);
        let (mut disk, (recovered, _)) = open(dir.path(), None).expect("opens");
        let found = keys(&recovered);
        assert_eq!(found.len(), 19);
        assert!(!found.iter().any(|key| key.location == places[7]));
        assert!(found.contains(&Key { location: places[5], copy: Copy::FirstBack }));
        let read = disk.segments().read(places[5]).expect("reads").expect("is there");
        assert_eq!(read.id, 5);
        let more = write(&mut disk, &[message(99)]);
        assert!(more[0] > places[19]);
    }

    #[test]
    fn segments_are_removed_from_the_front_and_the_queue_survives_them() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 20);
        let (mut disk, _) = open(dir.path(), None).expect("opens");
        for place in &places[1..19] {
            write(&mut disk, &[gone(*place, Copy::First, false)]);
        }
        assert_eq!(list(dir.path()).expect("lists")[0], 1, "the first message holds everything");
        write(&mut disk, &[gone(places[0], Copy::First, false)]);
        assert_eq!(list(dir.path()).expect("lists")[0], places[19].segment);
        drop(disk);
        let (_, (recovered, _)) = open(dir.path(), None).expect("opens");
        assert_eq!(recovered.queues[0].name, "q");
        let left = Key { location: places[19], copy: Copy::First };
        assert_eq!(keys(&recovered), [left]);
    }

    #[test]
    fn a_torn_tail_is_cut_wherever_it_was_torn() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 4);
        let path = segment_path(dir.path(), places[3].segment);
        let whole = fs::read(&path).expect("reads");
        for len in places[3].offset as usize..whole.len() {
            fs::write(&path, &whole[..len]).expect("writes");
            let (_, (recovered, _)) = open(dir.path(), None).expect("opens");
            assert_eq!(keys(&recovered).len(), 3, "cut at {len}");
            let left = fs::metadata(&path).expect("is there").len();
            assert_eq!(left, u64::from(places[3].offset));
        }
    }

    #[test]
    fn damage_before_the_last_segment_refuses_to_start() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 20);
        let path = segment_path(dir.path(), places[1].segment);
        let whole = fs::read(&path).expect("reads");
        let mut flipped = whole.clone();
        flipped[places[1].offset as usize + 20] ^= 1;
        fs::write(&path, &flipped).expect("writes");
        let error = open(dir.path(), None).expect_err("damaged");
        assert!(matches!(error, StoreError::Damaged { offset, .. } if offset > 0), "{error}");
        fs::remove_file(&path).expect("removes");
        let gap = segment_path(dir.path(), places[1].segment + 1);
        assert!(gap.exists());
        if places[1].segment > 1 {
            assert!(open(dir.path(), None).is_err(), "a missing segment is noticed");
        }
    }

    #[test]
    fn a_segment_that_was_never_begun_is_made_anew() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 4);
        let next = segment_path(dir.path(), places[3].segment + 1);
        fs::write(&next, b"PBF").expect("writes");
        let (_, (recovered, _)) = open(dir.path(), None).expect("opens");
        assert_eq!(keys(&recovered).len(), 4);
        assert!(!next.exists());
    }

    #[test]
    fn what_the_journal_lacks_is_what_came_after_its_last_line() {
        let dir = tempfile::tempdir().expect("a directory");
        let places = filled(dir.path(), 6);
        let lacking = |last| open(dir.path(), last).expect("opens").1.1;
        assert_eq!(lacking(Some(3)), places[4..]);
        assert_eq!(lacking(Some(5)), []);
        assert_eq!(lacking(None), places);
    }

    #[test]
    fn one_directory_has_one_feed() {
        let dir = tempfile::tempdir().expect("a directory");
        let _first = open(dir.path(), None).expect("opens");
        assert!(matches!(open(dir.path(), None), Err(StoreError::InUse { .. })));
    }
}
