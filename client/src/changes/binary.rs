//! `application/vnd.platbook.changes`, read: listings come compressed, with their dictionaries.

use platbook_protocol::frame::{Decompressor, Dictionary};
use platbook_protocol::listing::Summary;
use platbook_protocol::records::{Record, RecordChange, RecordOp, RecordPassage, RecordReason};
use platbook_protocol::{ListingId, Zip};

use super::event::{Change, Facts, Passage, What};
use super::wire::{self, Line};
use crate::error::{Source, source};
use crate::listing::Listing;

/// Reads the records of one connection.
#[derive(Debug)]
pub(super) struct Records {
    decompressor: Decompressor,
    has_begun: bool,
}

impl Records {
    pub(super) fn try_new() -> Result<Records, Source> {
        let decompressor = Decompressor::try_new().map_err(source)?;
        Ok(Records { decompressor, has_begun: false })
    }

    /// Reads a record; `None` for one that says nothing about listings or positions.
    pub(super) fn read(&mut self, record: &[u8]) -> Result<Option<Line>, Source> {
        let record = Record::read(record).map_err(source)?;
        if !std::mem::replace(&mut self.has_begun, true) && record != Some(Record::Head) {
            return Err(source("the stream does not begin with its version"));
        }
        match record {
            Some(Record::Control(json)) => wire::read(json),
            Some(Record::Change(change)) => Ok(Some(Line::Change(Box::new(self.change(&change)?)))),
            Some(Record::Dictionary { id, bytes }) => {
                let dictionary = Dictionary::try_new(id, bytes.to_vec()).map_err(source)?;
                self.decompressor.add(dictionary);
                Ok(None)
            }
            Some(Record::Head) | None => Ok(None),
        }
    }

    fn change(&mut self, record: &RecordChange<'_>) -> Result<Change, Source> {
        let zip = |text: &str| Zip::try_parse(text).ok_or_else(|| source("not a ZIP"));
        let what = match (record.op, record.moved_to) {
            (RecordOp::Upsert, _) => What::Upsert(self.listing(record.frame)?),
            (RecordOp::Delete, None) => What::Delete,
            (RecordOp::Delete, Some(to)) => What::MovedTo(zip(to)?),
        };
        let before = record.before.map(Summary::decode).transpose().map_err(source)?;
        let after = record.after.map(Summary::decode).transpose().map_err(source)?;
        let changed = before.zip(after).map(|(was, is)| was.changed(&is)).unwrap_or_default();
        Ok(Change {
            shard: record.shard,
            seq: record.seq,
            what,
            id: ListingId::try_new(record.id).map_err(source)?,
            zip: zip(record.zip)?,
            revision: record.revision,
            at: record.at,
            before: before.map(facts),
            changed: changed.into_iter().map(str::to_string).collect(),
            prev: record.prev,
            passage: record.passage.map(|passage| match passage {
                RecordPassage::Enter => Passage::Enter,
                RecordPassage::Update => Passage::Update,
                RecordPassage::Leave => Passage::Leave,
            }),
            is_state: record.reason == RecordReason::State,
        })
    }

    fn listing(&mut self, frame: &[u8]) -> Result<Option<Listing>, Source> {
        if frame.is_empty() {
            return Ok(None);
        }
        let body = self.decompressor.decompress(frame).map_err(source)?;
        // What is written as text later has to be text.
        std::str::from_utf8(&body).map_err(source)?;
        Ok(Some(Listing::new(body.into())))
    }
}

fn facts(found: Summary<'_>) -> Facts {
    Facts {
        price: found.price,
        status: found.status.map(str::to_string),
        property_type: found.property_type.map(str::to_string),
        beds: found.beds,
        baths: found.baths(),
        area: found.area,
        lat: found.latitude(),
        lon: found.longitude(),
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::frame::Compressor;
    use platbook_protocol::{Revision, Seq, ShardId, TimeMs};

    use super::*;

    fn pushed(record: &Record<'_>) -> Vec<u8> {
        let mut out = Vec::new();
        record.push(&mut out);
        out.split_off(platbook_protocol::records::LENGTH_BYTES)
    }

    fn upsert<'a>(before: &'a [u8], after: &'a [u8], frame: &'a [u8]) -> Record<'a> {
        Record::Change(RecordChange {
            op: RecordOp::Upsert,
            reason: RecordReason::Feed,
            passage: Some(RecordPassage::Update),
            shard: ShardId(1),
            seq: Seq(2),
            prev: Seq(1),
            revision: Revision(3),
            at: TimeMs(4),
            zip: "98103",
            id: "a",
            moved_to: None,
            before: Some(before),
            after: Some(after),
            frame,
        })
    }

    #[test]
    fn a_listing_is_read_by_the_dictionary_that_came_before_it() {
        let words = br#"{"ListingKey":"a","PostalCode":"98103","ListPrice":500}"#;
        let dictionary = Dictionary::try_new(7, words.to_vec()).expect("any bytes will do");
        let mut compressor = Compressor::try_new(1, Some(&dictionary)).expect("starts");
        let frame = compressor.compress(words).expect("is short");
        let summary = |price| Summary { price: Some(price), ..Summary::default() }.encode();
        let (before, after) = (summary(400), summary(500));
        let change = pushed(&upsert(&before, &after, &frame));
        let mut records = Records::try_new().expect("starts");
        assert!(records.read(&change).is_err(), "it has no head");
        let mut records = Records::try_new().expect("starts");
        assert_eq!(records.read(&pushed(&Record::Head)).expect("a head"), None);
        assert!(records.read(&change).is_err(), "its dictionary did not come");
        let told = pushed(&Record::Dictionary { id: 7, bytes: words });
        assert_eq!(records.read(&told).expect("a dictionary"), None);
        let Ok(Some(Line::Change(read))) = records.read(&change) else { panic!("no change") };
        assert_eq!(read.what, What::Upsert(Some(Listing::new(words.to_vec().into()))));
        assert_eq!((read.seq, read.prev, read.is_state), (Seq(2), Seq(1), false));
        assert_eq!(
            (read.changed.as_slice(), read.passage),
            (&["price".into()][..], Some(Passage::Update))
        );
        assert_eq!(read.before.and_then(|facts| facts.price), Some(400));
    }

    #[test]
    fn whatever_is_damaged_is_an_error_and_never_a_panic() {
        let frame = Compressor::try_new(1, None).expect("starts").compress(b"{}").expect("short");
        let summary = Summary::default().encode();
        let whole = pushed(&upsert(&summary, &summary, &frame));
        for bit in 0..whole.len() * 8 {
            let mut records = Records::try_new().expect("starts");
            records.read(&pushed(&Record::Head)).expect("a head");
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            // Numbers may be other numbers, the rest must be seen.
            drop(records.read(&damaged));
            // Cut before its frame it is a change without a listing.
            damaged.truncate(bit / 8);
            let is_whole = damaged.len() == whole.len() - frame.len();
            assert_eq!(records.read(&damaged).is_ok(), is_whole, "cut at {}", bit / 8);
        }
        let mut records = Records::try_new().expect("starts");
        records.read(&pushed(&Record::Head)).expect("a head");
        let control = pushed(&Record::Control(b"{\"control\":"));
        assert!(records.read(&control).is_err());
    }
}
