//! What entries changed, by log index: the map from the change stream into the log.

use platbook_protocol::Seq;

use super::db::{Access, Batch, KeyValue};
use super::key::{self, Key};
use super::shard::ShardStore;
use super::value::effects::Effects;
use crate::error::StoreError;

impl ShardStore {
    /// The effects of entries `first..end` that changed anything, in order, at most `limit`. A
    /// replica has those of the entries that it applied itself and has not trimmed.
    pub fn effects(
        &self,
        range: std::ops::Range<u64>,
        limit: usize,
    ) -> Result<Vec<(u64, Effects)>, StoreError> {
        let mut found = Vec::new();
        if range.is_empty() {
            return Ok(found);
        }
        let range = key::effects_range(self.inner.shard, range.start, range.end);
        let mut cursor = self.inner.db().cursor(&range.lower, &range.upper, Access::Serve)?;
        while let Some((bytes, value)) = cursor.entry()
            && found.len() < limit
        {
            let stored = key::decode_stored(bytes)?;
            if let Key::Effects(_, index) = stored {
                let effects = Effects::decode(value).map_err(|source| stored.corrupt(source))?;
                found.push((index, effects));
            }
            cursor.advance()?;
        }
        Ok(found)
    }

    /// The first change of the entries from index `first` on, if any has one.
    pub fn first_change(&self, first: u64) -> Result<Option<Seq>, StoreError> {
        let range = key::effects_range(self.inner.shard, first, u64::MAX);
        let cursor = self.inner.db().cursor(&range.lower, &range.upper, Access::Serve)?;
        Ok(first_seq_here(cursor.entry())?.map(|(_, seq)| seq))
    }

    /// The indexes of entries from `first` on that changed anything, at most `limit`: what
    /// [`ShardStore::effects`] would give, without reading it.
    pub fn changing_entries(&self, first: u64, limit: usize) -> Result<Vec<u64>, StoreError> {
        let range = key::effects_range(self.inner.shard, first, u64::MAX);
        let mut cursor = self.inner.db().cursor(&range.lower, &range.upper, Access::Serve)?;
        let mut found = Vec::new();
        while let Some((bytes, _)) = cursor.entry()
            && found.len() < limit
        {
            if let Key::Effects(_, index) = key::decode_stored(bytes)? {
                found.push(index);
            }
            cursor.advance()?;
        }
        Ok(found)
    }

    /// The log index of the entry that made change `seq`, if its effects are still here.
    pub fn index_of_change(&self, seq: Seq) -> Result<Option<u64>, StoreError> {
        // Read before the cursor is opened, so that the cursor has all that it counts.
        let newest = self.applied().seq;
        let range = key::effects_range(self.inner.shard, 0, u64::MAX);
        let mut cursor = self.inner.db().cursor(&range.lower, &range.upper, Access::Serve)?;
        let Some((mut low, first)) = first_seq_here(cursor.entry())? else { return Ok(None) };
        if seq < first || seq > newest {
            return Ok(None);
        }
        cursor.seek_to_last()?;
        let Some((last, last_first)) = first_seq_here(cursor.entry())? else { return Ok(None) };
        if seq >= last_first {
            return Ok(Some(last));
        }
        // Invariant: the entry at `low` begins at or before `seq`, anything from `high` on behind.
        let mut high = last;
        while low + 1 < high {
            let middle = low + (high - low) / 2;
            cursor.seek(&Key::Effects(self.inner.shard, middle).encode())?;
            match first_seq_here(cursor.entry())? {
                Some((index, first)) if first <= seq => low = index,
                Some(_) | None => high = middle,
            }
        }
        Ok(Some(low))
    }

    /// Forgets the effects of entries below `index`; goes with the purge of the log.
    pub fn trim_effects(&self, index: u64) -> Result<(), StoreError> {
        let range = key::effects_range(self.inner.shard, 0, index);
        let mut batch = Batch::default();
        batch.delete_range(&range.lower, &range.upper);
        self.inner.db().write(batch)
    }
}

fn first_seq_here(entry: Option<KeyValue<'_>>) -> Result<Option<(u64, Seq)>, StoreError> {
    let Some((bytes, value)) = entry else { return Ok(None) };
    let stored = key::decode_stored(bytes)?;
    let Key::Effects(_, index) = stored else { return Ok(None) };
    let seq = Effects::decode_first_seq(value).map_err(|source| stored.corrupt(source))?;
    Ok(Some((index, seq)))
}
