//! Which changes a reader wants: a pure decision on summaries.

use platbook_protocol::follow::{ChangeKind, Told};
use platbook_protocol::listing::Matcher;
use platbook_protocol::rpc::Filter;

/// What a reader wants to be told.
pub(crate) struct Selection {
    matcher: Matcher,
    upserts: bool,
    deletes: bool,
}

/// What becomes of a change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Choice {
    /// It is told; with a filter, what it means for who keeps only what passes.
    Tell(Option<Passage>),
    /// It is left out.
    Skip,
}

/// What a change means for who keeps only what passes a filter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Passage {
    /// The listing passes now, and did not before.
    Enter,
    /// It passed before and passes now.
    Update,
    /// It passed before, and is gone or passes no longer.
    Leave,
}

impl Passage {
    /// As it stands in an event.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Passage::Enter => "enter",
            Passage::Update => "update",
            Passage::Leave => "leave",
        }
    }
}

impl Selection {
    /// All that pass `filter`; of these upserts, or deletes, or both.
    pub(crate) fn new(filter: &Filter, upserts: bool, deletes: bool) -> Selection {
        Selection { matcher: Matcher::new(filter), upserts, deletes }
    }

    /// Decides about a row or a change; everything else is nobody's choice and is told. In a
    /// catch-up it is not known whether a listing passed before: it may have.
    pub(crate) fn choose(&self, told: &Told<'_>, is_catch_up: bool) -> Choice {
        let (before, after, is_upsert) = match told {
            Told::Row { body, .. } => (None, Some(body.summary), true),
            Told::Erased { .. } => (None, None, false),
            Told::Change { before, after, kind, .. } => {
                let is_upsert = matches!(kind, ChangeKind::Created | ChangeKind::Updated);
                (*before, after.map(|body| body.summary), is_upsert)
            }
            _ => return Choice::Tell(None),
        };
        let is_wanted = if is_upsert { self.upserts } else { self.deletes };
        if !is_wanted {
            return Choice::Skip;
        }
        if self.matcher.passes_all() {
            return Choice::Tell(None);
        }
        let passed = before.is_some_and(|summary| self.matcher.matches(summary));
        let passes = after.is_some_and(|summary| self.matcher.matches(summary));
        match (passed, passes) {
            (false, false) if is_catch_up => Choice::Tell(Some(Passage::Leave)),
            (false, false) => Choice::Skip,
            (false, true) => Choice::Tell(Some(Passage::Enter)),
            (true, true) => Choice::Tell(Some(Passage::Update)),
            (true, false) => Choice::Tell(Some(Passage::Leave)),
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::listing::Summary;
    use platbook_protocol::op::Body;
    use platbook_protocol::{Revision, Seq, TimeMs, Zip};

    use super::*;

    const ZIP: Zip = Zip::Code(*b"98103");

    fn summary(price: u64) -> Vec<u8> {
        Summary { price: Some(price), ..Summary::default() }.encode()
    }

    fn choose(filter: &Filter, before: Option<u64>, after: Option<u64>) -> Choice {
        let (before, after) = (before.map(summary), after.map(summary));
        let kind = match (&before, &after) {
            (None, _) => ChangeKind::Created,
            (Some(_), Some(_)) => ChangeKind::Updated,
            (Some(_), None) => ChangeKind::Deleted,
        };
        let told = Told::Change {
            seq: Seq(2),
            prev: Seq(1),
            kind,
            zip: ZIP,
            id: "a",
            revision: Revision(2),
            at: TimeMs(0),
            before: before.as_deref(),
            after: after.as_deref().map(|summary| Body { summary, frame: &[] }),
        };
        Selection::new(filter, true, true).choose(&told, false)
    }

    #[test]
    fn a_filter_tells_what_comes_into_it_changes_in_it_and_leaves_it() {
        let filter = Filter { max_price: Some(10), ..Filter::default() };
        let tell = |passage| Choice::Tell(Some(passage));
        assert_eq!(choose(&filter, None, Some(9)), tell(Passage::Enter));
        assert_eq!(choose(&filter, Some(11), Some(9)), tell(Passage::Enter));
        assert_eq!(choose(&filter, Some(8), Some(9)), tell(Passage::Update));
        assert_eq!(choose(&filter, Some(8), Some(11)), tell(Passage::Leave));
        assert_eq!(choose(&filter, Some(8), None), tell(Passage::Leave));
        for (before, after) in [(None, Some(11)), (Some(12), Some(11)), (Some(11), None)] {
            assert_eq!(choose(&filter, before, after), Choice::Skip);
        }
        assert_eq!(choose(&Filter::default(), Some(11), None), Choice::Tell(None));
    }

    #[test]
    fn kinds_can_be_left_out() {
        let body = Body { summary: &summary(1), frame: &[] };
        let (seq, revision) = (Seq(1), Revision(1));
        let row = Told::Row { cursor: b"k", zip: ZIP, id: "a", revision, seq, body };
        let of = |upserts, deletes| Selection::new(&Filter::default(), upserts, deletes);
        assert_eq!(of(true, false).choose(&row, false), Choice::Tell(None));
        assert_eq!(of(false, true).choose(&row, false), Choice::Skip);
        assert_eq!(of(false, true).choose(&Told::End, false), Choice::Tell(None));
    }

    #[test]
    fn in_a_catch_up_what_does_not_pass_may_have_passed_before() {
        let (seq, revision, cursor) = (Seq(1), Revision(1), &b"k"[..]);
        let summary = summary(5);
        let body = Body { summary: &summary, frame: &[] };
        let row = Told::Row { cursor, zip: ZIP, id: "a", revision, seq, body };
        let erased = Told::Erased { cursor, zip: ZIP, id: "a", revision, seq, moved_to: None };
        let choose = |max_price: Option<u64>, told: &Told<'_>| {
            let filter = Filter { max_price, ..Filter::default() };
            Selection::new(&filter, true, true).choose(told, true)
        };
        assert_eq!(choose(Some(9), &row), Choice::Tell(Some(Passage::Enter)));
        assert_eq!(choose(Some(4), &row), Choice::Tell(Some(Passage::Leave)));
        assert_eq!(choose(Some(9), &erased), Choice::Tell(Some(Passage::Leave)));
        assert_eq!(choose(None, &erased), Choice::Tell(None));
    }
}
