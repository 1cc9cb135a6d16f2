//! One cluster's state: the protocol's rules over maps.

use std::collections::BTreeMap;

use platbook_protocol::listing::Matcher;
use platbook_protocol::map::{ClusterId, Map, Node};
use platbook_protocol::op::{Op, OpOutcome};
use platbook_protocol::register::{Context, Recreate, Register, Suspicion};
use platbook_protocol::row::{self, Row};
use platbook_protocol::rpc::{QuarantineRecord, RegisterView, RowView, Scan, ZipState, scan};
use platbook_protocol::{NodeId, Revision, Seq, ShardId, Slot, TimeMs, Zip, codec};
use platbook_router::Clock;

/// A row with its bytes.
#[derive(Clone)]
pub(crate) struct Stored {
    pub(crate) row: Row,
    summary: Vec<u8>,
    frame: Vec<u8>,
}

/// Everything that the cluster knows.
pub(crate) struct State {
    pub(crate) map: Map,
    pub(crate) registers: BTreeMap<String, Register>,
    pub(crate) rows: BTreeMap<(Zip, String), Stored>,
    zip_seqs: BTreeMap<Zip, Seq>,
    shard_seqs: BTreeMap<ShardId, Seq>,
    pub(crate) quarantine: BTreeMap<String, QuarantineRecord>,
    pub(crate) suspects: BTreeMap<String, (Suspicion, TimeMs)>,
    /// Dictionaries by id, from 1.
    pub(crate) dictionaries: Vec<Vec<u8>>,
    /// Writes below it expire.
    pub(crate) horizon: Revision,
    /// Messages for unknown ids from before it are too old.
    pub(crate) register_horizon: TimeMs,
    clock: Clock,
}

impl State {
    /// An empty cluster whose nodes have these addresses.
    pub(crate) fn new(addresses: &[String], shards: u32) -> State {
        let node = |(i, address): (usize, &String)| Node {
            id: NodeId(i as u64 + 1),
            address: address.clone(),
            zone: String::new(),
        };
        let nodes = addresses.iter().enumerate().map(node).collect();
        State {
            map: Map::initial(ClusterId(0xC1), nodes, shards),
            registers: BTreeMap::new(),
            rows: BTreeMap::new(),
            zip_seqs: BTreeMap::new(),
            shard_seqs: BTreeMap::new(),
            quarantine: BTreeMap::new(),
            suspects: BTreeMap::new(),
            dictionaries: Vec::new(),
            horizon: Revision(0),
            register_horizon: TimeMs(0),
            clock: Clock::system(),
        }
    }

    /// Applies one operation, as a shard would.
    pub(crate) fn apply(&mut self, op: Op<'_>) -> OpOutcome {
        match op {
            Op::Admit { id, admission, .. } => {
                let context = Context {
                    clock: self.clock.now(),
                    skew_ms: 300_000,
                    recreate: Recreate::BothClocks,
                    shard_floor: Revision(0),
                    register_horizon: self.register_horizon,
                };
                let mut register = self.registers.get(id).cloned().unwrap_or_default();
                let admitted = register.admit(admission, &context);
                if !register.is_unknown() {
                    self.registers.insert(id.to_string(), register);
                }
                if let Some(why) = admitted.suspect {
                    self.suspects.insert(id.to_string(), (why, context.clock));
                }
                OpOutcome::Admitted(admitted)
            }
            Op::Write { id, zip, revision, digest, body } => {
                let key = (zip, id.to_string());
                let known = self.rows.get(&key).map(|stored| stored.row);
                let (outcome, effect) = row::write(known, revision, digest, self.horizon);
                let (summary, frame) = (body.summary.to_vec(), body.frame.to_vec());
                self.put(key, effect, summary, frame);
                OpOutcome::Written(outcome)
            }
            Op::Erase { id, zip, revision, .. } => {
                let key = (zip, id.to_string());
                let known = self.rows.get(&key).map(|stored| stored.row);
                let effect = row::erase(known, revision, self.clock.now());
                self.put(key, effect, Vec::new(), Vec::new());
                OpOutcome::Erased
            }
            Op::Settle { id, revision } => {
                let register = self.registers.entry(id.to_string()).or_default();
                OpOutcome::Settled(register.settle(revision))
            }
            Op::Sweep { .. } => OpOutcome::Swept { collected: 0, more: false },
            Op::Quarantine { message_id, record } => {
                let record = codec::decode(record).expect("the router encodes records");
                self.quarantine.insert(message_id.to_string(), record);
                OpOutcome::Noted
            }
            Op::Unquarantine { message_id } => {
                self.quarantine.remove(message_id);
                OpOutcome::Noted
            }
            Op::ClearSuspect { id } => {
                self.suspects.remove(id);
                OpOutcome::Noted
            }
        }
    }

    fn put(&mut self, key: (Zip, String), effect: row::Effect, summary: Vec<u8>, frame: Vec<u8>) {
        let Some(row) = effect.put else { return };
        if effect.is_change {
            let shard = self.map.shard_of(Slot::of_zip(&key.0)).expect("all slots are owned").id;
            let seq = self.shard_seqs.entry(shard).or_default();
            seq.0 += 1;
            self.zip_seqs.insert(key.0, *seq);
        }
        self.rows.insert(key, Stored { row, summary, frame });
    }

    pub(crate) fn register(&self, id: &str) -> Option<RegisterView> {
        let register = self.registers.get(id)?;
        Some(RegisterView {
            alive: register.alive,
            zip: register.zip,
            revision: register.revision,
            died: register.died,
            old: register.old.iter().copied().collect(),
        })
    }

    pub(crate) fn row(&self, zip: Zip, id: &str) -> Option<RowView> {
        let Stored { row, summary, frame } = self.rows.get(&(zip, id.to_string()))?.clone();
        Some(RowView { row, summary, frame })
    }

    pub(crate) fn zip_state(&self, zip: Zip) -> ZipState {
        let live = self.live(zip);
        let shard = self.map.shard_of(Slot::of_zip(&zip)).expect("all slots are owned").id;
        ZipState {
            count: live.len() as u64,
            bytes: live.iter().map(|(_, stored)| stored.frame.len() as u64).sum(),
            seq: self.zip_seqs.get(&zip).copied().unwrap_or_default(),
            shard_seq: self.shard_seqs.get(&shard).copied().unwrap_or_default(),
        }
    }

    /// The stream behind the head of a scan.
    pub(crate) fn scan(&self, request: &Scan) -> Vec<u8> {
        let mut out = Vec::new();
        let matcher = Matcher::new(&request.filter);
        let limit = request.limit.unwrap_or(u64::MAX);
        let mut count = 0;
        let mut stopped = 0;
        for (id, stored) in self.live(request.zip) {
            let is_behind = request.after.as_deref().is_none_or(|after| id > after);
            if !is_behind || !matcher.matches(&stored.summary) {
                continue;
            }
            if count == limit {
                stopped = 1;
                break;
            }
            count += 1;
            scan::push_row(&mut out, id, stored.row.revision(), &stored.summary, &stored.frame);
        }
        out.extend_from_slice(&[scan::END, stopped]);
        out
    }

    fn live(&self, zip: Zip) -> Vec<(&str, &Stored)> {
        let of_zip = self.rows.iter().filter(|((z, _), stored)| *z == zip && stored.row.is_live());
        of_zip.map(|((_, id), stored)| (id.as_str(), stored)).collect()
    }
}
