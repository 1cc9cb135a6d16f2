//! The naive oracle: what a whole feed must come to, computed from the set of its messages.
//!
//! For tests and demonstrations only. It is written from the text of the rule, not from
//! [`crate::register`], keeps every message it observes (about 48 bytes each) and decides only
//! when it is asked, so that it can't share a mistake about order or repetition with the register.
//! Conditional messages are outside of it: their outcome does depend on order.

use std::collections::{BTreeMap, HashSet};

use crate::register::{Message, Recreate, Upsert};
use crate::{Digest, TimeMs, Zip};

/// All messages of a feed, by id.
#[derive(Clone, Debug)]
pub struct Oracle {
    skew_ms: u64,
    recreate: Recreate,
    messages: BTreeMap<String, HashSet<Message>>,
}

/// What one id comes to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Fate {
    /// Greatest upsert, `modified` clamped.
    pub upsert: Option<Upsert>,
    /// Greatest delete.
    pub delete: Option<TimeMs>,
    /// Whether the listing exists.
    pub alive: bool,
    /// Whether the queue's clock says that it exists and the operator's that it does not.
    pub suspect: bool,
}

impl Oracle {
    /// An oracle that has observed nothing.
    pub fn new(skew_ms: u64, recreate: Recreate) -> Oracle {
        Oracle { skew_ms, recreate, messages: BTreeMap::new() }
    }

    /// Takes a message of the feed, in any order, any number of times.
    pub fn observe(&mut self, id: &str, message: Message) {
        match self.messages.get_mut(id) {
            Some(known) => known.insert(message),
            None => self.messages.entry(id.to_owned()).or_default().insert(message),
        };
    }

    /// What the id comes to when all messages observed so far have been applied.
    pub fn fate_of(&self, id: &str) -> Fate {
        self.messages.get(id).map_or(Fate::default(), |messages| self.fate(messages))
    }

    /// Ids that must exist, in order of their bytes.
    pub fn alive_ids(&self) -> impl Iterator<Item = &str> {
        self.alive().map(|(id, _)| id)
    }

    /// Every listing that must exist, with the upsert that must have won, in order of the ids.
    pub fn alive(&self) -> impl Iterator<Item = (&str, Upsert)> {
        self.messages.iter().filter_map(|(id, messages)| {
            let fate = self.fate(messages);
            fate.upsert.filter(|_| fate.alive).map(|upsert| (id.as_str(), upsert))
        })
    }

    /// The listings that must stand in a ZIP, with the digest of the winning body, in id order.
    pub fn listings_of(&self, zip: Zip) -> impl Iterator<Item = (&str, Digest)> {
        self.alive().filter(move |(_, u)| u.zip == zip).map(|(id, u)| (id, u.version.digest))
    }

    /// Ids whose final state disagrees with itself, in order of their bytes.
    pub fn suspect_ids(&self) -> impl Iterator<Item = &str> {
        let suspects = self.messages.iter().filter(|(_, messages)| self.fate(messages).suspect);
        suspects.map(|(id, _)| id.as_str())
    }

    fn fate(&self, messages: &HashSet<Message>) -> Fate {
        let upsert = messages
            .iter()
            .filter_map(|message| match message {
                Message::Upsert(upsert) => Some(self.clamped(*upsert)),
                Message::Delete { .. } => None,
            })
            .max_by_key(|upsert| {
                let version = upsert.version;
                (version.modified, version.sent, version.digest)
            });
        let delete = messages
            .iter()
            .filter_map(|message| match message {
                Message::Upsert(_) => None,
                Message::Delete { sent } => Some(*sent),
            })
            .max();
        let (for_queue, for_operator) = match (upsert, delete) {
            (None, _) => (false, false),
            (Some(_), None) => (true, true),
            (Some(u), Some(d)) => {
                (u.version.sent > d, u.version.modified.0.saturating_add(self.skew_ms) >= d.0)
            }
        };
        let alive = match self.recreate {
            Recreate::BothClocks => for_queue && for_operator,
            Recreate::QueueTime => for_queue,
        };
        Fate { upsert, delete, alive, suspect: for_queue && !for_operator }
    }

    fn clamped(&self, mut upsert: Upsert) -> Upsert {
        let credible = upsert.version.sent.0.saturating_add(self.skew_ms);
        if upsert.version.modified.0 > credible {
            upsert.version.modified = TimeMs(credible);
        }
        upsert
    }
}
