//! One part of both sides.

use std::collections::HashMap;

use platbook_protocol::Digest;

/// How the store differs from the copy in one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Difference {
    /// The copy has it, the store does not.
    Missing,
    /// The store has it, the copy does not.
    Extra,
    /// Both have it, with different content.
    Different,
}

impl Difference {
    /// The word for it.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            Difference::Missing => "missing",
            Difference::Extra => "extra",
            Difference::Different => "different",
        }
    }
}

/// Both sides of a part, by id. The last line of the copy about an id counts; a listing that moves
/// while the store is read can appear there twice, and is equal if either appearance is.
#[derive(Debug, Default)]
pub(super) struct Part(HashMap<String, Sides>);

/// One listing.
#[derive(Clone, Copy, Debug, Default)]
struct Sides {
    copy: Option<Digest>,
    is_stored: bool,
    is_equal: bool,
}

impl Part {
    /// A listing of the copy.
    pub(super) fn on_copy(&mut self, id: String, digest: Digest) {
        self.0.entry(id).or_default().copy = Some(digest);
    }

    /// A listing of the store, behind all of the copy.
    pub(super) fn on_store(&mut self, id: String, digest: Digest) {
        let sides = self.0.entry(id).or_default();
        sides.is_stored = true;
        sides.is_equal |= sides.copy == Some(digest);
    }

    /// How many are equal, and what differs, by id.
    pub(super) fn finish(self) -> (u64, Vec<(String, Difference)>) {
        let equal = self.0.values().filter(|sides| sides.is_equal).count() as u64;
        let difference = |(id, sides): (String, Sides)| match sides {
            Sides { is_equal: true, .. } => None,
            Sides { copy: None, .. } => Some((id, Difference::Extra)),
            Sides { is_stored: false, .. } => Some((id, Difference::Missing)),
            Sides { .. } => Some((id, Difference::Different)),
        };
        let mut found: Vec<(String, Difference)> =
            self.0.into_iter().filter_map(difference).collect();
        found.sort_unstable();
        (equal, found)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_difference_is_found_once() {
        let mut part = Part::default();
        let digest = |byte| Digest([byte; 16]);
        for (id, byte) in [("same", 1), ("changed", 1), ("changed", 2), ("gone", 1)] {
            part.on_copy(id.into(), digest(byte));
        }
        for (id, byte) in [("same", 1), ("changed", 1), ("more", 1), ("same", 9), ("more", 1)] {
            part.on_store(id.into(), digest(byte));
        }
        let (equal, found) = part.finish();
        assert_eq!(equal, 1, "seen twice and once equal: never to be deleted");
        let words: Vec<(&str, &str)> =
            found.iter().map(|(id, difference)| (id.as_str(), difference.as_str())).collect();
        assert_eq!(words, [("changed", "different"), ("gone", "missing"), ("more", "extra")]);
    }
}
