//! Shapes of answers that several calls share.

use platbook_protocol::Revision;
use serde::{Deserialize, Deserializer};

/// A revision as a decimal string: revisions exceed 2^53.
pub(crate) fn revision<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Revision>, D::Error> {
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map(Revision).map_err(serde::de::Error::custom)).transpose()
}

/// Answer to a batch of messages. Lines count from 1; a line in neither list is done and durable.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct BulkAnswer {
    /// Messages that moved a listing.
    pub applied: u64,
    /// Same body, newer `sent`.
    pub unchanged: u64,
    /// Something newer is known.
    pub stale: u64,
    /// Seen before.
    pub duplicate: u64,
    /// Recorded, but the two clocks disagree.
    pub suspect: u64,
    /// Lines that a newer, unfinished message stands before: recorded, maybe seen already, and to
    /// be sent again.
    pub busy: Vec<u64>,
    /// Lines that were not applied.
    pub rejected: Vec<Rejection>,
}

impl BulkAnswer {
    /// Lines that are done.
    pub fn done(&self) -> u64 {
        let BulkAnswer { applied, unchanged, stale, duplicate, suspect, .. } = self;
        applied + unchanged + stale + duplicate + suspect
    }

    /// Adds the counts of another answer; the lists stay as they are.
    pub fn add_counts(&mut self, other: &BulkAnswer) {
        self.applied += other.applied;
        self.unchanged += other.unchanged;
        self.stale += other.stale;
        self.duplicate += other.duplicate;
        self.suspect += other.suspect;
    }
}

/// One line that was not applied.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct Rejection {
    /// Its number, from 1.
    pub line: u64,
    /// Stable code of the reason, see [`platbook_protocol::problem::Code`].
    pub code: String,
    /// The sentence for people.
    #[serde(default)]
    pub detail: String,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bulk_answer_without_lists_is_all_done() {
        let answer: BulkAnswer =
            serde_json::from_str(r#"{"applied":3,"later":"field"}"#).expect("parses");
        assert_eq!(answer, BulkAnswer { applied: 3, ..BulkAnswer::default() });
    }
}
