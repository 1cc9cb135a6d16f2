//! Random operations against a naive model: maps, the pure rules, and no index at all.

use std::collections::{BTreeMap, BTreeSet};

use platbook_protocol::Seq;
use platbook_protocol::follow::ChangeKind;
use platbook_protocol::op::OpIter;
use platbook_protocol::register::{Context, Register, Settled};
use platbook_protocol::row::{self, Row, WriteOutcome};
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};

use super::*;

const IDS: [&str; 6] = ["a", "b", "c", "d", "e", "f"];
const ZIPS: [Zip; 3] = [ZIP_A, ZIP_B, Zip::Unknown];

/// Entries of a few operations each, on few ids, with clocks that leap and step back.
pub(super) fn random_entries(seed: u64, count: usize) -> Vec<EntryBody> {
    let mut rng = StdRng::seed_from_u64(seed);
    let mut clock = NOW;
    (0..count)
        .map(|_| {
            clock = match rng.random_range(0..10) {
                0 => clock - rng.random_range(0..MINUTE),
                1 => clock + rng.random_range(0..2 * HOUR),
                2 => clock + rng.random_range(0..40 * DAY),
                _ => clock + rng.random_range(0..MINUTE),
            };
            let mut list = OpList::default();
            for _ in 0..rng.random_range(0..6) {
                push_random(&mut rng, clock, &mut list);
            }
            EntryBody::Command(command::ops(stamp(clock), &[list.bytes()]))
        })
        .collect()
}

fn push_random(rng: &mut StdRng, clock: u64, list: &mut OpList) {
    let id = IDS[rng.random_range(0..IDS.len())];
    let zip = ZIPS[rng.random_range(0..ZIPS.len())];
    // A bit before and behind the clock, and a few values only, so that they meet.
    let near = clock - clock % MINUTE + rng.random_range(0..3u64) * MINUTE;
    let sent = near - rng.random_range(0..2u64) * 3 * DAY;
    let decided = near - rng.random_range(0..4u64) / 3 * 2 * HOUR;
    let revision = Revision(at(decided) + rng.random_range(0..3u64));
    let frame = vec![b'x'; rng.random_range(0..4)];
    match rng.random_range(0..12) {
        0..3 => list.push(&admit(id, upsert(zip, sent, &frame))),
        3 => list.push(&admit(id, Message::Delete { sent: TimeMs(sent) })),
        4 => {
            let Op::Admit { admission, .. } = admit(id, upsert(zip, sent, &frame)) else {
                unreachable!()
            };
            let admission = Admission { hold: true, floor: revision, ..admission };
            let body = Some(Body { summary: b"held", frame: &frame });
            list.push(&Op::Admit { id, admission, body });
        }
        5..8 => list.push(&write(id, zip, revision.0, &frame)),
        8 => list.push(&erase(id, zip, revision.0)),
        9 => {
            let moved_to = Some(zip);
            list.push(&Op::Erase { id, zip: ZIPS[0], revision, moved_to });
        }
        10 => list.push(&Op::Settle { id, revision }),
        _ => list.push(&Op::Sweep { collect_max: u32::MAX }),
    }
}

/// One change as the model knows it: seq, prev, id, ZIP, kind.
type ModelChange = (u64, u64, String, Zip, ChangeKind);

#[derive(Default)]
struct Model {
    registers: BTreeMap<String, (Register, TimeMs)>,
    held: BTreeMap<String, Vec<u8>>,
    suspects: BTreeSet<String>,
    rows: BTreeMap<(Zip, String), (Row, Vec<u8>)>,
    zip_seqs: BTreeMap<Zip, u64>,
    changes: Vec<ModelChange>,
    horizon: Revision,
    floor: Revision,
    register_horizon: TimeMs,
}

impl Model {
    fn apply(&mut self, stamp: &Stamp, op: Op<'_>) -> OpOutcome {
        match op {
            Op::Admit { id, admission, body } => self.admit(stamp, id, admission, body),
            Op::Write { id, zip, revision, digest, body } => {
                let row = self.rows.get(&(zip, id.to_string())).map(|(row, _)| *row);
                let (outcome, effect) = row::write(row, revision, digest, self.horizon);
                self.put(zip, id, row, effect, body.frame, None);
                OpOutcome::Written(outcome)
            }
            Op::Erase { id, zip, revision, moved_to } => {
                let row = self.rows.get(&(zip, id.to_string())).map(|(row, _)| *row);
                self.put(zip, id, row, row::erase(row, revision, stamp.clock), b"", moved_to);
                OpOutcome::Erased
            }
            Op::Settle { id, revision } => {
                let Some((register, touched)) = self.registers.get_mut(id) else {
                    return OpOutcome::Settled(Settled::NotCurrent);
                };
                let before = register.clone();
                let settled = register.settle(revision);
                if *register != before {
                    *touched = stamp.clock.max(*touched);
                }
                if settled == Settled::Done {
                    self.held.remove(id);
                }
                OpOutcome::Settled(settled)
            }
            Op::Sweep { .. } => self.sweep(stamp),
            Op::Quarantine { .. } | Op::Unquarantine { .. } | Op::ClearSuspect { .. } => {
                unreachable!("not among the random operations")
            }
        }
    }

    fn admit(
        &mut self,
        stamp: &Stamp,
        id: &str,
        admission: Admission,
        body: Option<Body<'_>>,
    ) -> OpOutcome {
        let (before, touched) = self.registers.get(id).cloned().unwrap_or_default();
        let mut register = before.clone();
        let context = Context {
            clock: stamp.clock,
            skew_ms: stamp.skew_ms,
            recreate: stamp.recreate,
            shard_floor: self.floor,
            register_horizon: self.register_horizon,
        };
        let admitted = register.admit(admission, &context);
        if admitted.suspect.is_some() {
            self.suspects.insert(id.to_string());
        }
        if !register.held {
            self.held.remove(id);
        } else if let (Some(body), Message::Upsert(m)) = (body, admission.message)
            && register.upsert.map(|u| u.version.digest) == Some(m.version.digest)
            && (!before.held || register.revision != before.revision)
        {
            self.held.insert(id.to_string(), body.frame.to_vec());
        }
        if register != before {
            self.registers.insert(id.to_string(), (register, touched.max(stamp.clock)));
        }
        OpOutcome::Admitted(admitted)
    }

    fn put(
        &mut self,
        zip: Zip,
        id: &str,
        was: Option<Row>,
        effect: row::Effect,
        frame: &[u8],
        moved_to: Option<Zip>,
    ) {
        let Some(put) = effect.put else { return };
        self.rows.insert((zip, id.to_string()), (put, frame.to_vec()));
        if !effect.is_change {
            return;
        }
        let kind = match (put.is_live(), was.is_some_and(|row| row.is_live()), moved_to) {
            (true, false, _) => ChangeKind::Created,
            (true, true, _) => ChangeKind::Updated,
            (false, _, None) => ChangeKind::Deleted,
            (false, _, Some(to)) => ChangeKind::Moved { to },
        };
        let seq = self.changes.len() as u64 + 1;
        let prev = self.zip_seqs.insert(zip, seq).unwrap_or(0);
        self.changes.push((seq, prev, id.to_string(), zip, kind));
    }

    fn sweep(&mut self, stamp: &Stamp) -> OpOutcome {
        self.horizon = row::horizon_after(self.horizon, stamp.clock);
        let remembered = stamp.clock.0.saturating_sub(stamp.tombstone_retention_ms);
        self.register_horizon = self.register_horizon.max(TimeMs(remembered));
        let before = self.rows.len() + self.registers.len();
        self.rows.retain(|_, (row, _)| !row::is_collectable(*row, self.horizon, stamp.clock));
        let (floor, horizon) = (&mut self.floor, self.register_horizon);
        self.registers.retain(|_, (register, touched)| {
            let stays = register.alive || register.is_unsettled() || *touched >= horizon;
            if !stays {
                *floor = (*floor).max(register.revision);
            }
            stays
        });
        let after = self.rows.len() + self.registers.len();
        OpOutcome::Swept { collected: (before - after) as u32, more: false }
    }

    fn check(&self, f: &Fixture, seed: u64) {
        let shard = &f.shard;
        let applied = shard.applied();
        assert_eq!(applied.seq, Seq(self.changes.len() as u64), "seed {seed}");
        let numbers = (applied.horizon, applied.floor, applied.register_horizon);
        assert_eq!(numbers, (self.horizon, self.floor, self.register_horizon), "seed {seed}");
        for id in IDS {
            let register = self.registers.get(id).map(|(register, _)| register.clone());
            assert_eq!(shard.register(id).unwrap(), register, "seed {seed} id {id}");
            for zip in ZIPS {
                let row = self.rows.get(&(zip, id.to_string()));
                let stored = shard.row(zip, id, true).unwrap();
                let stored = stored.map(|view| (view.row, view.frame));
                assert_eq!(stored.as_ref(), row, "seed {seed} id {id} zip {zip}");
            }
        }
        for zip in ZIPS {
            let live = |(_, (row, _)): &(&(Zip, String), &(Row, Vec<u8>))| row.is_live();
            let rows = self.rows.iter().filter(|((z, _), _)| *z == zip).filter(live);
            let (count, bytes) = rows.fold((0, 0), |(n, b), (_, (_, f))| (n + 1, b + f.len()));
            let state = shard.zip_state(zip).unwrap();
            assert_eq!((state.count, state.bytes), (count, bytes as u64), "seed {seed}");
            assert_eq!(state.seq.0, self.zip_seqs.get(&zip).copied().unwrap_or(0), "seed {seed}");
        }
        let unsettled: BTreeMap<String, Option<Vec<u8>>> = shard
            .unsettled(TimeMs(u64::MAX), None, 100)
            .unwrap()
            .into_iter()
            .map(|u| (u.id, u.held.map(|held| held.frame)))
            .collect();
        let registers = self.registers.iter().filter(|(_, (r, _))| r.is_unsettled());
        let expected: BTreeMap<String, Option<Vec<u8>>> =
            registers.map(|(id, _)| (id.clone(), self.held.get(id).cloned())).collect();
        assert_eq!(unsettled, expected, "seed {seed}");
        let suspects = shard.suspects(None, 100).unwrap();
        let known: BTreeSet<String> = suspects.into_iter().map(|(id, ..)| id).collect();
        assert!(self.suspects.is_subset(&known), "seed {seed}");
    }
}

fn changes_of(f: &Fixture) -> Vec<ModelChange> {
    let effects = f.shard.effects(0..u64::MAX, usize::MAX).unwrap();
    let changes = effects.into_iter().flat_map(|(_, effects)| effects.changes);
    changes.map(|c| (c.seq.0, c.prev.0, c.id, c.zip, c.kind)).collect()
}

#[test]
fn random_operations_do_what_the_naive_model_does() {
    let (mut expired, mut collected) = (0, 0);
    for seed in 0..12 {
        let mut f = Fixture::new();
        let mut model = Model::default();
        for body in random_entries(seed, 120) {
            let EntryBody::Command(payload) = &body else { unreachable!() };
            let Ok(command::Command::Ops { stamp, .. }) = command::decode(payload) else {
                unreachable!()
            };
            let ops = OpIter::new(&payload[command::OPS_HEAD_BYTES..]);
            let expected: Vec<OpOutcome> = ops.map(|op| model.apply(&stamp, op.unwrap())).collect();
            for outcome in &expected {
                match outcome {
                    OpOutcome::Written(WriteOutcome::Expired { .. }) => expired += 1,
                    OpOutcome::Swept { collected: n, .. } => collected += n,
                    _ => {}
                }
            }
            assert_eq!(f.push(body), Applied::Ops(expected), "seed {seed}");
        }
        model.check(&f, seed);
        assert_eq!(changes_of(&f), model.changes, "seed {seed}");
    }
    assert!(expired > 20 && collected > 100, "{expired} expired, {collected} collected");
}

#[test]
fn where_batches_of_entries_are_cut_makes_no_difference() {
    for seed in 100..106 {
        let (mut single, mut rng) = (Fixture::new(), StdRng::seed_from_u64(seed));
        for body in random_entries(seed, 100) {
            single.push(body);
        }
        let whole = Fixture::new();
        whole.shard.apply(single.log.clone()).unwrap();
        assert_eq!(whole.hash(), single.hash(), "seed {seed}");
        let random = Fixture::new();
        let mut rest = single.log.as_slice();
        while !rest.is_empty() {
            let (batch, tail) = rest.split_at(rng.random_range(1..=rest.len().min(12)));
            random.shard.apply(batch.to_vec()).unwrap();
            rest = tail;
        }
        assert_eq!(random.hash(), single.hash(), "seed {seed}");
        assert_eq!(changes_of(&random), changes_of(&single), "seed {seed}");
        assert_eq!(changes_of(&whole), changes_of(&single), "seed {seed}");
    }
}
