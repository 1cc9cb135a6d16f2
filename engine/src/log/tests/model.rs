//! Random work, random crashes, and a model that is too simple to be wrong.
//!
//! The log is one sequence of changes. After a crash it has to stand at some prefix of what was
//! submitted, the same for all groups, that holds everything acknowledged.

use std::collections::BTreeMap;

use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;
use crate::log::GroupState;
use crate::log::faults::Faults;

/// Runs; each is six lives that end in a power loss.
const SEEDS: u64 = 300;

#[derive(Clone, Debug, Default, PartialEq)]
struct Model {
    state: GroupState,
    records: Vec<Record>,
}

#[derive(Clone, Debug)]
enum Change {
    Append(Record),
    Vote(Bytes),
    Truncate(Option<u64>),
    Purge(u64, u64),
    Remove,
}

impl Model {
    fn apply(&mut self, change: &Change) {
        match change {
            Change::Append(record) => {
                self.state.last = Some((record.term, record.index));
                self.records.push(record.clone());
            }
            Change::Vote(vote) => self.state.vote = Some(vote.clone()),
            Change::Truncate(keep) => {
                self.records.retain(|r| Some(r.index) <= *keep);
                let last = self.records.last().map(|r| (r.term, r.index));
                self.state.last = last.or(self.state.purged);
            }
            Change::Purge(term, index) => {
                self.records.retain(|r| r.index > *index);
                self.state.purged = Some((*term, *index));
                self.state.last = self.state.last.max(self.state.purged);
            }
            Change::Remove => *self = Model::default(),
        }
    }
}

struct World {
    dice: StdRng,
    files: FaultyFiles,
    log: SharedLog,
    /// What is known to be there.
    base: BTreeMap<u64, Model>,
    /// Submitted since.
    changes: Vec<(u64, Change)>,
    /// The same, applied.
    now: BTreeMap<u64, Model>,
    /// How many changes are acknowledged.
    acked: Arc<AtomicUsize>,
    live: Vec<u64>,
    next_replica: u64,
    term: u64,
    covered: Covered,
}

/// What the runs came by: a test that never rolls, cuts or collects would prove little.
#[derive(Clone, Copy, Debug, Default)]
struct Covered {
    cuts: usize,
    cleans: usize,
    footers: usize,
    removed: usize,
    reappended: usize,
    lost: usize,
}

fn small_config(verify: bool) -> LogConfig {
    LogConfig {
        segment_bytes: 8192,
        round_bytes_max: 4096,
        tail_bytes_max: 6000,
        reappend_segments_min: 1,
        verify,
        ..config()
    }
}

impl World {
    fn new(seed: u64) -> World {
        let files = FaultyFiles::new();
        let log = SharedLog::open(small_config(false), Arc::new(files.clone())).unwrap();
        World {
            dice: StdRng::seed_from_u64(seed),
            files,
            log,
            base: BTreeMap::new(),
            changes: Vec::new(),
            now: BTreeMap::new(),
            acked: Arc::new(AtomicUsize::new(0)),
            live: vec![1, 2, 3],
            next_replica: 4,
            term: 1,
            covered: Covered::default(),
        }
    }

    fn note(&mut self, replica: u64, change: Change) {
        self.now.entry(replica).or_default().apply(&change);
        self.changes.push((replica, change));
    }

    /// A callback that acknowledges everything submitted so far.
    fn ack(&self) -> Flushed {
        let (acked, count) = (self.acked.clone(), self.changes.len());
        Box::new(move |result: Result<(), LogError>| {
            if result.is_ok() {
                acked.fetch_max(count, Ordering::SeqCst);
            }
        })
    }

    async fn step(&mut self) {
        let replica = self.live[self.dice.random_range(0..self.live.len())];
        let group = group(&self.log, replica);
        let model = self.now.entry(replica).or_default().clone();
        let (first, last) = (model.records.first(), model.state.last.map(|(_, last)| last));
        match self.dice.random_range(0..20) {
            0..=9 => {
                let next = last.map_or(0, |last| last + 1);
                let count = self.dice.random_range(0..4);
                let bytes = self.dice.random_range(0..1500);
                let new = records(self.term, next..next + count, bytes);
                for record in &new {
                    self.note(replica, Change::Append(record.clone()));
                }
                group.append(new, self.ack()).await;
            }
            10..=11 => {
                self.term += 1;
                let vote = Bytes::from(self.term.to_le_bytes().to_vec());
                self.note(replica, Change::Vote(vote.clone()));
                if group.save_vote(vote).await.is_ok() {
                    self.ack()(Ok(()));
                }
            }
            12..=13 => {
                if let (Some(first), Some(last)) = (first, last) {
                    self.term += 1;
                    let keep = self.dice.random_range(first.index..=last + 1).checked_sub(1);
                    self.note(replica, Change::Truncate(keep));
                    let _ = group.truncate_after(keep).await;
                }
            }
            14..=15 => {
                if let (Some(first), Some(last)) = (first, last) {
                    let beyond = self.dice.random_range(0..8) / 7 * 5;
                    let to = self.dice.random_range(first.index..=last) + beyond;
                    let found = model.records.iter().find(|r| r.index == to);
                    let term = found.map_or(self.term, |r| r.term);
                    self.note(replica, Change::Purge(term, to));
                    let _ = group.purge(term, to).await;
                }
            }
            16..=17 => {
                if let Ok(collected) = self.log.collect(TimeMs(0)) {
                    self.covered.removed += collected.segments;
                    self.covered.reappended += collected.reappended;
                }
            }
            18 if self.dice.random_range(0..5) == 0 => {
                self.note(replica, Change::Remove);
                let _ = self.log.remove_group(ReplicaId(replica));
                self.live.retain(|r| *r != replica);
                self.live.push(self.next_replica);
                self.next_replica += 1;
            }
            _ => tokio::task::yield_now().await,
        }
        if self.log.fault().borrow().is_none() {
            self.check_readers(replica);
        }
    }

    /// What is submitted is seen at once.
    fn check_readers(&self, replica: u64) {
        let Some(model) = self.now.get(&replica) else { return };
        if !self.live.contains(&replica) {
            return;
        }
        let group = group(&self.log, replica);
        assert_eq!(group.state(), model.state, "replica {replica}");
        assert_eq!(read_all(&group), model.records, "replica {replica}");
        let durable = *group.durable_index().borrow();
        assert!(durable <= model.state.last.map(|(_, last)| last));
    }

    fn seen(&self, log: &SharedLog) -> BTreeMap<u64, Model> {
        let seen = |replica: u64| {
            let group = group(log, replica);
            Model { state: group.state(), records: read_all(&group) }
        };
        (1..self.next_replica).map(|replica| (replica, seen(replica))).collect()
    }

    /// Loses power, comes back, and finds a prefix that holds everything acknowledged.
    async fn crash(&mut self) {
        let seed = self.dice.random();
        let mut files = self.files.lose_power(seed);
        while self.dice.random_range(0..4) == 0 {
            // Once more, in the middle of recovery.
            let stops_in = Some(self.dice.random_range(0..6));
            files.set_faults(Faults { stops_in, ..Faults::default() });
            drop(SharedLog::open(small_config(false), Arc::new(files.clone())));
            files = files.lose_power(self.dice.random());
        }
        let checked = SharedLog::open(small_config(true), Arc::new(files.fork())).unwrap();
        let log = SharedLog::open(small_config(false), Arc::new(files.clone())).unwrap();
        let seen = self.seen(&log);
        assert_eq!(seen, self.seen(&checked), "footers tell otherwise than rounds");
        let acked = self.acked.load(Ordering::SeqCst);
        let mut models = self.base.clone();
        for replica in 1..self.next_replica {
            models.entry(replica).or_default();
        }
        let mut found = None;
        for count in 0..=self.changes.len() {
            if count >= acked && models == seen {
                found = Some(count);
                break;
            }
            if let Some((replica, change)) = self.changes.get(count) {
                models.entry(*replica).or_default().apply(change);
            }
        }
        assert!(found.is_some(), "no prefix of {acked}..={} fits", self.changes.len());
        self.covered.lost += self.changes.len() - found.unwrap_or(0);
        self.covered.cuts += usize::from(log.recovery().cut.is_some());
        self.covered.cleans += usize::from(log.recovery().clean);
        self.covered.footers += log.recovery().footers;
        let removed = |replica: &u64| {
            let kept = &self.changes[..found.unwrap_or(0)];
            kept.iter().any(|(r, change)| r == replica && matches!(change, Change::Remove))
        };
        self.live = (1..self.next_replica).filter(|r| !removed(r)).collect();
        self.live.retain(|r| *r + 6 > self.next_replica);
        (self.files, self.log, self.base, self.now) = (files, log, models.clone(), models);
        self.changes.clear();
        self.acked = Arc::new(AtomicUsize::new(0));
    }

    async fn life(&mut self) {
        if self.dice.random_range(0..4) > 0 {
            let stops_in = Some(self.dice.random_range(0..120));
            self.files.set_faults(Faults { stops_in, ..Faults::default() });
        }
        for _ in 0..self.dice.random_range(1..80) {
            self.step().await;
            if self.dice.random_range(0..3) == 0 {
                tokio::task::yield_now().await;
            }
            if self.log.fault().borrow().is_some() {
                return;
            }
        }
        if self.dice.random_range(0..5) == 0 {
            let count = self.changes.len();
            if self.log.clone().close().await.is_ok() {
                self.acked.fetch_max(count, Ordering::SeqCst);
            }
        }
    }
}

async fn run(seed: u64) -> Covered {
    let mut world = World::new(seed);
    for _ in 0..6 {
        world.life().await;
        world.crash().await;
    }
    world.covered
}

#[test]
fn any_crash_leaves_a_prefix_that_holds_everything_acknowledged() {
    let mut all = Covered::default();
    for seed in 0..SEEDS {
        let world = std::panic::AssertUnwindSafe(|| {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_time().build();
            runtime.unwrap().block_on(run(seed))
        });
        match std::panic::catch_unwind(world) {
            Ok(covered) => {
                all.cuts += covered.cuts;
                all.cleans += covered.cleans;
                all.footers += covered.footers;
                all.removed += covered.removed;
                all.reappended += covered.reappended;
                all.lost += covered.lost;
            }
            Err(_) => panic!("seed {seed} failed"),
        }
    }
    let rare = [all.cuts, all.cleans, all.footers, all.removed, all.reappended, all.lost];
    assert!(rare.iter().all(|count| *count > 20), "{all:?}");
}
