//! Sweep: horizons move on, and what they let go is collected.
//!
//! The time index says what may be due, in the order of time; the row or register itself decides.

use platbook_protocol::TimeMs;
use platbook_protocol::op::{OpOutcome, Stamp};
use platbook_protocol::register::Suspicion;
use platbook_protocol::row::{self, MARKER_RETENTION_MS};

use super::Applying;
use crate::error::StoreError;
use crate::store::key::{self, Due, DueKind, Key, KeyRange};
use crate::store::value::list::{decode_swept, encode_swept};

/// Keys of the time index looked at in one go.
const PAGE: usize = 512;
/// An unsettled listing whose body nobody holds is listed as half-written after this long; the
/// leader's sweeper had its chances, and so had the queue.
const HALF_WRITTEN_AFTER_MS: u64 = 10 * 60 * 1000;

/// What is left of a sweep's allowance.
struct Allowance {
    collected: u32,
    max: u32,
}

impl Allowance {
    fn is_spent(&self) -> bool {
        self.collected >= self.max
    }
}

impl Applying<'_> {
    pub(super) fn sweep(
        &mut self,
        stamp: &Stamp,
        collect_max: u32,
    ) -> Result<OpOutcome, StoreError> {
        let clock = stamp.clock;
        let remembered = TimeMs(clock.0.saturating_sub(stamp.tombstone_retention_ms));
        self.state.horizon = row::horizon_after(self.state.horizon, clock);
        self.state.register_horizon = self.state.register_horizon.max(remembered);

        let mut allowance = Allowance { collected: 0, max: collect_max };
        let markers = TimeMs(clock.0.saturating_sub(MARKER_RETENTION_MS));
        let mut more = self.collect(DueKind::Marker, markers, clock, &mut allowance)?;
        let registers = self.state.register_horizon;
        more |= self.collect(DueKind::Dead, registers, clock, &mut allowance)?;
        self.list_half_written(clock)?;
        Ok(OpOutcome::Swept { collected: allowance.collected, more })
    }

    /// Collects what is due before `before`; tells whether the allowance stopped it.
    fn collect(
        &mut self,
        kind: DueKind,
        before: TimeMs,
        clock: TimeMs,
        allowance: &mut Allowance,
    ) -> Result<bool, StoreError> {
        let mut range = key::due_range(self.shard, kind, before);
        loop {
            let page = self.overlay.keys(&range, PAGE)?;
            for bytes in &page {
                if allowance.is_spent() {
                    return Ok(true);
                }
                let Key::Due(_, due) = key::decode_stored(bytes)? else { continue };
                if self.collect_one(due, clock)? {
                    allowance.collected += 1;
                }
            }
            match page.last() {
                Some(last) if page.len() == PAGE => range.lower = behind(last),
                Some(_) | None => return Ok(false),
            }
        }
    }

    /// Collects one marker or dead register; `false` if it has to stay.
    fn collect_one(&mut self, due: Due<'_>, clock: TimeMs) -> Result<bool, StoreError> {
        match due {
            Due::Marker { zip, id, .. } => {
                let Some(known) = self.overlay.row(zip, id)? else { return Ok(false) };
                if !row::is_collectable(known.row, self.state.horizon, clock) {
                    return Ok(false);
                }
                self.overlay.delete(&Key::Row(zip, id));
                // Whoever has not read this change by now cannot be told of it any more.
                self.state.markers_behind = self.state.markers_behind.max(known.seq);
            }
            Due::Dead { id, .. } => {
                let Some(record) = self.register(id)? else { return Ok(false) };
                // Ids that are unknown from now on start above everything they ever were.
                self.state.floor = self.state.floor.max(record.register.revision);
                self.overlay.delete(&Key::Register(id));
            }
            Due::Unsettled { .. } => return Ok(false),
        }
        self.overlay.delete(&Key::Due(self.shard, due));
        Ok(true)
    }

    /// Puts listings that stay unsettled, and whose body nobody holds, on the suspects list.
    fn list_half_written(&mut self, clock: TimeMs) -> Result<(), StoreError> {
        let before = TimeMs(clock.0.saturating_sub(HALF_WRITTEN_AFTER_MS));
        let mut range = key::due_range(self.shard, DueKind::Unsettled, before);
        if let Some((touched, id)) = self.overlay.get(&Key::Swept(self.shard), decode_swept)? {
            let seen = Key::Due(self.shard, Due::Unsettled { touched, id: &id }).encode();
            range.lower = range.lower.max(behind(&seen));
        }
        self.list_half_written_in(&range, clock)
    }

    fn list_half_written_in(&mut self, range: &KeyRange, clock: TimeMs) -> Result<(), StoreError> {
        let page = self.overlay.keys(range, PAGE)?;
        for bytes in &page {
            let Key::Due(_, Due::Unsettled { touched, id }) = key::decode_stored(bytes)? else {
                continue;
            };
            let register = self.register(id)?.unwrap_or_default().register;
            if register.alive && !register.held {
                self.put_suspect(id, Suspicion::HalfWritten, clock)?;
            }
            self.overlay.put(&Key::Swept(self.shard), encode_swept(touched, id));
        }
        Ok(())
    }
}

/// The first key behind this one.
fn behind(key: &[u8]) -> Vec<u8> {
    [key, &[0]].concat()
}
