//! Write and Erase: a row, the totals of its ZIP, its change.

use platbook_protocol::follow::ChangeKind;
use platbook_protocol::op::{Body, OpOutcome};
use platbook_protocol::planted::Bug;
use platbook_protocol::row::{self, Effect, Row};
use platbook_protocol::{Digest, Revision, Seq, Zip};

use super::overlay::KnownRow;
use super::{Applying, Scope};
use crate::error::StoreError;
use crate::store::key::{Due, Key};
use crate::store::value::effects::Change;
use crate::store::value::list::DUE;
use crate::store::value::row::{RowRecord, ZipTotals};

/// Where a row stands.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub(super) zip: Zip,
    pub(super) id: &'a str,
}

/// What is put there: the body of a listing, or for a marker where the listing went.
enum Content<'a> {
    Listing(Body<'a>),
    Gone { moved_to: Option<Zip> },
}

impl<'a> Applying<'a> {
    pub(super) fn write(
        &mut self,
        scope: &mut Scope,
        place: Place<'_>,
        revision: Revision,
        digest: Digest,
        body: Body<'a>,
    ) -> Result<OpOutcome, StoreError> {
        let known = self.overlay.row(place.zip, place.id)?;
        let row = known.as_ref().map(|known| known.row);
        let (outcome, effect) = row::write(row, revision, digest, self.state.horizon);
        self.put_row(scope, place, known, effect, Content::Listing(body))?;
        Ok(OpOutcome::Written(outcome))
    }

    pub(super) fn erase(
        &mut self,
        scope: &mut Scope,
        place: Place<'_>,
        revision: Revision,
        moved_to: Option<Zip>,
    ) -> Result<OpOutcome, StoreError> {
        let known = self.overlay.row(place.zip, place.id)?;
        let row = known.as_ref().map(|known| known.row);
        let effect = row::erase(row, revision, scope.stamp.clock);
        self.put_row(scope, place, known, effect, Content::Gone { moved_to })?;
        Ok(OpOutcome::Erased)
    }

    fn put_row(
        &mut self,
        scope: &mut Scope,
        place: Place<'_>,
        known: Option<KnownRow>,
        effect: Effect,
        content: Content<'a>,
    ) -> Result<(), StoreError> {
        let Some(row) = effect.put else { return Ok(()) };
        let Place { zip, id } = place;
        let was = known.as_ref().map(|known| known.row);
        let frame_before = known.as_ref().filter(|k| k.row.is_live()).map(|k| k.frame_bytes);
        let (summary, frame, moved_to) = match content {
            Content::Listing(body) => (body.summary, body.frame, None),
            Content::Gone { moved_to } => (&[][..], &[][..], moved_to),
        };
        let frame_after = row.is_live().then_some(frame.len() as u64);

        let key = Key::Zip(zip);
        let totals = self.overlay.get(&key, ZipTotals::decode)?.unwrap_or_default();
        let mut moved =
            totals.moved(frame_before, frame_after).map_err(|source| key.corrupt(source))?;
        let mut seq = known.as_ref().map_or(Seq(0), |known| known.seq);
        if effect.is_change {
            seq = self.change(scope, place, totals.seq, row, known, moved_to);
            moved.seq = seq;
        }
        if moved != totals {
            self.overlay.put(&key, moved.encode());
        }
        self.index_marker(place, was, row);
        let record = RowRecord { row, seq, moved_to, summary };
        self.overlay.put_row(zip, id, &record, frame);
        Ok(())
    }

    /// Numbers a change and records it.
    fn change(
        &mut self,
        scope: &mut Scope,
        place: Place<'_>,
        prev: Seq,
        row: Row,
        known: Option<KnownRow>,
        moved_to: Option<Zip>,
    ) -> Seq {
        let skipped = u64::from(Bug::SeqOffByOne.is_planted() && !row.is_live());
        let seq = Seq(self.state.seq.0 + 1 + skipped);
        self.state.seq = seq;
        let before = known.filter(|known| known.row.is_live()).map(|known| known.summary);
        let kind = match (row, &before, moved_to) {
            (Row::Live { .. }, None, _) => ChangeKind::Created,
            (Row::Live { .. }, Some(_), _) => ChangeKind::Updated,
            (Row::Marker { .. }, _, None) => ChangeKind::Deleted,
            (Row::Marker { .. }, _, Some(to)) => ChangeKind::Moved { to },
        };
        scope.changes.push(Change {
            ordinal: scope.ordinal,
            seq,
            prev,
            kind,
            zip: place.zip,
            id: place.id.to_string(),
            revision: row.revision(),
            before,
        });
        seq
    }

    /// A marker stands in the time index for exactly as long as it is the row.
    fn index_marker(&mut self, place: Place<'_>, was: Option<Row>, row: Row) {
        let Place { zip, id } = place;
        if let Some(Row::Marker { laid, .. }) = was {
            self.overlay.delete(&Key::Due(self.shard, Due::Marker { laid, zip, id }));
        }
        if let Row::Marker { laid, .. } = row {
            let key = Key::Due(self.shard, Due::Marker { laid, zip, id });
            self.overlay.put(&key, DUE.to_vec());
        }
    }
}
