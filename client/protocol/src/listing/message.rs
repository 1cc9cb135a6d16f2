//! What a queue message says: create or update, delete, or "my body lies in an object store".

use std::borrow::Cow;

use super::extract::{
    FIELD_SLOTS, Field, FieldMap, FieldMapError, Fields, bad_field, id_of, shown,
};
use super::minify::{JsonError, JsonProblem};
use super::plan::Plan;
use super::scan::{Found, Scanned, scan};
use super::{LISTING_BYTES_MAX, ListingError, MESSAGE_BYTES_MAX, Order, digest};
use crate::{Digest, ListingId, TimeMs, Zip};

const POINTER_CLASSES: [&str; 2] = [
    "software.amazon.payloadoffloading.PayloadS3Pointer",
    "com.amazon.sqs.javamessaging.MessageS3Pointer",
];

/// Fields of a listing that is the whole document.
const BARE: usize = 0;
/// Fields of a listing in an envelope.
const ENVELOPED: usize = BARE + FIELD_SLOTS;
const OP: usize = ENVELOPED + FIELD_SLOTS;
const LISTING: usize = OP + 1;
const ID: usize = OP + 2;
const SENT: usize = OP + 3;
const SNS_TYPE: usize = OP + 4;
const SNS_MESSAGE: usize = OP + 5;
const POINTER_CLASS: usize = OP + 6;
const POINTER_BUCKET: usize = OP + 7;
const POINTER_KEY: usize = OP + 8;
const SEQUENCE: usize = OP + 9;

/// One message, understood.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Parsed<'a> {
    /// Create or update.
    Upsert(Listing<'a>),
    /// Delete.
    Delete {
        /// The listing.
        id: ListingId,
        /// What orders it, where the line of a bulk request says so.
        order: Order,
    },
    /// The message itself lies in S3: fetch it and parse that instead.
    Pointer {
        /// S3 bucket.
        bucket: String,
        /// S3 key.
        key: String,
    },
}

/// One listing, taken apart: all that is ever read from its JSON.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing<'a> {
    /// The operator's key.
    pub id: ListingId,
    /// Where it is to live.
    pub zip: Zip,
    /// The operator's clock; `None` where the listing has no usable one.
    pub modified: Option<TimeMs>,
    /// What orders it, where the line of a bulk request says so beside it.
    pub order: Order,
    /// Over ZIP, raw modified and body.
    pub digest: Digest,
    /// Encoded [`super::Summary`].
    pub summary: Vec<u8>,
    /// The JSON as sent, minified.
    pub body: Cow<'a, [u8]>,
}

impl Parsed<'_> {
    /// The same, independent of the message's bytes.
    pub fn into_owned(self) -> Parsed<'static> {
        match self {
            Parsed::Upsert(listing) => Parsed::Upsert(listing.into_owned()),
            Parsed::Delete { id, order } => Parsed::Delete { id, order },
            Parsed::Pointer { bucket, key } => Parsed::Pointer { bucket, key },
        }
    }
}

impl Listing<'_> {
    /// The same, independent of the message's bytes.
    pub fn into_owned(self) -> Listing<'static> {
        Listing { body: Cow::Owned(self.body.into_owned()), ..self }
    }
}

/// Reads messages; made once from the configuration, then shared.
#[derive(Clone, Debug)]
pub struct Parser {
    fields: FieldMap,
    plan: Plan,
}

impl Default for Parser {
    fn default() -> Parser {
        Parser::try_new(FieldMap::default()).expect("the default fields are JSON pointers")
    }
}

impl Parser {
    /// A parser that looks for the id, the ZIP and the modified time at these places.
    pub fn try_new(fields: FieldMap) -> Result<Parser, FieldMapError> {
        let mut plan = Plan::empty();
        fields.add_to(&mut plan, None, BARE)?;
        fields.add_to(&mut plan, Some("listing"), ENVELOPED)?;
        let envelope: [(usize, &[&str]); 10] = [
            (OP, &["op"]),
            (LISTING, &["listing"]),
            (ID, &["id"]),
            (SENT, &["sent"]),
            (SEQUENCE, &["sequence"]),
            (SNS_TYPE, &["Type"]),
            (SNS_MESSAGE, &["Message"]),
            (POINTER_CLASS, &["0"]),
            (POINTER_BUCKET, &["1", "s3BucketName"]),
            (POINTER_KEY, &["1", "s3Key"]),
        ];
        for (slot, path) in envelope {
            plan.add(path.iter().copied(), slot);
        }
        Ok(Parser { fields, plan })
    }

    /// Reads a queue message or a line of a bulk request. An SNS envelope around it is unwrapped.
    pub fn message<'a>(&self, raw: &'a [u8]) -> Result<Parsed<'a>, ListingError> {
        let scanned = self.scan(raw)?;
        match notification(&scanned.found) {
            None => self.understand(raw, scanned),
            Some(inner) => {
                let inner = inner.as_bytes();
                Ok(self.understand(inner, self.scan(inner)?)?.into_owned())
            }
        }
    }

    /// Reads a document that is one listing, for a request about `id`: the listing must have the
    /// same id or none.
    pub fn listing<'a>(&self, raw: &'a [u8], id: &ListingId) -> Result<Listing<'a>, ListingError> {
        let scanned = self.scan(raw)?;
        if !raw.trim_ascii_start().starts_with(b"{") {
            return Err(not_an_object(raw));
        }
        let fields = Fields { found: &scanned.found, base: BARE };
        if fields.get(Field::Id).is_some_and(|value| !value.is_null()) {
            let found = id_of(fields.get(Field::Id), &self.fields.id)?;
            if found != *id {
                return Err(ListingError::IdMismatch {
                    field: self.fields.id.clone(),
                    expected: id.to_string(),
                    found: found.to_string(),
                });
            }
        }
        bare(raw, scanned, id.clone())
    }

    fn scan<'a>(&self, raw: &'a [u8]) -> Result<Scanned<'a>, ListingError> {
        check_size("message", raw.len(), MESSAGE_BYTES_MAX)?;
        Ok(scan(raw, &self.plan)?)
    }

    fn understand<'a>(
        &self,
        raw: &'a [u8],
        scanned: Scanned<'a>,
    ) -> Result<Parsed<'a>, ListingError> {
        match raw.trim_ascii_start().first() {
            Some(b'[') => return pointer(raw, &scanned),
            Some(b'{') => {}
            Some(_) | None => return Err(not_an_object(raw)),
        }
        let found = &scanned.found;
        if let Some(op) = found.get(OP) {
            let text = op.text().ok_or_else(|| bad_field("/op", op, "a string"))?;
            return match &*text {
                "upsert" => self.enveloped(scanned).map(Parsed::Upsert),
                "delete" => self.delete(found),
                other => Err(ListingError::UnknownOp { found: shown(other) }),
            };
        }
        let key = found.get(BARE + Field::Id as usize);
        let is_there = |slot| usize::from(found.get(slot).is_some());
        let named = is_there(SENT) + is_there(SEQUENCE) + 1;
        let is_key_only = key.is_some() && self.fields.id_is_direct();
        if scanned.members == named && (found.get(ID).is_some() || is_key_only) {
            return self.delete(found);
        }
        let id = id_of(key, &self.fields.id)?;
        bare(raw, scanned, id).map(Parsed::Upsert)
    }

    fn delete<'a>(&self, found: &Found<'_>) -> Result<Parsed<'a>, ListingError> {
        let id = match (found.get(ID), found.get(BARE + Field::Id as usize)) {
            (None, Some(key)) => id_of(Some(key), &self.fields.id)?,
            (id, _) => id_of(id, "/id")?,
        };
        Ok(Parsed::Delete { id, order: order(found)? })
    }

    fn enveloped<'a>(&self, scanned: Scanned<'a>) -> Result<Listing<'a>, ListingError> {
        let value = scanned.found.get(LISTING).ok_or(ListingError::NoListing)?;
        if !value.is_object() {
            return Err(bad_field("/listing", value, "an object"));
        }
        check_size("listing", value.raw.len(), LISTING_BYTES_MAX)?;
        let fields = Fields { found: &scanned.found, base: ENVELOPED };
        let id = id_of(fields.get(Field::Id), &format!("/listing{}", self.fields.id))?;
        let order = order(&scanned.found)?;
        let range = value.minified();
        let body = match scanned.minified {
            Cow::Borrowed(bytes) => Cow::Borrowed(&bytes[range]),
            Cow::Owned(mut bytes) => {
                bytes.truncate(range.end);
                bytes.drain(..range.start);
                Cow::Owned(bytes)
            }
        };
        Ok(take_apart(&fields, id, order, body))
    }
}

/// A listing that is the whole document.
fn bare<'a>(raw: &[u8], scanned: Scanned<'a>, id: ListingId) -> Result<Listing<'a>, ListingError> {
    check_size("listing", raw.trim_ascii().len(), LISTING_BYTES_MAX)?;
    if let Some(offset) = scanned.beyond_depth {
        return Err(JsonError { offset, problem: JsonProblem::TooDeep }.into());
    }
    let fields = Fields { found: &scanned.found, base: BARE };
    Ok(take_apart(&fields, id, Order::default(), scanned.minified))
}

fn take_apart<'a>(
    fields: &Fields<'_, '_>,
    id: ListingId,
    order: Order,
    body: Cow<'a, [u8]>,
) -> Listing<'a> {
    let zip = fields.zip();
    let digest = digest::digest(&zip, fields.raw_modified(), &body);
    Listing { id, zip, modified: fields.modified(), order, digest, summary: fields.summary(), body }
}

/// The text inside an SNS envelope. A message that says what it is by `op` or has a listing's id
/// is none.
fn notification<'a>(found: &Found<'a>) -> Option<Cow<'a, str>> {
    let is_notification = found.get(SNS_TYPE)?.raw == "\"Notification\"";
    let is_ours = found.get(OP).is_some() || found.get(BARE + Field::Id as usize).is_some();
    if !is_notification || is_ours {
        return None;
    }
    found.get(SNS_MESSAGE)?.text()
}

fn pointer(raw: &[u8], scanned: &Scanned<'_>) -> Result<Parsed<'static>, ListingError> {
    let text = |slot| scanned.found.get(slot).and_then(|value| value.text());
    let class = text(POINTER_CLASS);
    if !class.is_some_and(|class| POINTER_CLASSES.contains(&&*class)) || scanned.members != 2 {
        return Err(not_an_object(raw));
    }
    let required = |slot, field: &str| match scanned.found.get(slot) {
        None => Err(ListingError::BadField {
            field: field.to_string(),
            found: "missing".to_string(),
            expected: "a string",
        }),
        Some(value) => {
            let text = value.text().filter(|text| !text.is_empty());
            text.map(Cow::into_owned).ok_or_else(|| bad_field(field, value, "a string"))
        }
    };
    let bucket = required(POINTER_BUCKET, "/1/s3BucketName")?;
    let key = required(POINTER_KEY, "/1/s3Key")?;
    Ok(Parsed::Pointer { bucket, key })
}

fn order(found: &Found<'_>) -> Result<Order, ListingError> {
    let number = |slot, field, wanted| match found.get(slot).filter(|value| !value.is_null()) {
        None => Ok(None),
        Some(value) => value.raw.parse().map(Some).map_err(|_| bad_field(field, value, wanted)),
    };
    Ok(Order {
        sent: number(SENT, "/sent", "a whole number of milliseconds")?.map(TimeMs),
        sequence: number(SEQUENCE, "/sequence", "a whole number")?,
    })
}

fn not_an_object(raw: &[u8]) -> ListingError {
    ListingError::BadField {
        field: "/".to_string(),
        found: shown(&String::from_utf8_lossy(raw.trim_ascii())),
        expected: "an object",
    }
}

fn check_size(what: &'static str, bytes: usize, limit: usize) -> Result<(), ListingError> {
    if bytes > limit { Err(ListingError::TooLarge { what, bytes, limit }) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use serde_json::{Value, json};

    use super::*;
    use crate::problem::Code;

    fn parse(raw: &str) -> Result<Parsed<'_>, ListingError> {
        let parser = Parser::default();
        parser.message(raw.as_bytes())
    }

    fn upsert(raw: &str) -> Listing<'_> {
        match parse(raw) {
            Ok(Parsed::Upsert(listing)) => listing,
            other => panic!("{raw} gave {other:?}"),
        }
    }

    fn refusal(raw: &str) -> (Code, String) {
        let e = parse(raw).expect_err("it must be refused");
        (e.code(), e.detail())
    }

    const LISTING: &str = r#"{"ListingKey":"ACT1","PostalCode":"98101","ListPrice":5}"#;

    #[test]
    fn the_same_listing_through_every_door_is_the_same() {
        let sns = json!({"Type": "Notification", "TopicArn": "t", "Message": LISTING});
        let both = json!({
            "Message": format!("{{\"op\":\"upsert\",\"listing\":{LISTING}}}"),
            "Type": "Notification",
        });
        let doors = [
            format!("\n {LISTING} "),
            LISTING.replace(':', " :\t").replace(',', "\n,"),
            format!(r#"{{"op":"upsert","listing":{LISTING}}}"#),
            format!(r#" {{ "listing" : {LISTING} , "op" : "upsert" }} "#),
            sns.to_string(),
            both.to_string(),
        ];
        let expected = upsert(LISTING);
        assert_eq!((expected.id.as_str(), expected.zip.as_str()), ("ACT1", "98101"));
        assert_eq!(expected.body, LISTING.as_bytes());
        for door in &doors {
            assert_eq!(upsert(door), expected, "{door}");
        }
        let id = ListingId::try_new("ACT1").unwrap();
        assert_eq!(Parser::default().listing(LISTING.as_bytes(), &id), Ok(expected));
    }

    #[test]
    fn only_an_object_of_nothing_but_an_id_is_a_delete() {
        for (raw, sent) in [
            (r#"{"op":"delete","id":"A"}"#, None),
            (r#"{"op":"delete","id":"A","sent":5,"why":"sold"}"#, Some(TimeMs(5))),
            (r#"{"op":"delete","ListingKey":"A"}"#, None),
            (r#"{"id":"A"}"#, None),
            (r#"{"sent":7,"id":"A"}"#, Some(TimeMs(7))),
            (r#"{"ListingKey":"A"}"#, None),
            (r#"{"Type":"Notification","Message":"{\"id\":\"A\"}"}"#, None),
        ] {
            let (id, order) = (ListingId::try_new("A").unwrap(), Order { sent, sequence: None });
            assert_eq!(parse(raw), Ok(Parsed::Delete { id, order }), "{raw}");
        }
        assert_eq!(upsert(r#"{"ListingKey":"A","id":"A"}"#).zip, Zip::Unknown);
        assert_eq!(
            upsert(r#"{"ListingKey":"A","Type":"Notification","Message":"m"}"#).order,
            Order::default()
        );
        let nested = FieldMap { id: "/Keys/Listing".to_string(), ..FieldMap::default() };
        let parser = Parser::try_new(nested).unwrap();
        let found = parser.message(br#"{"Keys":{"Listing":"A"}}"#);
        assert!(matches!(found, Ok(Parsed::Upsert(_))), "{found:?}");
    }

    #[test]
    fn sent_stands_beside_the_listing_and_not_in_it() {
        let raw = format!(r#"{{"op":"upsert","sent":123,"sequence":4,"listing":{LISTING}}}"#);
        assert_eq!(upsert(&raw).order, Order { sent: Some(TimeMs(123)), sequence: Some(4) });
        let raw = r#"{"ListingKey":"A","ListPrice":1,"sent":5}"#;
        assert_eq!(upsert(raw).order, Order::default());
        for bad in ["\"5\"", "-1", "1.5", "{}", "99999999999999999999"] {
            let raw = format!(r#"{{"op":"delete","id":"A","sent":{bad}}}"#);
            assert_eq!(refusal(&raw).0, Code::BadField, "{bad}");
        }
    }

    #[test]
    fn pointers_of_both_classes_are_recognised() {
        for class in POINTER_CLASSES {
            let raw = format!(r#" ["{class}", {{"s3BucketName":"b","s3Key":"k/\u0061"}}]"#);
            let expected = Parsed::Pointer { bucket: "b".to_string(), key: "k/a".to_string() };
            assert_eq!(parse(&raw), Ok(expected));
            assert_eq!(refusal(&format!(r#"["{class}",{{"s3Key":"k"}}]"#)).0, Code::BadField);
            assert_eq!(refusal(&format!(r#"["{class}"]"#)).0, Code::BadField);
        }
        assert_eq!(
            refusal(r#"["other.Class",{"s3BucketName":"b","s3Key":"k"}]"#).0,
            Code::BadField
        );
    }

    #[test]
    fn a_refusal_has_a_stable_code_and_names_what_is_wrong() {
        let long = format!(r#"{{"id":"{}"}}"#, "x".repeat(256));
        let cases = [
            (r#"{"ListingKey":7,"ListPrice":1}"#, Code::BadField, "/ListingKey is 7, a string"),
            (r#"{"ListingKey":null,"a":1}"#, Code::NoId, "/ListingKey"),
            (r#"{"ListPrice":1}"#, Code::NoId, "/ListingKey"),
            ("{}", Code::NoId, "/ListingKey"),
            (r#"{"op":"delete"}"#, Code::NoId, "/id"),
            (r#"{"op":"upsert","listing":{"a":1}}"#, Code::NoId, "/listing/ListingKey"),
            (r#"{"op":"upsert"}"#, Code::NoListing, "/listing"),
            (r#"{"op":"upsert","listing":[1]}"#, Code::BadField, "/listing is [1], an object"),
            (r#"{"op":"merge","id":"A"}"#, Code::UnknownOp, "\"merge\""),
            (r#"{"op":null}"#, Code::BadField, "/op is null"),
            (r#"{"id":""}"#, Code::BadId, "empty"),
            (r#"{"id":"a\u0000b"}"#, Code::BadId, "U+0000"),
            (&long, Code::IdTooLong, "256 bytes, the limit is 255"),
            ("[1]", Code::BadField, "an object was expected"),
            ("7", Code::BadField, "an object was expected"),
            (r#"{"id":"A"} x"#, Code::BadJson, "byte 11"),
            (r#"{"Type":"Notification","Message":"no"}"#, Code::BadJson, "byte 0"),
        ];
        for (raw, code, part) in cases {
            let (found, detail) = refusal(raw);
            assert_eq!(found, code, "{raw}: {detail}");
            assert!(detail.contains(part), "{raw}: {detail}");
        }
        assert_eq!(Parser::default().message(b"\xff").map_err(|e| e.code()), Err(Code::BadUtf8));
    }

    #[test]
    fn the_limits_are_those_of_the_listing_whatever_stands_around_it() {
        let sized = |bytes: usize| {
            let frame = r#"{"ListingKey":"A","x":""}"#.len();
            format!(r#"{{"ListingKey":"A","x":"{}"}}"#, "y".repeat(bytes - frame))
        };
        let deep = |depth: usize| {
            let (open, close) = ("[".repeat(depth - 1), "]".repeat(depth - 1));
            format!(r#"{{"ListingKey":"A","x":{open}{close}}}"#)
        };
        let enveloped = |listing: &str| format!(r#"{{"op":"upsert","listing":{listing}}}"#);
        for (good, bad, code) in [
            (sized(LISTING_BYTES_MAX), sized(LISTING_BYTES_MAX + 1), Code::ListingTooLarge),
            (deep(128), deep(129), Code::TooDeep),
        ] {
            upsert(&format!(" {good} "));
            upsert(&enveloped(&good));
            assert_eq!(refusal(&bad).0, code);
            assert_eq!(refusal(&enveloped(&bad)).0, code);
        }
        let (code, detail) = refusal(&" ".repeat(MESSAGE_BYTES_MAX + 1));
        assert_eq!(code, Code::ListingTooLarge, "{detail}");
    }

    #[test]
    fn a_request_about_one_listing_takes_no_other() {
        let parser = Parser::default();
        let id = ListingId::try_new("A").unwrap();
        let without = parser.listing(br#"{"PostalCode":"98101"}"#, &id).unwrap();
        assert_eq!((without.id, without.zip.as_str()), (id.clone(), "98101"));
        let code =
            |raw: &str| parser.listing(raw.as_bytes(), &id).map(|_| ()).map_err(|e| e.code());
        assert_eq!(code(LISTING), Err(Code::IdMismatch));
        assert_eq!(code(r#"{"ListingKey":1}"#), Err(Code::BadField));
        assert_eq!(code("[]"), Err(Code::BadField));
        assert!(code(r#"{"ListingKey":"A"}"#).is_ok());
    }

    proptest! {
        #[test]
        fn any_json_is_taken_or_refused_without_a_panic(
            op in proptest::sample::select(vec!["upsert", "delete", "merge", ""]),
            listing: Option<String>, id: Option<String>, text: String, extra: bool,
        ) {
            let mut message = json!({"op": op, "id": id, "listing": {"ListingKey": listing}});
            if extra {
                let inner = message.to_string();
                message = json!({"Type": "Notification", "Message": inner, "x": text});
            }
            let raw = message.to_string();
            if let Ok(Parsed::Upsert(found)) = Parser::default().message(raw.as_bytes()) {
                let body: Value = serde_json::from_slice(&found.body).unwrap();
                prop_assert_eq!(body["ListingKey"].as_str(), Some(found.id.as_str()));
            }
            let _either = Parser::default().message(text.as_bytes());
        }
    }
}
