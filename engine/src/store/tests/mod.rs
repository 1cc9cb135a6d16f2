//! The store as a whole. What one layout or rule does is tested in its own file.

mod apply;
mod feed;
mod lists;
mod model;
mod recovery;
mod scan;
mod scrub;
mod snapshot;
mod sweep;
mod system;

use platbook_protocol::op::{Body, Op, OpList, OpOutcome, Stamp};
use platbook_protocol::register::{Admission, Message, Recreate, Upsert, Version};
use platbook_protocol::{Digest, ReplicaId, Revision, ShardId, Slot, SlotRange, TimeMs, Zip};
use tempfile::TempDir;

use super::{Applied, Entry, EntryBody, Position, ShardStore, Store, StoreConfig};
use crate::command;

const SHARD: ShardId = ShardId(3);
const REPLICA: ReplicaId = ReplicaId(9);
const ALL: SlotRange = SlotRange { first: Slot(0), last: Slot(u16::MAX) };
const ZIP_A: Zip = Zip::Code(*b"94110");
const ZIP_B: Zip = Zip::Code(*b"10001");
const MINUTE: u64 = 60 * 1000;
const HOUR: u64 = 60 * MINUTE;
const DAY: u64 = 24 * HOUR;
/// A clock for tests: far enough from zero that retention can be subtracted.
const NOW: u64 = 1_000 * DAY;

fn config(dir: &TempDir) -> StoreConfig {
    StoreConfig {
        block_cache_bytes: 8 << 20,
        memtable_bytes: 8 << 20,
        background_jobs_max: 2,
        ..StoreConfig::at(dir.path())
    }
}

fn stamp(clock: u64) -> Stamp {
    Stamp {
        clock: TimeMs(clock),
        skew_ms: 5 * MINUTE,
        recreate: Recreate::BothClocks,
        tombstone_retention_ms: 60 * DAY,
    }
}

fn ops_body(clock: u64, ops: &[Op<'_>]) -> EntryBody {
    let mut list = OpList::default();
    for op in ops {
        list.push(op);
    }
    EntryBody::Command(command::ops(stamp(clock), &[list.bytes()]))
}

/// A store of one shard that owns every slot, and the log that it was fed.
struct Fixture {
    dir: TempDir,
    store: Store,
    shard: ShardStore,
    log: Vec<Entry>,
}

impl Fixture {
    fn new() -> Fixture {
        Fixture::of(SHARD, Some(ALL))
    }

    fn of(shard: ShardId, slots: Option<SlotRange>) -> Fixture {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(config(&dir)).unwrap();
        let shard = store.shard(shard, slots, REPLICA).unwrap();
        Fixture { dir, store, shard, log: Vec::new() }
    }

    fn push(&mut self, body: EntryBody) -> Applied {
        let position = Position { term: 1, index: self.log.len() as u64 };
        let entry = Entry { position, body };
        self.log.push(entry.clone());
        let mut applied = self.shard.apply(vec![entry]).unwrap();
        assert_eq!(applied.len(), 1);
        applied.remove(0)
    }

    /// Applies the operations as one entry.
    fn ops(&mut self, clock: u64, ops: &[Op<'_>]) -> Vec<OpOutcome> {
        match self.push(ops_body(clock, ops)) {
            Applied::Ops(outcomes) => outcomes,
            other => panic!("operations answered by {other:?}"),
        }
    }

    fn op(&mut self, clock: u64, op: Op<'_>) -> OpOutcome {
        self.ops(clock, &[op]).remove(0)
    }

    fn hash(&self) -> u128 {
        self.shard.content_hash().unwrap().1
    }
}

fn digest(body: &[u8]) -> Digest {
    Digest(blake3::hash(body).as_bytes()[..16].try_into().unwrap())
}

fn upsert(zip: Zip, sent: u64, body: &[u8]) -> Message {
    let version = Version { modified: TimeMs(sent), sent: TimeMs(sent), digest: digest(body) };
    Message::Upsert(Upsert { version, zip })
}

fn admit(id: &str, message: Message) -> Op<'_> {
    let admission = Admission {
        message,
        queued: message.sent(),
        floor: Revision(0),
        if_match: None,
        hold: false,
    };
    Op::Admit { id, admission, body: None }
}

fn write<'a>(id: &'a str, zip: Zip, revision: u64, frame: &'a [u8]) -> Op<'a> {
    let body = Body { summary: b"summary", frame };
    Op::Write { id, zip, revision: Revision(revision), digest: digest(frame), body }
}

fn erase(id: &str, zip: Zip, revision: u64) -> Op<'_> {
    Op::Erase { id, zip, revision: Revision(revision), moved_to: None }
}

/// Revision of a decision at this clock.
fn at(clock: u64) -> u64 {
    Revision::at(TimeMs(clock)).0
}
