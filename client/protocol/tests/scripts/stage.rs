//! What a script acts on: one id, its register and rows, and routers that carry messages.

use std::collections::BTreeMap;
use std::fmt::Write;

use platbook_protocol::coordination::{Answer, Coordination, Step, Verdict};
use platbook_protocol::read_by_id::{ReadById, ReadStep, Reading};
use platbook_protocol::register::{
    Admission, Context, Decision, Label, Message, Recreate, Register, Settled, Upsert, Version,
};
use platbook_protocol::row::{self, Effect, Row, WriteOutcome};
use platbook_protocol::rpc::RegisterView;
use platbook_protocol::{Digest, Revision, TimeMs, Zip};

/// Steps after which a script is taken to run in a circle.
const STEPS_MAX: usize = 100;

pub(crate) struct Stage {
    clock: TimeMs,
    skew_ms: u64,
    recreate: Recreate,
    register_horizon: TimeMs,
    /// The operator's sequence takes the place of both clocks.
    sequenced: bool,
    register: Register,
    rows: BTreeMap<Zip, Row>,
    horizon: Revision,
    routers: BTreeMap<String, Coordination>,
    /// Bodies by digest, for reading.
    bodies: BTreeMap<Digest, String>,
}

impl Default for Stage {
    fn default() -> Stage {
        Stage {
            clock: TimeMs(1000),
            skew_ms: 300_000,
            recreate: Recreate::BothClocks,
            register_horizon: TimeMs(0),
            sequenced: false,
            register: Register::default(),
            rows: BTreeMap::new(),
            horizon: Revision(0),
            routers: BTreeMap::new(),
            bodies: BTreeMap::new(),
        }
    }
}

/// The words of a command: `key=value` pairs by key, and the others in order.
struct Words<'a> {
    plain: Vec<&'a str>,
    pairs: BTreeMap<&'a str, &'a str>,
}

impl<'a> Words<'a> {
    fn of(line: &'a str) -> Words<'a> {
        let (pairs, plain): (Vec<_>, Vec<_>) =
            line.split_whitespace().partition(|word| word.contains('='));
        let pairs = pairs.into_iter().filter_map(|word| word.split_once('=')).collect();
        Words { plain, pairs }
    }

    fn number(&self, key: &str) -> Result<Option<u64>, String> {
        let Some(text) = self.pairs.get(key) else { return Ok(None) };
        text.parse().map(Some).map_err(|e| format!("{key}: {e}"))
    }
}

impl Stage {
    pub(crate) fn run(&mut self, line: &str, trace: &mut String) -> Result<(), String> {
        let words = Words::of(line);
        let (command, rest) = words.plain.split_first().ok_or("an empty command")?;
        match (*command, rest) {
            ("settings", []) => self.settings(&words)?,
            ("clock", [ms]) => self.clock = TimeMs(ms.parse().map_err(|e| format!("{e}"))?),
            ("deliver", [kind]) => {
                let mut coordination = self.delivery(kind, &words)?;
                self.finish(&mut coordination, trace)?;
            }
            ("begin", [router, kind]) => {
                let coordination = self.delivery(kind, &words)?;
                self.routers.insert((*router).into(), coordination);
            }
            ("step", [router]) => {
                let mut coordination = self.take(router)?;
                self.step(&mut coordination, trace);
                self.routers.insert((*router).into(), coordination);
            }
            ("finish", [router]) => {
                let mut coordination = self.take(router)?;
                self.finish(&mut coordination, trace)?;
            }
            ("crash", [router]) => {
                self.take(router)?;
            }
            ("sweeper", []) => match Coordination::finishing(&self.register) {
                Some(coordination) => self.sweep_up(coordination, trace),
                None => *trace += "nothing is unsettled\n",
            },
            ("sweep", []) => self.sweep(trace),
            ("read", []) => self.read(trace)?,
            ("rows", []) => self.print_rows(trace),
            ("register", []) => self.print_register(trace),
            ("zip", [code]) => put(trace, format_args!("{}", Zip::normalise(Some(code)))),
            ("zip", []) => put(trace, format_args!("{}", Zip::normalise(None))),
            (other, _) => return Err(format!("no such command: {other}")),
        }
        Ok(())
    }

    fn settings(&mut self, words: &Words<'_>) -> Result<(), String> {
        for (key, value) in &words.pairs {
            match (*key, *value) {
                ("recreate", "both_clocks") => self.recreate = Recreate::BothClocks,
                ("recreate", "queue_time") => self.recreate = Recreate::QueueTime,
                ("ordering", "sequenced") => (self.sequenced, self.skew_ms) = (true, 0),
                ("skew_ms", _) => self.skew_ms = words.number(key)?.unwrap_or_default(),
                ("register_horizon", _) => {
                    self.register_horizon = TimeMs(words.number(key)?.unwrap_or_default());
                }
                (other, _) => return Err(format!("no such setting: {other}")),
            }
        }
        Ok(())
    }

    fn delivery(&mut self, kind: &str, words: &Words<'_>) -> Result<Coordination, String> {
        let queued = TimeMs(words.number("sent")?.ok_or("sent is missing")?);
        let sequence = words.number("sequence")?.map(TimeMs);
        let sent = sequence.filter(|_| self.sequenced).unwrap_or(queued);
        let message = match kind {
            "delete" => Message::Delete { sent },
            "upsert" => {
                let modified = words.number("modified")?.map(TimeMs);
                let raw = format!("{modified:?}");
                let modified = modified.filter(|_| !self.sequenced).unwrap_or(sent);
                let zip = Zip::normalise(words.pairs.get("zip").copied());
                let body = *words.pairs.get("body").ok_or("body is missing")?;
                let hash = blake3::hash(format!("{zip} {raw} {body}").as_bytes());
                let digest = Digest(*hash.as_bytes().first_chunk().expect("a hash has 32 bytes"));
                self.bodies.insert(digest, body.into());
                Message::Upsert(Upsert { version: Version { modified, sent, digest }, zip })
            }
            other => return Err(format!("no such message: {other}")),
        };
        let if_match = words.number("if_match")?.map(Revision);
        let hold = words.pairs.get("hold") == Some(&"true");
        Ok(Coordination::new(Admission { message, queued, floor: Revision(0), if_match, hold }))
    }

    fn take(&mut self, router: &str) -> Result<Coordination, String> {
        self.routers.remove(router).ok_or_else(|| format!("{router} carries nothing"))
    }

    fn finish(&mut self, carried: &mut Coordination, trace: &mut String) -> Result<(), String> {
        for _ in 0..STEPS_MAX {
            let last = matches!(carried.next(), Step::Finished(_));
            self.step(carried, trace);
            if last {
                return Ok(());
            }
        }
        Err("no end".into())
    }

    /// As [`Stage::finish`], with no other body than the one that the register holds.
    fn sweep_up(&mut self, mut carried: Coordination, trace: &mut String) {
        while !matches!(carried.next(), Step::Finished(_)) {
            if matches!(carried.next(), Step::Write { .. }) && !self.register.held {
                *trace += "half written: to be listed as a suspect\n";
                return;
            }
            self.step(&mut carried, trace);
        }
    }

    fn step(&mut self, carried: &mut Coordination, trace: &mut String) {
        let answer = match carried.next() {
            Step::Admit(admission) => self.admit(admission, trace),
            Step::CheckRow { zip } => {
                let row = self.rows.get(&zip).copied();
                put(trace, format_args!("look at {zip}: {}", self.show(row)));
                Answer::Row(row)
            }
            Step::Write { zip, revision, digest } => {
                let row = self.rows.get(&zip).copied();
                let (outcome, effect) = row::write(row, revision, digest, self.horizon);
                let told = match outcome {
                    WriteOutcome::Done => "done".into(),
                    WriteOutcome::Superseded => "superseded".into(),
                    WriteOutcome::Expired { horizon } => format!("expired below {}", at(horizon)),
                };
                let change = self.apply(zip, effect);
                put(trace, format_args!("write {zip} {}: {told}{change}", at(revision)));
                Answer::Written(outcome)
            }
            Step::Erase { zip, revision, .. } => {
                let effect = row::erase(self.rows.get(&zip).copied(), revision, self.clock);
                let change = self.apply(zip, effect);
                put(trace, format_args!("erase {zip} {}: done{change}", at(revision)));
                Answer::Erased
            }
            Step::Settle { revision } | Step::Release { revision, .. } => {
                let settled = self.register.settle(revision);
                let told = match settled {
                    Settled::Done => "done",
                    Settled::NotCurrent => "not current",
                };
                put(trace, format_args!("settle {}: {told}", at(revision)));
                Answer::Settled(settled)
            }
            Step::Finished(verdict) => {
                return put(trace, format_args!("{}", show_verdict(verdict)));
            }
        };
        carried.on(answer).expect("the stage answers what was asked");
    }

    fn admit(&mut self, admission: Admission, trace: &mut String) -> Answer {
        let context = Context {
            clock: self.clock,
            skew_ms: self.skew_ms,
            recreate: self.recreate,
            shard_floor: Revision(0),
            register_horizon: self.register_horizon,
        };
        let admitted = self.register.admit(admission, &context);
        let label = show_label(admitted.label);
        let suspect = admitted.suspect.map_or(String::new(), |why| format!(", suspect: {why:?}"));
        let decision = match &admitted.decision {
            Decision::TooOld => "too old".into(),
            Decision::Settled { revision } => format!("nothing to do {}", at(*revision)),
            Decision::Busy => "busy".into(),
            Decision::CheckRow { zip, revision } => format!("look at {zip} {}", at(*revision)),
            Decision::PreconditionFailed { revision } => format!("refused {}", at(*revision)),
            Decision::Do { revision, target, erase, settle } => {
                let target = target.map_or("nothing".into(), |zip| format!("{zip}"));
                let erase: Vec<String> = erase.iter().map(|zip| format!(" erase {zip}")).collect();
                let settle = if *settle { " settle" } else { "" };
                format!("write {target}{}{settle} {}", erase.concat(), at(*revision))
            }
        };
        put(trace, format_args!("admit: {label}{suspect}: {decision}"));
        Answer::Admitted(admitted)
    }

    fn apply(&mut self, zip: Zip, effect: Effect) -> &'static str {
        if let Some(row) = effect.put {
            self.rows.insert(zip, row);
        }
        match (effect.put.is_some(), effect.is_change) {
            (_, true) => ", a change",
            (true, false) => ", no change",
            (false, false) => ", nothing new",
        }
    }

    fn sweep(&mut self, trace: &mut String) {
        self.horizon = row::horizon_after(self.horizon, self.clock);
        let (horizon, clock) = (self.horizon, self.clock);
        let before = self.rows.len();
        self.rows.retain(|_, row| !row::is_collectable(*row, horizon, clock));
        let collected = before - self.rows.len();
        put(trace, format_args!("horizon {}, {collected} markers collected", at(horizon)));
    }

    fn read(&mut self, trace: &mut String) -> Result<(), String> {
        let mut read = ReadById::new();
        for _ in 0..STEPS_MAX {
            match read.next() {
                ReadStep::ReadRegister => read.on_register(Some(RegisterView {
                    alive: self.register.alive,
                    zip: self.register.zip,
                    revision: self.register.revision,
                    died: self.register.died,
                    old: self.register.old.iter().copied().collect(),
                })),
                ReadStep::ReadRow { zip } => {
                    read.on_row(self.rows.get(&zip).copied());
                }
                ReadStep::Finished(Reading::Found { zip, .. }) => {
                    put(trace, format_args!("{zip}: {}", self.show(self.rows.get(&zip).copied())));
                    return Ok(());
                }
                ReadStep::Finished(Reading::NotFound) => {
                    *trace += "not found\n";
                    return Ok(());
                }
            }
        }
        *trace += "no answer before the deadline\n";
        Ok(())
    }

    fn print_rows(&self, trace: &mut String) {
        for (zip, row) in &self.rows {
            put(trace, format_args!("{zip}: {}", self.show(Some(*row))));
        }
        if self.rows.is_empty() {
            *trace += "no rows\n";
        }
    }

    fn print_register(&self, trace: &mut String) {
        let Register { alive, zip, old, held, .. } = &self.register;
        let zip = zip.map_or("none".into(), |zip| format!("{zip}"));
        let old: Vec<String> = old.iter().map(|zip| format!("{zip}")).collect();
        let state = if *alive { "alive" } else { "dead" };
        let (old, held) = (old.join(","), if *held { ", held" } else { "" });
        put(
            trace,
            format_args!("{state} in {zip} {}, old [{old}]{held}", at(self.register.revision)),
        );
    }

    fn show(&self, row: Option<Row>) -> String {
        match row {
            None => "nothing".into(),
            Some(Row::Marker { revision, .. }) => format!("marker {}", at(revision)),
            Some(Row::Live { revision, digest }) => {
                let body = self.bodies.get(&digest).map_or("?", String::as_str);
                format!("{body} {}", at(revision))
            }
        }
    }
}

fn put(trace: &mut String, line: std::fmt::Arguments<'_>) {
    writeln!(trace, "{line}").expect("a string takes everything");
}

/// A revision as its milliseconds and its number within them.
fn at(revision: Revision) -> String {
    format!("@{}.{}", revision.0 >> 16, revision.0 & 0xffff)
}

fn show_label(label: Label) -> &'static str {
    match label {
        Label::Applied => "applied",
        Label::Unchanged => "unchanged",
        Label::Duplicate => "duplicate",
        Label::Stale => "stale",
        Label::Suspect => "suspect",
    }
}

fn show_verdict(verdict: Verdict) -> String {
    match verdict {
        Verdict::Acknowledge { label, revision } => {
            format!("acknowledged: {} {}", show_label(label), at(revision))
        }
        Verdict::Busy => "left in the queue".into(),
        Verdict::TooOld => "quarantined: too_old".into(),
        Verdict::PreconditionFailed { revision } => format!("refused: current {}", at(revision)),
    }
}
