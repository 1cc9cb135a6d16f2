//! One message of a bulk write, with its identity.

use std::fmt;

use bytes::Bytes;
use platbook_protocol::listing::minify;
use platbook_protocol::{ListingId, TimeMs};

use crate::clock;
use crate::error::ArgumentError;

/// One write of a bulk: an upsert, whose listing names its own id, or a delete. Its identity is the
/// time at which it was first meant. Cheap to clone, to be sent again later.
#[derive(Clone, PartialEq, Eq)]
pub struct Message {
    what: What,
    sent: TimeMs,
}

#[derive(Clone, PartialEq, Eq)]
enum What {
    Upsert(Bytes),
    Delete(ListingId),
}

impl Message {
    /// Creates or updates the listing with this JSON. The id stands in it, where the router is
    /// configured to look (`/ListingKey` by default).
    pub fn upsert(listing: impl Into<Bytes>) -> Result<Message, ArgumentError> {
        let listing = listing.into();
        // It stands inside a line: only what is JSON by itself cannot say more than it should.
        let what = What::Upsert(match minify(&listing)? {
            minified if minified.len() == listing.len() => listing.clone(),
            minified => Bytes::from(minified.into_owned()),
        });
        Ok(Message { what, sent: clock::now() })
    }

    /// Deletes the listing.
    pub fn delete<I>(id: I) -> Result<Message, ArgumentError>
    where
        I: TryInto<ListingId, Error: Into<ArgumentError>>,
    {
        let what = What::Delete(id.try_into().map_err(Into::into)?);
        Ok(Message { what, sent: clock::now() })
    }

    /// The same, meant at `sent` instead of now: for changes that somebody else has stamped.
    #[must_use]
    pub fn at(self, sent: TimeMs) -> Message {
        Message { sent, ..self }
    }

    /// When it was meant.
    pub fn sent(&self) -> TimeMs {
        self.sent
    }

    /// Its line, with the line end.
    pub(super) fn line(&self) -> Bytes {
        let sent = self.sent;
        let mut line = Vec::with_capacity(self.bytes());
        match &self.what {
            What::Upsert(listing) => {
                line.extend_from_slice(br#"{"op":"upsert","listing":"#);
                line.extend_from_slice(listing);
            }
            What::Delete(id) => {
                line.extend_from_slice(br#"{"op":"delete","id":"#);
                serde_json::to_writer(&mut line, id.as_str()).expect("a text is written to memory");
            }
        }
        line.extend_from_slice(format!(",\"sent\":{sent}}}\n").as_bytes());
        line.into()
    }

    /// About the length of its line.
    fn bytes(&self) -> usize {
        let body = match &self.what {
            What::Upsert(listing) => listing.len(),
            What::Delete(id) => id.as_str().len(),
        };
        body + 64
    }
}

impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Never a body.
        let mut shown = f.debug_struct("Message");
        match &self.what {
            What::Upsert(listing) => shown.field("upsert_bytes", &listing.len()),
            What::Delete(id) => shown.field("delete", id),
        };
        shown.field("sent", &self.sent).finish()
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::listing::{Parsed, Parser};

    use super::*;

    #[test]
    fn a_line_says_what_the_router_reads() {
        let parser = Parser::default();
        let listing = "{\n  \"ListingKey\": \"a\\\"b\",\n  \"x\": 1\n}\n";
        let line = Message::upsert(listing).expect("JSON").at(TimeMs(7)).line();
        assert_eq!(line.iter().filter(|byte| **byte == b'\n').count(), 1);
        let Ok(Parsed::Upsert(read)) = parser.message(&line) else { panic!("{line:?}") };
        assert_eq!((read.id.as_str(), read.order.sent), ("a\"b", Some(TimeMs(7))));
        let line = Message::delete("a\"b").expect("an id").at(TimeMs(8)).line();
        let Ok(Parsed::Delete { id, order }) = parser.message(&line) else { panic!("{line:?}") };
        assert_eq!((id.as_str(), order.sent), ("a\"b", Some(TimeMs(8))));
    }

    #[test]
    fn a_listing_cannot_say_more_than_a_listing() {
        for sly in ["{},\"op\":\"delete\",\"id\":\"a\"", "{}}\n{\"id\":\"a\"}", "{", ""] {
            assert!(Message::upsert(sly).is_err(), "{sly:?}");
        }
    }
}
