//! The state of a stopped node, as its files have it, for people. Nothing is written: what only
//! the log has is not there.

use std::collections::BTreeMap;
use std::path::Path;

use platbook_protocol::register::Register;
use platbook_protocol::row::Row;
use platbook_protocol::{ShardId, TimeMs, Zip};

use super::db::{Access, Db};
use super::key::{self, Key};
use super::shard::read;
use super::value::register::RegisterRecord;
use super::value::row::RowRecord;
use crate::error::StoreError;

/// One key of the one ordered key space.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedKey {
    /// What it is: `register`, `row`, `state`, ...
    pub kind: &'static str,
    /// Its shard, where the key says so; others belong to the shard that owns their slot.
    pub shard: Option<ShardId>,
    /// What stands in the key behind that, for people.
    pub text: String,
    /// Bytes of the key.
    pub key_bytes: usize,
    /// Bytes of the value.
    pub value_bytes: usize,
}

/// Keys of one kind.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct KeyTotals {
    /// How many.
    pub keys: u64,
    /// Bytes of keys and values.
    pub bytes: u64,
}

/// An id: its register, when that last moved, and what stands where it may have rows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InspectedId {
    /// What is decided.
    pub register: Register,
    /// The proposer's clock when it last moved.
    pub touched: TimeMs,
    /// Rows and markers at its home and wherever it may still have to be erased.
    pub rows: Vec<(Zip, Row)>,
}

/// A store that is only read.
#[derive(Clone, Debug)]
pub struct Inspection {
    db: Db,
}

impl Inspection {
    /// Opens the store in `path`, which nobody has open for writing.
    pub fn open(path: &Path) -> Result<Inspection, StoreError> {
        Ok(Inspection { db: Db::open_to_read(&path.join(super::node::DB_DIR))? })
    }

    /// Hands keys to `visit`, in order, until it gives `false`.
    pub fn keys(&self, mut visit: impl FnMut(InspectedKey) -> bool) -> Result<(), StoreError> {
        let all = key::everything();
        let mut cursor = self.db.cursor(&all.lower, &all.upper, Access::Bulk)?;
        while let Some((bytes, value)) = cursor.entry() {
            let stored = key::decode_stored(bytes)?;
            let (kind, shard, text) = shown(&stored);
            let (key_bytes, value_bytes) = (bytes.len(), value.len());
            if !visit(InspectedKey { kind, shard, text, key_bytes, value_bytes }) {
                break;
            }
            cursor.advance()?;
        }
        Ok(())
    }

    /// Keys and bytes by kind.
    pub fn totals(&self) -> Result<BTreeMap<&'static str, KeyTotals>, StoreError> {
        let mut totals: BTreeMap<&'static str, KeyTotals> = BTreeMap::new();
        self.keys(|key| {
            let of_kind = totals.entry(key.kind).or_default();
            of_kind.keys += 1;
            of_kind.bytes += (key.key_bytes + key.value_bytes) as u64;
            true
        })?;
        Ok(totals)
    }

    /// What is known of an id; `None` if nothing is, or if it belongs to another node's shards.
    pub fn id(&self, id: &str) -> Result<Option<InspectedId>, StoreError> {
        let Some(RegisterRecord { register, touched }) =
            read(&self.db, &Key::Register(id), RegisterRecord::decode)?
        else {
            return Ok(None);
        };
        let upsert = register.upsert.map(|upsert| upsert.zip);
        let mut zips: Vec<Zip> =
            register.zip.into_iter().chain(upsert).chain(register.old.iter().copied()).collect();
        zips.sort_unstable();
        zips.dedup();
        let mut rows = Vec::new();
        for zip in zips {
            let row = |value: &[u8]| RowRecord::decode(value).map(|(record, _)| record.row);
            if let Some(row) = read(&self.db, &Key::Row(zip, id), row)? {
                rows.push((zip, row));
            }
        }
        Ok(Some(InspectedId { register, touched, rows }))
    }
}

fn shown(key: &Key<'_>) -> (&'static str, Option<ShardId>, String) {
    let none = String::new;
    match *key {
        Key::State(shard) => ("state", Some(shard), none()),
        Key::Membership(shard) => ("membership", Some(shard), none()),
        Key::Effects(shard, index) => ("effects", Some(shard), format!("index {index}")),
        Key::Replica(shard) => ("replica", Some(shard), none()),
        Key::Due(shard, due) => ("due", Some(shard), format!("{due:?}")),
        Key::Swept(shard) => ("swept", Some(shard), none()),
        Key::Map(shard) => ("map", Some(shard), none()),
        Key::Dictionary(shard, id) => ("dictionary", Some(shard), id.to_string()),
        Key::Setting(shard, name) => ("setting", Some(shard), name.to_string()),
        Key::Register(id) => ("register", None, id.to_string()),
        Key::Row(zip, id) => ("row", None, format!("{zip} {id}")),
        Key::Zip(zip) => ("zip", None, zip.to_string()),
        Key::Quarantine(id) => ("quarantine", None, id.to_string()),
        Key::Suspect(id) => ("suspect", None, id.to_string()),
        Key::Held(id) => ("held", None, id.to_string()),
    }
}
