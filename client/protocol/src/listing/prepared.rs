//! What the edge sends to the store: a message that is only moved from here on.

use bincode::{Decode, Encode};

use super::{LISTING_BYTES_MAX, Listing, ListingError, Summary};
use crate::frame::{Compressor, FrameHead};
use crate::op::Body;
use crate::register::{Message, Upsert, Version};
use crate::{ListingId, TimeMs};

/// The members `sent` and `sequence` of a line of a bulk request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Order {
    /// When the queue took the message.
    pub sent: Option<TimeMs>,
    /// Its place in the operator's sequence.
    pub sequence: Option<u64>,
}

/// What orders one message, beside what its listing says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Clocks {
    /// When the queue took it, in milliseconds.
    pub sent: TimeMs,
    /// Its place in the operator's sequence, where that is the order.
    pub sequence: Option<u64>,
}

impl Clocks {
    /// The order is the two clocks.
    pub fn two(sent: TimeMs) -> Clocks {
        Clocks { sent, sequence: None }
    }

    /// The order is a sequence.
    pub fn sequenced(sent: TimeMs, sequence: Option<u64>) -> Result<Clocks, ListingError> {
        Ok(Clocks { sent, sequence: Some(sequence.ok_or(ListingError::NoSequence)?) })
    }

    /// The time that deletes and upserts of one id are compared by.
    fn order(&self) -> TimeMs {
        self.sequence.map_or(self.sent, TimeMs)
    }
}

/// One message as the store takes it. The body is there exactly for upserts.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct Prepared {
    /// The listing.
    pub id: ListingId,
    /// What the register joins.
    pub message: Message,
    /// When the queue took it, in milliseconds also where the order is a sequence.
    pub queued: TimeMs,
    /// What the row gets.
    pub body: Option<PreparedBody>,
}

/// The bytes of a row.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
pub struct PreparedBody {
    /// Encoded [`Summary`].
    pub summary: Vec<u8>,
    /// Compressed listing, see [`crate::frame`].
    pub frame: Vec<u8>,
}

impl PreparedBody {
    /// As operations carry it.
    pub fn as_body(&self) -> Body<'_> {
        Body { summary: &self.summary, frame: &self.frame }
    }
}

impl Prepared {
    /// Compresses a listing and gives it its order. Without a usable `modified`, `sent` counts.
    pub fn upsert(
        listing: Listing<'_>,
        clocks: Clocks,
        compressor: &mut Compressor,
    ) -> Result<Prepared, ListingError> {
        let frame = compressor.compress(&listing.body)?;
        let modified = match clocks.sequence {
            Some(sequence) => TimeMs(sequence),
            None => listing.modified.unwrap_or(clocks.sent),
        };
        let version = Version { modified, sent: clocks.order(), digest: listing.digest };
        Ok(Prepared {
            id: listing.id,
            message: Message::Upsert(Upsert { version, zip: listing.zip }),
            queued: clocks.sent,
            body: Some(PreparedBody { summary: listing.summary, frame }),
        })
    }

    /// A delete with its order.
    pub fn delete(id: ListingId, clocks: Clocks) -> Prepared {
        let message = Message::Delete { sent: clocks.order() };
        Prepared { id, message, queued: clocks.sent, body: None }
    }

    /// Checks what decoding does not: that a body is there exactly for an upsert, and that it is
    /// well formed on the outside. Nobody below the edge looks whether its digest is right.
    pub fn check(&self) -> Result<(), ListingError> {
        match (&self.message, &self.body) {
            (Message::Delete { .. }, None) => Ok(()),
            (Message::Upsert(_), Some(body)) => {
                Summary::decode(&body.summary)?;
                FrameHead::parse(&body.frame)?;
                match body.frame.len() > LISTING_BYTES_MAX + (64 << 10) {
                    true => Err(bad_part("frame", "larger than what it holds")),
                    false => Ok(()),
                }
            }
            (Message::Upsert(_), None) => Err(ListingError::NoListing),
            (Message::Delete { .. }, Some(_)) => Err(bad_part("body", "present")),
        }
    }
}

fn bad_part(field: &str, found: &str) -> ListingError {
    ListingError::BadField {
        field: field.to_string(),
        found: found.to_string(),
        expected: "what the edge makes",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::codec;
    use crate::frame::Decompressor;
    use crate::listing::{Parsed, Parser};
    use crate::problem::Code;

    const SENT: TimeMs = TimeMs(1_714_980_000_000);

    fn prepare(json: &str, clocks: Clocks) -> Prepared {
        let mut compressor = Compressor::try_new(1, None).unwrap();
        match Parser::default().message(json.as_bytes()).unwrap() {
            Parsed::Upsert(listing) => Prepared::upsert(listing, clocks, &mut compressor).unwrap(),
            Parsed::Delete { id, .. } => Prepared::delete(id, clocks),
            Parsed::Pointer { .. } => panic!("a pointer is no message"),
        }
    }

    fn version(prepared: &Prepared) -> (u64, u64) {
        match prepared.message {
            Message::Upsert(upsert) => (upsert.version.modified.0, upsert.version.sent.0),
            Message::Delete { sent } => (0, sent.0),
        }
    }

    #[test]
    fn the_two_clocks_or_the_sequence_give_the_order() {
        let timed = r#"{"ListingKey":"1","ModificationTimestamp":"2024-05-06T07:08:09.123Z"}"#;
        let clocks = Clocks::two(SENT);
        assert_eq!(version(&prepare(timed, clocks)), (1_714_979_289_123, SENT.0));
        assert_eq!(version(&prepare(r#"{"ListingKey":"1"}"#, clocks)), (0, SENT.0));
        let untimed = r#"{"ListingKey":"1","ModificationTimestamp":"soon"}"#;
        assert_eq!(version(&prepare(untimed, clocks)), (SENT.0, SENT.0));
        let sequenced = Clocks::sequenced(SENT, Some(77)).unwrap();
        assert_eq!(version(&prepare(timed, sequenced)), (77, 77));
        assert_eq!(version(&prepare(r#"{"id":"1"}"#, sequenced)), (0, 77));
        assert_eq!(prepare(timed, sequenced).queued, SENT);
        let found = Clocks::sequenced(SENT, None).map_err(|e| e.code());
        assert_eq!(found, Err(Code::NoSequence));
    }

    #[test]
    fn what_is_prepared_survives_the_wire_and_its_body_comes_out_again() {
        let json = r#"{ "ListingKey" : "1", "PostalCode": "98101", "PublicRemarks": "a  b" }"#;
        let prepared = prepare(json, Clocks::two(SENT));
        let read: Prepared = codec::decode(&codec::encode(&prepared)).unwrap();
        assert_eq!(read, prepared);
        assert_eq!(read.check(), Ok(()));
        let frame = &read.body.as_ref().expect("an upsert").frame;
        let raw = Decompressor::try_new().unwrap().decompress(frame).unwrap();
        assert_eq!(raw, br#"{"ListingKey":"1","PostalCode":"98101","PublicRemarks":"a  b"}"#);
    }

    #[test]
    fn what_no_edge_makes_is_refused() {
        let good = prepare(r#"{"ListingKey":"1","PostalCode":"98101"}"#, Clocks::two(SENT));
        let body = good.body.clone().expect("an upsert");
        let no_frame = PreparedBody { frame: b"{}".to_vec(), ..body.clone() };
        let no_summary = PreparedBody { summary: Vec::new(), ..body.clone() };
        let delete = Prepared::delete(good.id.clone(), Clocks::two(SENT));
        assert_eq!(delete.check(), Ok(()));
        for bad in [
            Prepared { body: None, ..good.clone() },
            Prepared { body: Some(no_frame), ..good.clone() },
            Prepared { body: Some(no_summary), ..good },
            Prepared { body: Some(body), ..delete },
        ] {
            assert!(bad.check().is_err(), "{bad:?}");
        }
    }
}
