//! What one row accepts: only greater revisions, and nothing below the horizon.
//!
//! An erase always leaves a marker, also where no row is, so that a write which slept cannot bring
//! an erased listing back; the horizon lets markers go after an hour.

use bincode::{Decode, Encode};

use crate::{Digest, Revision, TimeMs};

/// What stands under (ZIP, id), without the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum Row {
    /// A listing that readers see.
    Live {
        /// Revision of the write.
        revision: Revision,
        /// Content of the upsert that it came from.
        digest: Digest,
    },
    /// An erased listing.
    Marker {
        /// Revision of the erase.
        revision: Revision,
        /// The proposer's clock when it was laid.
        laid: TimeMs,
    },
}

impl Row {
    /// Revision of either kind.
    pub fn revision(&self) -> Revision {
        match self {
            Row::Live { revision, .. } | Row::Marker { revision, .. } => *revision,
        }
    }

    /// Whether readers see it.
    pub fn is_live(&self) -> bool {
        matches!(self, Row::Live { .. })
    }
}

/// Answer to `Write`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Encode, Decode)]
pub enum WriteOutcome {
    /// The row stands at this revision.
    Done,
    /// A greater revision stands there.
    Superseded,
    /// Older than what markers remember: admit again above the horizon.
    Expired {
        /// The shard's horizon.
        horizon: Revision,
    },
}

/// What a step does to the row.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Effect {
    /// The row to put, if any.
    pub put: Option<Row>,
    /// Whether followers are told.
    pub is_change: bool,
}

const NOTHING: Effect = Effect { put: None, is_change: false };

/// Decides a `Write` at `revision` on what stands there.
pub fn write(
    row: Option<Row>,
    revision: Revision,
    digest: Digest,
    horizon: Revision,
) -> (WriteOutcome, Effect) {
    let known = row.map(|row| row.revision());
    if known > Some(revision) {
        return (WriteOutcome::Superseded, NOTHING);
    }
    if known == Some(revision) {
        return (WriteOutcome::Done, NOTHING);
    }
    // A marker does not exempt: it may itself be about to be swept.
    if revision < horizon && !row.is_some_and(|row| row.is_live()) {
        return (WriteOutcome::Expired { horizon }, NOTHING);
    }
    let same = matches!(row, Some(Row::Live { digest: known, .. }) if known == digest);
    let put = Some(Row::Live { revision, digest });
    (WriteOutcome::Done, Effect { put, is_change: !same })
}

/// Decides an `Erase` at `revision`, laid at `clock`. It never expires and always succeeds.
pub fn erase(row: Option<Row>, revision: Revision, clock: TimeMs) -> Effect {
    if row.is_some_and(|row| row.revision() >= revision) {
        return NOTHING;
    }
    let was_live = row.is_some_and(|row| row.is_live());
    Effect { put: Some(Row::Marker { revision, laid: clock }), is_change: was_live }
}

/// How long a marker outlives its erase, at least.
pub const MARKER_RETENTION_MS: u64 = 60 * 60 * 1000;

/// The horizon after a sweep at `clock`. It never falls.
pub fn horizon_after(horizon: Revision, clock: TimeMs) -> Revision {
    horizon.max(Revision::at(TimeMs(clock.0.saturating_sub(MARKER_RETENTION_MS))))
}

/// Whether a sweep at `clock` may drop a marker.
pub fn is_collectable(row: Row, horizon: Revision, clock: TimeMs) -> bool {
    match row {
        Row::Live { .. } => false,
        Row::Marker { revision, laid } => {
            revision < horizon && laid.0 < clock.0.saturating_sub(MARKER_RETENTION_MS)
        }
    }
}
