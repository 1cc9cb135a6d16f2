//! Where all that happens is written down, judged at once, and added to the trace.

mod event;

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use platbook_node::Witness;
use platbook_protocol::{ReplicaId, ShardId};
use xxhash_rust::xxh3::Xxh3Default;

pub(crate) use event::{Event, Who};

use crate::invariants::{self, Invariant};
use crate::world;

/// Violations that are kept; one is enough to fail.
const KEPT_MAX: usize = 20;

/// The board of one run. Clones are the same one.
#[derive(Clone)]
pub(crate) struct Board(Arc<Mutex<Inner>>);

struct Inner {
    trace: Xxh3Default,
    events: u64,
    file: Option<BufWriter<File>>,
    invariants: Vec<Box<dyn Invariant>>,
    violations: Vec<String>,
    /// How often something was reached: faults done, states seen.
    reached: BTreeMap<String, u64>,
}

impl Board {
    /// An empty one, with all invariants; `file` gets every event as a line.
    pub(crate) fn new(nodes: u64, file: Option<File>) -> Board {
        Board(Arc::new(Mutex::new(Inner {
            trace: Xxh3Default::new(),
            events: 0,
            file: file.map(BufWriter::new),
            invariants: invariants::all(nodes),
            violations: Vec::new(),
            reached: BTreeMap::new(),
        })))
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes an event: into the trace, and before every invariant.
    pub(crate) fn take(&self, event: &Event) {
        let line = format!("{:>8} {event}\n", world::now_ms());
        let mut inner = self.inner();
        inner.events += 1;
        inner.trace.update(line.as_bytes());
        if let Some(file) = &mut inner.file {
            file.write_all(line.as_bytes()).expect("the trace can be written");
        }
        let mut found = Vec::new();
        for invariant in &mut inner.invariants {
            if let Err(what) = invariant.see(event) {
                found.push(format!("{}: {what}", invariant.name()));
            }
        }
        drop(inner);
        found.into_iter().for_each(|what| self.violated(what));
    }

    /// Something that must never be.
    pub(crate) fn violated(&self, what: String) {
        let what = format!("at {} ms: {what}", world::now_ms());
        let mut inner = self.inner();
        if let Some(file) = &mut inner.file {
            // What is written down already is of use even if the disk is full now.
            let _ = writeln!(file, "VIOLATED {what}");
        }
        if inner.violations.len() < KEPT_MAX {
            inner.violations.push(what);
        }
    }

    /// Counts that something was reached.
    pub(crate) fn reached(&self, what: &str) {
        *self.inner().reached.entry(what.to_string()).or_default() += 1;
    }

    pub(crate) fn violations(&self) -> Vec<String> {
        self.inner().violations.clone()
    }

    pub(crate) fn is_violated(&self) -> bool {
        !self.inner().violations.is_empty()
    }

    /// Events, a hash of all of them in their order, and what was reached.
    pub(crate) fn end(&self) -> (u64, u64, BTreeMap<String, u64>) {
        let mut inner = self.inner();
        if let Some(file) = &mut inner.file {
            file.flush().expect("the trace can be written");
        }
        (inner.events, inner.trace.digest(), inner.reached.clone())
    }
}

impl Witness for Board {
    fn leads(&self, shard: ShardId, replica: ReplicaId, term: u64, last: u64) {
        self.take(&Event::Leads { who: (shard, replica), term, last });
    }

    fn appends(&self, shard: ShardId, replica: ReplicaId, term: u64, index: u64, digest: u64) {
        self.take(&Event::Appends { who: (shard, replica), term, index, digest });
    }

    fn synced(&self, shard: ShardId, replica: ReplicaId, index: u64) {
        self.take(&Event::Synced { who: (shard, replica), index });
    }

    fn applies(&self, shard: ShardId, replica: ReplicaId, term: u64, index: u64, digest: u64) {
        self.take(&Event::Applies { who: (shard, replica), term, index, digest });
    }

    fn installs(&self, shard: ShardId, replica: ReplicaId, index: u64) {
        self.reached("snapshot installed");
        self.take(&Event::Installs { who: (shard, replica), index });
    }
}
