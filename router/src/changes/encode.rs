//! Events and control lines as bytes: one JSON object each, as a line or as a server-sent event; or
//! records of the binary stream.

use std::sync::Arc;

use platbook_protocol::follow::{ChangeKind, Told};
use platbook_protocol::frame::{Decompressor, Dictionary, FrameError, FrameHead};
use platbook_protocol::listing::Summary;
use platbook_protocol::op::Body;
use platbook_protocol::records::{self, Record};
use platbook_protocol::{Seq, ShardId, TimeMs};
use serde::Serialize;

use super::binary;
use super::select::Passage;
use crate::read::fields::Fields;

/// How events stand in the response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Format {
    /// One object a line.
    Ndjson,
    /// `text/event-stream`: the id of an event is the token behind it.
    Sse,
    /// Records whose listings are still compressed, and the dictionaries that they need.
    Binary,
}

impl Format {
    /// Media type of the response.
    pub(crate) fn media_type(self) -> &'static str {
        match self {
            Format::Ndjson => "application/x-ndjson",
            Format::Sse => "text/event-stream",
            Format::Binary => records::MEDIA_TYPE,
        }
    }
}

/// A line that is no change.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Control {
    /// A sign of life.
    Heartbeat,
    /// Everything acknowledged before `at` is told, of one shard or of all.
    Resolved { shard: Option<ShardId>, at: TimeMs },
    /// The state of all shards is told.
    StateEnd,
    /// The state is told from its beginning: whatever is not repeated is no longer there.
    ResyncBegin,
    /// Changes that were not wanted, both included.
    Skip { shard: ShardId, first: Seq, last: Seq },
    /// Changes that are not told one by one: rows tell what they have left, both included.
    CatchUp { shard: ShardId, first: Seq, last: Seq },
    /// Changes that the reader has not read will soon be given up, from `oldest` on.
    TrimmingSoon { shard: ShardId, oldest: Seq },
    /// The changes behind the position are gone: ask again, and be told how to go on.
    Gone,
    /// Nothing is left, and no more was asked for.
    End,
}

impl Control {
    fn name(self) -> &'static str {
        match self {
            Control::Heartbeat => "heartbeat",
            Control::Resolved { .. } => "resolved",
            Control::StateEnd => "state-end",
            Control::ResyncBegin => "resync-begin",
            Control::Skip { .. } => "skip",
            Control::CatchUp { .. } => "catch-up",
            Control::TrimmingSoon { .. } => "trimming-soon",
            Control::Gone => "gone",
            Control::End => "end",
        }
    }

    fn write(self, token: Option<&str>, out: &mut Vec<u8>) {
        #[derive(Default, Serialize)]
        struct Object<'a> {
            control: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            shard: Option<u32>,
            #[serde(skip_serializing_if = "Option::is_none")]
            first: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            last: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            oldest: Option<String>,
            #[serde(skip_serializing_if = "Option::is_none")]
            at: Option<u64>,
            #[serde(skip_serializing_if = "Option::is_none")]
            token: Option<&'a str>,
        }
        let mut object = Object { control: self.name(), token, ..Object::default() };
        match self {
            Control::Skip { shard, first, last } | Control::CatchUp { shard, first, last } => {
                object.shard = Some(shard.0);
                object.first = Some(first.0.to_string());
                object.last = Some(last.0.to_string());
            }
            Control::TrimmingSoon { shard, oldest } => {
                object.shard = Some(shard.0);
                object.oldest = Some(oldest.0.to_string());
            }
            Control::Resolved { shard, at } => {
                object.shard = shard.map(|shard| shard.0);
                object.at = Some(at.0);
            }
            Control::Heartbeat
            | Control::StateEnd
            | Control::ResyncBegin
            | Control::Gone
            | Control::End => {}
        }
        write_json(&object, out);
    }
}

/// Writes one reader's events.
pub(crate) struct Encoder {
    format: Format,
    decompressor: Decompressor,
    fields: Option<Fields>,
    listing: Vec<u8>,
    projected: Vec<u8>,
    json: Vec<u8>,
}

impl Encoder {
    /// Starts; only these members of listings if `fields` says so.
    pub(crate) fn try_new(format: Format, fields: Option<Fields>) -> Result<Encoder, FrameError> {
        let decompressor = Decompressor::try_new()?;
        let (listing, projected, json) = (Vec::new(), Vec::new(), Vec::new());
        Ok(Encoder { format, decompressor, fields, listing, projected, json })
    }

    /// Appends what stands before everything else.
    pub(crate) fn start(&self, out: &mut Vec<u8>) {
        match self.format {
            Format::Binary => Record::Head.push(out),
            Format::Ndjson | Format::Sse => {}
        }
    }

    /// The dictionary that must be [added](Encoder::add) before this message is written.
    pub(crate) fn missing(&self, told: &Told<'_>) -> Option<u32> {
        let frame = body_of(told)?.frame;
        let (head, _) = FrameHead::parse(frame).ok()?;
        (!self.decompressor.knows(head.dictionary)).then_some(head.dictionary)
    }

    /// Adds a dictionary: to read frames, or for the reader to do so.
    pub(crate) fn add(&mut self, out: &mut Vec<u8>, dictionary: Arc<Dictionary>) {
        if self.format == Format::Binary {
            Record::Dictionary { id: dictionary.id(), bytes: dictionary.bytes() }.push(out);
        }
        self.decompressor.add(dictionary);
    }

    /// Appends a row of the state, or a change; `token` is the one behind it, where events have it.
    pub(crate) fn event(
        &mut self,
        out: &mut Vec<u8>,
        shard: ShardId,
        told: &Told<'_>,
        passage: Option<Passage>,
        token: Option<&str>,
    ) -> Result<(), FrameError> {
        if self.format == Format::Binary {
            binary::with_record(shard, told, passage, |change| Record::Change(*change).push(out));
            return Ok(());
        }
        let Some(head) = head_of(shard, told, passage) else { return Ok(()) };
        let listing = body_of(told).map(|body| body.frame).filter(|frame| !frame.is_empty());
        if let Some(frame) = listing {
            self.open(frame)?;
        }
        self.begin(out, "change", token);
        write_json(&head, out);
        if listing.is_some() {
            // The listing as it is: it is not parsed again.
            out.pop();
            out.extend_from_slice(b",\"listing\":");
            out.extend_from_slice(self.opened());
            out.push(b'}');
        }
        self.end(out);
        Ok(())
    }

    /// Appends a control line; with the reader's token, where it says where the reader stands.
    pub(crate) fn control(&mut self, out: &mut Vec<u8>, control: Control, token: Option<&str>) {
        if self.format == Format::Binary {
            self.json.clear();
            control.write(token, &mut self.json);
            return Record::Control(&self.json).push(out);
        }
        self.begin(out, control.name(), token);
        control.write(token, out);
        self.end(out);
    }

    fn open(&mut self, frame: &[u8]) -> Result<(), FrameError> {
        self.listing.clear();
        self.decompressor.decompress_into(frame, &mut self.listing)?;
        if let Some(fields) = &self.fields {
            self.projected.clear();
            fields.project(&self.listing, &mut self.projected);
        }
        Ok(())
    }

    fn opened(&self) -> &[u8] {
        if self.fields.is_some() { &self.projected } else { &self.listing }
    }

    fn begin(&self, out: &mut Vec<u8>, name: &str, token: Option<&str>) {
        if self.format != Format::Sse {
            return;
        }
        if let Some(token) = token {
            out.extend_from_slice(b"id: ");
            out.extend_from_slice(token.as_bytes());
            out.push(b'\n');
        }
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(name.as_bytes());
        out.extend_from_slice(b"\ndata: ");
    }

    fn end(&self, out: &mut Vec<u8>) {
        // Listings are minified: no line breaks inside.
        out.extend_from_slice(if self.format == Format::Sse { b"\n\n" } else { b"\n" });
    }
}

fn body_of<'a>(told: &Told<'a>) -> Option<Body<'a>> {
    match told {
        Told::Row { body, .. } => Some(*body),
        Told::Change { after, .. } => *after,
        _ => None,
    }
}

/// All members of an event but the listing, in the order in which they are written.
#[derive(Serialize)]
struct Head<'a> {
    shard: u32,
    seq: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    prev: Option<String>,
    op: &'a str,
    reason: &'a str,
    id: &'a str,
    zip: String,
    revision: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    at: Option<u64>,
    before: Option<Facts<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    changed: Option<Vec<&'a str>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    moved_to: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    filter: Option<&'a str>,
}

/// `None` for what is no event.
fn head_of<'a>(shard: ShardId, told: &Told<'a>, passage: Option<Passage>) -> Option<Head<'a>> {
    let filter = passage.map(Passage::as_str);
    match *told {
        Told::Row { zip, id, revision, seq, .. } => Some(Head {
            shard: shard.0,
            seq: seq.0.to_string(),
            prev: None,
            op: "upsert",
            reason: "state",
            id,
            zip: zip.to_string(),
            revision: revision.0.to_string(),
            at: None,
            before: None,
            changed: None,
            moved_to: None,
            filter,
        }),
        Told::Erased { zip, id, revision, seq, moved_to, .. } => Some(Head {
            shard: shard.0,
            seq: seq.0.to_string(),
            prev: None,
            op: "delete",
            reason: "state",
            id,
            zip: zip.to_string(),
            revision: revision.0.to_string(),
            at: None,
            before: None,
            changed: None,
            moved_to: moved_to.map(|zip| zip.to_string()),
            filter,
        }),
        Told::Change { seq, prev, kind, zip, id, revision, at, before, after } => {
            let (op, reason, moved_to) = match kind {
                ChangeKind::Created | ChangeKind::Updated => ("upsert", "feed", None),
                ChangeKind::Deleted => ("delete", "feed", None),
                ChangeKind::Moved { to } => ("delete", "moved", Some(to.to_string())),
            };
            let before = before.map(summary_of);
            let changed =
                before.zip(after).map(|(was, body)| was.changed(&summary_of(body.summary)));
            Some(Head {
                shard: shard.0,
                seq: seq.0.to_string(),
                prev: Some(prev.0.to_string()),
                op,
                reason,
                id,
                zip: zip.to_string(),
                revision: revision.0.to_string(),
                at: Some(at.0),
                before: before.map(Facts::of),
                changed,
                moved_to,
                filter,
            })
        }
        _ => None,
    }
}

/// A summary; an empty one where it cannot be read, which must not end a reader's stream.
fn summary_of(bytes: &[u8]) -> Summary<'_> {
    Summary::decode(bytes).unwrap_or_default()
}

/// A summary as readers see it.
#[derive(Serialize)]
struct Facts<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    price: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    status: Option<&'a str>,
    #[serde(rename = "type", skip_serializing_if = "Option::is_none")]
    property_type: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    beds: Option<u16>,
    #[serde(skip_serializing_if = "Option::is_none")]
    baths: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    area: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lat: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    lon: Option<f64>,
}

impl<'a> Facts<'a> {
    fn of(found: Summary<'a>) -> Facts<'a> {
        Facts {
            price: found.price,
            status: found.status,
            property_type: found.property_type,
            beds: found.beds,
            baths: found.baths(),
            area: found.area,
            lat: found.latitude(),
            lon: found.longitude(),
        }
    }
}

fn write_json(value: &impl Serialize, out: &mut Vec<u8>) {
    serde_json::to_writer(out, value).expect("texts and numbers are written to memory");
}

#[cfg(test)]
mod tests {
    use platbook_protocol::frame::Compressor;
    use platbook_protocol::{Revision, Zip};
    use serde_json::{Value, json};

    use super::*;

    const ZIP: Zip = Zip::Code(*b"98103");

    fn summary(price: u64) -> Vec<u8> {
        Summary { price: Some(price), status: Some("Active"), ..Summary::default() }.encode()
    }

    fn written(format: Format, fields: Option<&str>, kind: ChangeKind) -> String {
        let frame =
            Compressor::try_new(1, None).expect("a compressor").compress(br#"{"a":1,"b":2}"#);
        let (frame, before, after) = (frame.expect("a frame"), summary(9), summary(8));
        let is_there = matches!(kind, ChangeKind::Created | ChangeKind::Updated);
        let told = Told::Change {
            seq: Seq(5),
            prev: Seq(3),
            kind,
            zip: ZIP,
            id: "A\"1",
            revision: Revision(1 << 60),
            at: TimeMs(7),
            before: Some(&before),
            after: is_there.then_some(Body { summary: &after, frame: &frame }),
        };
        let mut encoder = Encoder::try_new(format, fields.map(Fields::parse)).expect("starts");
        let mut out = Vec::new();
        let written = encoder.event(&mut out, ShardId(2), &told, Some(Passage::Update), Some("T"));
        written.expect("frames are whole");
        String::from_utf8(out).expect("JSON")
    }

    #[test]
    fn an_event_has_what_readers_build_on() {
        let line = written(Format::Ndjson, None, ChangeKind::Updated);
        let event: Value = serde_json::from_str(&line).expect("one object");
        let expected = json!({"shard": 2, "seq": "5", "prev": "3", "op": "upsert",
            "reason": "feed", "id": "A\"1", "zip": "98103", "revision": (1u64 << 60).to_string(),
            "at": 7, "before": {"price": 9, "status": "Active"}, "changed": ["price"],
            "filter": "update", "listing": {"a": 1, "b": 2}});
        assert_eq!(event, expected);
        assert!(line.ends_with(",\"listing\":{\"a\":1,\"b\":2}}\n"), "as stored: {line}");
        let some = written(Format::Ndjson, Some("b"), ChangeKind::Created);
        assert!(some.ends_with(",\"listing\":{\"b\":2}}\n"), "{some}");
        let moved = written(Format::Ndjson, None, ChangeKind::Moved { to: Zip::Code(*b"98107") });
        let moved: Value = serde_json::from_str(&moved).expect("one object");
        let told = (&moved["op"], &moved["reason"], &moved["moved_to"], &moved["listing"]);
        assert_eq!(told, (&json!("delete"), &json!("moved"), &json!("98107"), &Value::Null));
    }

    #[test]
    fn a_server_sent_event_has_its_token_as_id() {
        let event = written(Format::Sse, None, ChangeKind::Updated);
        assert!(event.starts_with("id: T\nevent: change\ndata: {"), "{event}");
        assert!(event.ends_with("}\n\n") && event.lines().count() == 4, "{event}");
    }

    #[test]
    fn control_lines_say_where_the_reader_stands() {
        let mut encoder = Encoder::try_new(Format::Ndjson, None).expect("starts");
        let mut out = Vec::new();
        let skip = Control::Skip { shard: ShardId(1), first: Seq(2), last: Seq(4) };
        for (control, token) in [
            (Control::Heartbeat, Some("T")),
            (Control::Resolved { shard: None, at: TimeMs(5) }, Some("T")),
            (Control::Resolved { shard: Some(ShardId(3)), at: TimeMs(6) }, None),
            (skip, None),
            (Control::TrimmingSoon { shard: ShardId(1), oldest: Seq(2) }, Some("T")),
            (Control::Gone, None),
        ] {
            encoder.control(&mut out, control, token);
        }
        let expected = "{\"control\":\"heartbeat\",\"token\":\"T\"}\n\
            {\"control\":\"resolved\",\"at\":5,\"token\":\"T\"}\n\
            {\"control\":\"resolved\",\"shard\":3,\"at\":6}\n\
            {\"control\":\"skip\",\"shard\":1,\"first\":\"2\",\"last\":\"4\"}\n\
            {\"control\":\"trimming-soon\",\"shard\":1,\"oldest\":\"2\",\"token\":\"T\"}\n\
            {\"control\":\"gone\"}\n";
        assert_eq!(String::from_utf8(out).expect("JSON"), expected);
    }
}
