//! A shard and its log, followed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use platbook_protocol::follow::ChangeKind;
use platbook_protocol::op::{Body, OpList, Stamp};
use platbook_protocol::register::Recreate;
use platbook_protocol::{Digest, ReplicaId, Revision, Slot, SlotRange, Zip};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use tempfile::TempDir;
use tokio::sync::oneshot;

use super::*;
use crate::log::faults::FaultyFiles;
use crate::log::{LogConfig, SharedLog, WriterKind};
use crate::store::{
    Entry, EntryBody, PhaseContent, PhasePosition, PhaseRow, PhaseStart, Position, StatePhase,
    Store, StoreConfig,
};

mod catch_up;

const SHARD: ShardId = ShardId(3);
const ALL: SlotRange = SlotRange { first: Slot(0), last: Slot(u16::MAX) };
const ZIPS: [Zip; 3] = [Zip::Code(*b"94110"), Zip::Code(*b"10001"), Zip::Unknown];
const IDS: usize = 12;

/// A log in memory.
#[derive(Default)]
struct Memory {
    records: Vec<Record>,
    purged: u64,
}

impl Entries for Memory {
    fn first(&self) -> u64 {
        self.purged
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        let mut bytes = 0;
        let live = self.records.iter().filter(|r| range.start.max(self.purged) <= r.index);
        let fits = |record: &&Record| {
            let is_first = bytes == 0;
            bytes += record.payload.len();
            record.index < range.end && (is_first || bytes <= bytes_max)
        };
        Ok(live.take_while(fits).cloned().collect())
    }
}

/// A shard that is written in one place.
struct Fixture {
    _dir: TempDir,
    store: ShardStore,
    log: Memory,
    clock: u64,
}

impl Fixture {
    fn new() -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let config = StoreConfig {
            block_cache_bytes: 8 << 20,
            memtable_bytes: 8 << 20,
            background_jobs_max: 2,
            ..StoreConfig::at(dir.path())
        };
        let store = Store::open(config).unwrap().shard(SHARD, Some(ALL), ReplicaId(9)).unwrap();
        Fixture { _dir: dir, store, log: Memory::default(), clock: 1_000_000_000 }
    }

    /// Applies operations as one entry; each is (listing, ZIP, frame or erased).
    fn entry(&mut self, ops: &[(String, Zip, Option<String>)]) {
        let mut list = OpList::default();
        for (id, zip, frame) in ops {
            self.clock += 1;
            let revision = Revision::at(TimeMs(self.clock));
            let frame = frame.as_ref().map(String::as_bytes);
            list.push(&match frame {
                Some(frame) => {
                    let digest = *blake3::hash(frame).as_bytes().first_chunk().unwrap();
                    let body = Body { summary: b"summary", frame };
                    Op::Write { id, zip: *zip, revision, digest: Digest(digest), body }
                }
                None => Op::Erase { id, zip: *zip, revision, moved_to: None },
            });
        }
        self.ops(&list);
    }

    /// Applies operations as one entry.
    fn ops(&mut self, list: &OpList) {
        let stamp = Stamp {
            clock: TimeMs(self.clock),
            skew_ms: 1000,
            recreate: Recreate::BothClocks,
            tombstone_retention_ms: 1_000_000,
        };
        let payload = command::ops(stamp, &[list.bytes()]);
        let index = self.log.records.len() as u64;
        let position = Position { term: 1, index };
        self.log.records.push(Record { term: 1, index, kind: 2, payload: payload.clone() });
        self.store.apply(vec![Entry { position, body: EntryBody::Command(payload) }]).unwrap();
    }

    fn blank(&mut self) {
        let position = Position { term: 1, index: self.log.records.len() as u64 };
        let record = Record { term: 1, index: position.index, kind: 0, payload: Bytes::new() };
        self.log.records.push(record);
        self.store.apply(vec![Entry { position, body: EntryBody::Blank }]).unwrap();
    }

    /// Some entry: writes, rewrites of the same, erasures, blanks.
    fn random_entry(&mut self, rng: &mut StdRng) {
        if rng.random_bool(0.2) {
            return self.blank();
        }
        let ops: Vec<_> = (0..rng.random_range(1..6))
            .map(|_| {
                let id = format!("id-{}", rng.random_range(0..IDS));
                let frame = rng.random_bool(0.7).then(|| format!("{}", rng.random_range(0..3)));
                (id, ZIPS[rng.random_range(0..ZIPS.len())], frame)
            })
            .collect();
        self.entry(&ops);
    }

    fn read(&self, after: u64, bytes_max: usize) -> Reading {
        super::read(&self.store, &self.log, Seq(after), bytes_max).unwrap()
    }

    fn changes(&self, after: u64, bytes_max: usize) -> Vec<Followed> {
        match self.read(after, bytes_max) {
            Reading::Changes(changes) => changes,
            Reading::Not(plan) => panic!("nothing to read behind {after}: {plan:?}"),
        }
    }

    fn phase(&self, left: Option<PhasePosition<'_>>) -> StatePhase {
        match self.store.state_phase(None, left).unwrap() {
            PhaseStart::Ready(phase) => phase,
            _ => panic!("no phase from {left:?}"),
        }
    }

    /// The rows of now.
    fn rows(&self) -> BTreeMap<(Zip, String), Vec<u8>> {
        let mut rows = BTreeMap::new();
        all(&mut self.phase(None)).iter().for_each(|row| put_row(&mut rows, row));
        rows
    }
}

/// What is left of a phase.
fn all(phase: &mut StatePhase) -> Vec<PhaseRow> {
    phase.next_rows(usize::MAX).unwrap().unwrap_or_default().rows
}

/// Makes the listings of a reader right by a row.
fn put_row(rows: &mut BTreeMap<(Zip, String), Vec<u8>>, row: &PhaseRow) {
    let key = (row.zip, row.id.clone());
    match &row.content {
        PhaseContent::Listing { frame, .. } => drop(rows.insert(key, frame.clone())),
        PhaseContent::Gone { .. } => drop(rows.remove(&key)),
    }
}

fn put(id: &str, frame: &str) -> (String, Zip, Option<String>) {
    (id.to_string(), ZIPS[0], Some(frame.to_string()))
}

fn seqs(changes: &[Followed]) -> Vec<u64> {
    changes.iter().map(|followed| followed.change.seq.0).collect()
}

#[test]
fn changes_come_with_the_bodies_of_their_entries_from_any_place_in_an_entry() {
    let mut f = Fixture::new();
    f.blank();
    // The second operation changes nothing.
    f.entry(&[put("a", "1"), put("a", "1"), put("b", "2")]);
    f.blank();
    f.entry(&[("a".to_string(), ZIPS[0], None), put("c", "3")]);
    let frames = |after| -> Vec<Option<Bytes>> {
        f.changes(after, 1 << 20).into_iter().map(|c| c.body.map(|body| body.frame)).collect()
    };
    let bytes = |text: &'static str| Some(Bytes::from_static(text.as_bytes()));
    assert_eq!(frames(0), [bytes("1"), bytes("2"), None, bytes("3")]);
    assert_eq!(frames(1), [bytes("2"), None, bytes("3")]);
    assert_eq!(frames(3), [bytes("3")]);
    assert_eq!(f.read(4, 100), Reading::Not(Plan::UpToDate));
    assert_eq!(f.read(5, 100), Reading::Not(Plan::Ahead { newest: Seq(4) }));
    let erased = &f.changes(2, 1)[0].change;
    assert_eq!(
        (erased.kind, erased.before.clone()),
        (ChangeKind::Deleted, Some(b"summary".to_vec()),)
    );
}

#[test]
fn a_small_allowance_reads_one_entry_and_a_long_log_comes_in_pieces() {
    let mut f = Fixture::new();
    for i in 0..100 {
        f.entry(&[put("a", &i.to_string())]);
        f.blank();
    }
    assert_eq!(seqs(&f.changes(7, 1)), [8]);
    let (mut seen, mut reads) = (Vec::new(), 0);
    while seen.len() < 100 {
        let piece = seqs(&f.changes(seen.len() as u64, usize::MAX));
        assert!(piece.len() <= ENTRIES_MAX);
        seen.extend(piece);
        reads += 1;
    }
    assert_eq!(seen, (1..=100).collect::<Vec<u64>>());
    assert_eq!(reads, 100usize.div_ceil(ENTRIES_MAX));
}

#[test]
fn what_was_purged_is_gone_with_the_earliest_position_named() {
    let mut f = Fixture::new();
    for i in 0..6 {
        f.entry(&[put("a", &i.to_string()), put("b", &i.to_string())]);
    }
    // The effects stay a while longer than the entries, or the other way round.
    f.log.purged = 2;
    let gone = |earliest| Reading::Not(Plan::Gone { earliest: Seq(earliest) });
    assert_eq!(f.read(3, 100), gone(4));
    assert_eq!(seqs(&f.changes(4, 1)), [5, 6]);
    f.store.trim_effects(4).unwrap();
    assert_eq!(f.read(7, 100), gone(8));
    assert_eq!(seqs(&f.changes(8, 1)), [9, 10]);
    f.log.purged = 6;
    assert_eq!(f.read(11, 100), gone(12));
    assert_eq!(f.read(12, 100), Reading::Not(Plan::UpToDate));
}

/// A log that is purged between being asked for its first index and being read.
struct Vanishing<'a> {
    log: &'a Memory,
    asked: std::cell::Cell<bool>,
}

impl Entries for Vanishing<'_> {
    fn first(&self) -> u64 {
        match self.asked.replace(true) {
            true => 4,
            false => 0,
        }
    }

    fn read(&self, range: Range<u64>, bytes_max: usize) -> Result<Vec<Record>, LogError> {
        self.log.read(range.start.max(4)..range.end, bytes_max)
    }
}

#[test]
fn a_purge_while_reading_is_told_and_leaves_no_gap() {
    let mut f = Fixture::new();
    for i in 0..6 {
        f.entry(&[put("a", &i.to_string())]);
    }
    let log = Vanishing { log: &f.log, asked: false.into() };
    let reading = super::read(&f.store, &log, Seq(1), usize::MAX).unwrap();
    assert_eq!(reading, Reading::Not(Plan::Gone { earliest: Seq(4) }));
}

#[test]
fn an_entry_that_is_not_the_one_of_its_effects_is_an_error() {
    let mut f = Fixture::new();
    f.entry(&[put("a", "1")]);
    f.entry(&[put("b", "1")]);
    let other = f.log.records[1].payload.clone();
    f.log.records[0].payload = other;
    let found = super::read(&f.store, &f.log, Seq(0), 1);
    assert!(matches!(found, Err(FollowError::Mismatch { index: 0, .. })), "{found:?}");
}

#[test]
fn a_cursor_that_is_no_row_of_the_selection_is_foreign_and_a_later_seq_means_behind() {
    let mut f = Fixture::new();
    f.entry(&[put("a", "1"), ("b".to_string(), ZIPS[1], Some("2".to_string()))]);
    let rows = all(&mut f.phase(None));
    let key_in = |zip| rows.iter().find(|row| row.zip == zip).unwrap().key.clone();
    let start = |zip, seq, cursor: &[u8]| match f
        .store
        .state_phase(zip, Some(PhasePosition { after: None, seq: Seq(seq), cursor }))
        .unwrap()
    {
        PhaseStart::Ready(_) => "ready",
        PhaseStart::Behind { newest: Seq(2) } => "behind",
        PhaseStart::Behind { .. } => "behind something else",
        PhaseStart::Foreign => "foreign",
        PhaseStart::Forgotten => "forgotten",
    };
    assert_eq!(start(None, 2, &key_in(ZIPS[1])), "ready");
    assert_eq!(start(Some(ZIPS[0]), 2, &key_in(ZIPS[0])), "ready");
    assert_eq!(start(Some(ZIPS[0]), 2, &key_in(ZIPS[1])), "foreign");
    for cursor in [&[1u8][..], &[0, 0, 0, 0, 3, 1], &[0xff; 300], b"\x01\0\0\x02nonsense"] {
        assert_eq!(start(None, 2, cursor), "foreign", "{cursor:?}");
    }
    assert_eq!(start(None, 3, &[]), "behind");
}

/// A reader that loses its connection, and whatever it had not been given with a position.
#[derive(Default)]
struct Reader {
    rows: BTreeMap<(Zip, String), Vec<u8>>,
    seqs: BTreeSet<u64>,
    last_of_zip: BTreeMap<Zip, u64>,
}

impl Reader {
    /// The state phase, broken off behind every few rows while the shard is written. Returns the
    /// seq to follow from.
    fn read_state(&mut self, f: &mut Fixture, rng: &mut StdRng) -> Seq {
        let (mut seq, mut cursor) = (None, Vec::new());
        loop {
            let left = seq.map(|seq| PhasePosition { after: None, seq, cursor: &cursor });
            let mut phase = f.phase(left);
            assert_eq!(*seq.get_or_insert(phase.seq()), phase.seq());
            for _ in 0..rng.random_range(1..4) {
                f.random_entry(rng);
                let Some(found) = phase.next_rows(rng.random_range(1..200)).unwrap() else {
                    return phase.seq();
                };
                for row in found.rows {
                    assert!(self.seqs.insert(row.seq.0), "change {} told twice", row.seq);
                    put_row(&mut self.rows, &row);
                }
                if !found.passed.is_empty() {
                    cursor = found.passed;
                }
            }
        }
    }

    fn follow(&mut self, f: &Fixture, from: Seq, rng: &mut StdRng) {
        let mut position = from;
        loop {
            let changes = match f.read(position.0, rng.random_range(1..500)) {
                Reading::Changes(changes) => changes,
                Reading::Not(plan) => return assert_eq!(plan, Plan::UpToDate),
            };
            for Followed { change, body, .. } in changes {
                assert_eq!(change.seq.0, position.0 + 1);
                position = change.seq;
                assert!(self.seqs.insert(change.seq.0), "change {} told twice", change.seq);
                let before = self.last_of_zip.insert(change.zip, change.seq.0);
                assert!(before.is_none_or(|before| before == change.prev.0));
                let key = (change.zip, change.id);
                match body {
                    Some(body) => self.rows.insert(key, body.frame.to_vec()),
                    None => self.rows.remove(&key),
                };
            }
        }
    }
}

#[test]
fn state_then_follow_tells_every_change_once_and_ends_in_the_state_of_the_store() {
    for seed in 0..8 {
        let rng = &mut StdRng::seed_from_u64(seed);
        let mut f = Fixture::new();
        (0..rng.random_range(0..40)).for_each(|_| f.random_entry(rng));
        let mut reader = Reader::default();
        let from = reader.read_state(&mut f, rng);
        (0..rng.random_range(0..40)).for_each(|_| f.random_entry(rng));
        reader.follow(&f, from, rng);
        assert_eq!(reader.rows, f.rows(), "seed {seed}");
    }
}

#[tokio::test]
async fn the_shared_log_is_followed_and_its_purge_is_not_held_back() {
    let mut f = Fixture::new();
    for i in 0..20 {
        f.entry(&[put("a", &i.to_string())]);
    }
    let config = LogConfig {
        identity: 7,
        segment_bytes: 16 * 1024,
        writer: WriterKind::Task,
        ..LogConfig::default()
    };
    let log = SharedLog::open(config, Arc::new(FaultyFiles::default())).unwrap();
    let group = log.group(ReplicaId(9), SHARD);
    let (sender, flushed) = oneshot::channel();
    let done = Box::new(move |result| drop(sender.send(result)));
    group.append(f.log.records.clone(), done).await;
    flushed.await.unwrap().unwrap();
    let read = |after| super::read(&f.store, &group, Seq(after), usize::MAX).unwrap();
    assert_eq!(read(5), f.read(5, usize::MAX));
    group.purge(1, 9).await.unwrap();
    assert_eq!(read(5), Reading::Not(Plan::Gone { earliest: Seq(10) }));
    let Reading::Changes(changes) = read(10) else { panic!("the rest is there") };
    assert_eq!(seqs(&changes), (11..=20).collect::<Vec<u64>>());
}
