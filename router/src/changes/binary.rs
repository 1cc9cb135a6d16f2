//! Changes and rows as records of the binary stream: their frames go through as they are.

use platbook_protocol::ShardId;
use platbook_protocol::follow::{ChangeKind, Told};
use platbook_protocol::records::{RecordChange, RecordOp, RecordPassage, RecordReason};
use platbook_protocol::{Seq, TimeMs, Zip};

use super::select::Passage;

/// The record of a row or a change, and the ZIPs that it borrows; `None` for what is neither.
pub(super) fn with_record<'a, T>(
    shard: ShardId,
    told: &Told<'a>,
    passage: Option<Passage>,
    write: impl FnOnce(&RecordChange<'_>) -> T,
) -> Option<T> {
    let passage = passage.map(|passage| match passage {
        Passage::Enter => RecordPassage::Enter,
        Passage::Update => RecordPassage::Update,
        Passage::Leave => RecordPassage::Leave,
    });
    let (zip, moved_to): (Zip, Option<Zip>) = match told {
        Told::Row { zip, .. } => (*zip, None),
        Told::Erased { zip, moved_to, .. } => (*zip, *moved_to),
        Told::Change { zip, kind: ChangeKind::Moved { to }, .. } => (*zip, Some(*to)),
        Told::Change { zip, .. } => (*zip, None),
        _ => return None,
    };
    let nothing = RecordChange {
        op: RecordOp::Delete,
        reason: RecordReason::State,
        passage,
        shard,
        seq: Seq(0),
        prev: Seq(0),
        revision: platbook_protocol::Revision(0),
        at: TimeMs(0),
        zip: zip.as_str(),
        id: "",
        moved_to: moved_to.as_ref().map(Zip::as_str),
        before: None,
        after: None,
        frame: &[],
    };
    let record = match *told {
        Told::Row { id, revision, seq, body, .. } => {
            let (after, frame) = (Some(body.summary), body.frame);
            RecordChange { op: RecordOp::Upsert, seq, revision, id, after, frame, ..nothing }
        }
        Told::Erased { id, revision, seq, .. } => RecordChange { seq, revision, id, ..nothing },
        Told::Change { seq, prev, kind, id, revision, at, before, after, .. } => {
            let (op, reason) = match kind {
                ChangeKind::Created | ChangeKind::Updated => (RecordOp::Upsert, RecordReason::Feed),
                ChangeKind::Deleted => (RecordOp::Delete, RecordReason::Feed),
                ChangeKind::Moved { .. } => (RecordOp::Delete, RecordReason::Moved),
            };
            let (frame, after) = (after.map_or(&[][..], |body| body.frame), after);
            let after = after.map(|body| body.summary);
            RecordChange {
                op,
                reason,
                seq,
                prev,
                revision,
                at,
                id,
                before,
                after,
                frame,
                ..nothing
            }
        }
        _ => return None,
    };
    Some(write(&record))
}

#[cfg(test)]
mod tests {
    use platbook_protocol::op::Body;
    use platbook_protocol::records::Record;
    use platbook_protocol::{Revision, Zip};

    use super::*;

    const ZIP: Zip = Zip::Code(*b"98103");

    fn record(told: &Told<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        let write = |change: &RecordChange<'_>| Record::Change(*change).push(&mut out);
        with_record(ShardId(3), told, Some(Passage::Enter), write).expect("it is a record");
        out.split_off(4)
    }

    #[test]
    fn a_change_goes_through_with_its_frame_as_it_is() {
        let (seq, prev, revision, at) = (Seq(9), Seq(8), Revision(7), TimeMs(6));
        let body = Body { summary: b"is", frame: b"frame" };
        let (before, zip, id) = (Some(&b"was"[..]), ZIP, "a");
        let kind = ChangeKind::Updated;
        let after = Some(body);
        let told = Told::Change { seq, prev, kind, zip, id, revision, at, before, after };
        let bytes = record(&told);
        let Ok(Some(Record::Change(read))) = Record::read(&bytes) else { panic!("no change") };
        assert_eq!((read.op, read.reason), (RecordOp::Upsert, RecordReason::Feed));
        assert_eq!((read.shard, read.seq, read.prev), (ShardId(3), seq, prev));
        assert_eq!((read.zip, read.id, read.moved_to), ("98103", "a", None));
        assert_eq!((read.before, read.after), (before, Some(&b"is"[..])));
        assert_eq!((read.frame, read.passage), (&b"frame"[..], Some(RecordPassage::Enter)));
        let kind = ChangeKind::Moved { to: Zip::Unknown };
        let told = Told::Change { seq, prev, kind, zip, id, revision, at, before, after: None };
        let bytes = record(&told);
        let Ok(Some(Record::Change(read))) = Record::read(&bytes) else { panic!("no change") };
        assert_eq!((read.op, read.reason), (RecordOp::Delete, RecordReason::Moved));
        assert_eq!((read.moved_to, read.after, read.frame), (Some("unknown"), None, &[][..]));
    }

    #[test]
    fn rows_are_state_whether_they_are_there_or_not() {
        let (cursor, zip, id, revision, seq) = (&b"k"[..], ZIP, "a", Revision(7), Seq(9));
        let body = Body { summary: b"is", frame: b"frame" };
        let row = record(&Told::Row { cursor, zip, id, revision, seq, body });
        let moved_to = Some(Zip::Unknown);
        let gone = record(&Told::Erased { cursor, zip, id, revision, seq, moved_to });
        for (bytes, op, to) in
            [(row, RecordOp::Upsert, None), (gone, RecordOp::Delete, Some("unknown"))]
        {
            let Ok(Some(Record::Change(read))) = Record::read(&bytes) else { panic!("no change") };
            assert_eq!((read.op, read.reason, read.moved_to), (op, RecordReason::State, to));
            assert_eq!((read.seq, read.prev, read.at), (seq, Seq(0), TimeMs(0)));
        }
        let none = with_record(ShardId(3), &Told::End, None, |_| ());
        assert_eq!(none, None);
    }
}
