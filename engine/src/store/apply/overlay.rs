//! What a batch is about to write, over what is stored: operations read what earlier operations
//! of the same batch wrote.

use std::collections::BTreeMap;

use platbook_protocol::row::Row;
use platbook_protocol::{Seq, Zip};

use crate::error::StoreError;
use crate::store::db::{Access, Batch, Db};
use crate::store::key::{Key, KeyRange};
use crate::store::layout::LayoutError;
use crate::store::value::row::RowRecord;

/// Pending writes in key order, so that the batch is the same on every replica.
pub(super) struct Overlay<'a> {
    db: &'a Db,
    pending: BTreeMap<Vec<u8>, Pending<'a>>,
}

enum Pending<'a> {
    Put(Vec<u8>),
    /// The frame is a slice of the log entry.
    PutRow {
        head: Vec<u8>,
        frame: &'a [u8],
    },
    Delete,
}

/// A row as it stands before an operation.
#[derive(Clone, Debug)]
pub(super) struct KnownRow {
    pub(super) row: Row,
    pub(super) seq: Seq,
    pub(super) summary: Vec<u8>,
    pub(super) frame_bytes: u64,
}

impl<'a> Overlay<'a> {
    pub(super) fn new(db: &'a Db) -> Overlay<'a> {
        Overlay { db, pending: BTreeMap::new() }
    }

    /// Hands the value of `key` to `read`. Rows are read with [`Overlay::row`].
    pub(super) fn get<T>(
        &self,
        key: &Key<'_>,
        read: impl FnOnce(&[u8]) -> Result<T, LayoutError>,
    ) -> Result<Option<T>, StoreError> {
        let bytes = key.encode();
        let found = match self.pending.get(&bytes) {
            Some(Pending::Put(value)) => Some(read(value)),
            Some(Pending::PutRow { head, .. }) => Some(read(head)),
            Some(Pending::Delete) => None,
            None => self.db.get(&bytes, read)?,
        };
        found.transpose().map_err(|source| key.corrupt(source))
    }

    pub(super) fn row(&self, zip: Zip, id: &str) -> Result<Option<KnownRow>, StoreError> {
        let key = Key::Row(zip, id);
        let pending_bytes = match self.pending.get(&key.encode()) {
            Some(Pending::PutRow { frame, .. }) => frame.len(),
            Some(Pending::Put(_) | Pending::Delete) | None => 0,
        };
        self.get(&key, |value| {
            let (record, frame) = RowRecord::decode(value)?;
            Ok(KnownRow {
                row: record.row,
                seq: record.seq,
                summary: record.summary.to_vec(),
                frame_bytes: (frame.len() + pending_bytes) as u64,
            })
        })
    }

    pub(super) fn put(&mut self, key: &Key<'_>, value: Vec<u8>) {
        self.pending.insert(key.encode(), Pending::Put(value));
    }

    pub(super) fn put_row(&mut self, zip: Zip, id: &str, record: &RowRecord<'_>, frame: &'a [u8]) {
        let pending = Pending::PutRow { head: record.encode_head(), frame };
        self.pending.insert(Key::Row(zip, id).encode(), pending);
    }

    pub(super) fn delete(&mut self, key: &Key<'_>) {
        self.pending.insert(key.encode(), Pending::Delete);
    }

    /// Up to `max` keys of the range, in order. Pending keys are merged in: what a sweep finds
    /// must not depend on where batches were cut.
    pub(super) fn keys(&self, range: &KeyRange, max: usize) -> Result<Vec<Vec<u8>>, StoreError> {
        let mut keys = Vec::new();
        if range.lower >= range.upper {
            return Ok(keys);
        }
        let mut stored = self.db.cursor(&range.lower, &range.upper, Access::Serve)?;
        let mut pending = self.pending.range(range.lower.clone()..range.upper.clone()).peekable();
        while keys.len() < max {
            let next_stored = stored.entry().map(|(key, _)| key);
            let (key, from_stored) = match (next_stored, pending.peek()) {
                (None, None) => break,
                (Some(key), Some((overlaid, _))) if key < overlaid.as_slice() => (key, true),
                (Some(key), None) => (key, true),
                (found, Some((overlaid, _))) => {
                    (overlaid.as_slice(), found == Some(overlaid.as_slice()))
                }
            };
            let key = key.to_vec();
            let deleted = match pending.next_if(|(overlaid, _)| **overlaid == key) {
                Some((_, Pending::Delete)) => true,
                Some((_, Pending::Put(_) | Pending::PutRow { .. })) | None => false,
            };
            if from_stored {
                stored.advance()?;
            }
            if !deleted {
                keys.push(key);
            }
        }
        Ok(keys)
    }

    /// Everything pending, as one batch.
    pub(super) fn into_batch(self) -> Batch {
        let mut batch = Batch::default();
        let mut value = Vec::new();
        for (key, pending) in self.pending {
            match pending {
                Pending::Put(value) => batch.put(&key, &value),
                Pending::Delete => batch.delete(&key),
                Pending::PutRow { head, frame } => {
                    // RocksDB wants a value in one piece.
                    value.clear();
                    value.extend_from_slice(&head);
                    value.extend_from_slice(frame);
                    batch.put(&key, &value);
                }
            }
        }
        batch
    }
}
