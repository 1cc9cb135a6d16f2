//! What calls give and take: the shapes of the HTTP API.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use platbook_protocol::{Revision, TimeMs};
use serde::{Deserialize, Deserializer, Serialize};

/// How a write ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// The message moved the listing.
    Applied,
    /// Same body, newer `sent`.
    Unchanged,
    /// Seen before.
    Duplicate,
    /// Something newer is known.
    Stale,
    /// Recorded, but the two clocks disagree about it.
    Suspect,
}

/// Answer to a write of one listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct WriteAnswer {
    /// How it ended.
    pub outcome: Outcome,
    /// Revision of the last decision about the id, where the router knows it.
    #[serde(default, deserialize_with = "revision")]
    pub revision: Option<Revision>,
}

fn revision<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Revision>, D::Error> {
    // A decimal string: revisions exceed 2^53.
    let text = Option::<String>::deserialize(from)?;
    text.map(|text| text.parse().map(Revision).map_err(serde::de::Error::custom)).transpose()
}

/// One listing, read by id.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listing {
    /// The JSON as sent, minified.
    pub body: Bytes,
    /// ZIP under which it is stored.
    pub zip: String,
    /// Its revision.
    pub revision: Option<Revision>,
    /// For `If-None-Match` and for telling versions apart.
    pub etag: Option<String>,
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
    /// Lines that a newer, unfinished message stands before: not done, to be sent again.
    pub busy: Vec<u64>,
    /// Lines that were not applied.
    pub rejected: Vec<Rejection>,
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

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Page {
    /// The entries, as the router gives them.
    pub items: Vec<serde_json::Value>,
    /// Cursor of the next page; `None` on the last.
    pub next: Option<String>,
}

/// A message that could not be applied, on its way into the quarantine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct QuarantinePut {
    /// The queue's message id.
    pub message_id: String,
    /// Stable code of the reason.
    pub code: String,
    /// The sentence for people.
    pub detail: String,
    /// The body as received.
    pub body: Bytes,
    /// Message attributes, names and text values.
    pub attributes: Vec<(String, String)>,
    /// The queue's clock of the original message.
    pub sent: TimeMs,
}

impl QuarantinePut {
    /// Appends the line of `POST /v1/quarantine`. A body that is no UTF-8 travels as base64.
    pub(crate) fn push_line(&self, out: &mut Vec<u8>) {
        #[derive(Serialize)]
        struct Line<'a> {
            message_id: &'a str,
            code: &'a str,
            detail: &'a str,
            #[serde(skip_serializing_if = "Option::is_none")]
            body: Option<&'a str>,
            #[serde(skip_serializing_if = "Option::is_none")]
            body_base64: Option<String>,
            attributes: serde_json::Map<String, serde_json::Value>,
            sent: u64,
        }
        let text = std::str::from_utf8(&self.body).ok();
        let attributes = self.attributes.iter().map(|(k, v)| (k.clone(), v.as_str().into()));
        let line = Line {
            message_id: &self.message_id,
            code: &self.code,
            detail: &self.detail,
            body: text,
            body_base64: text.is_none().then(|| BASE64_STANDARD.encode(&self.body)),
            attributes: attributes.collect(),
            sent: self.sent.0,
        };
        serde_json::to_writer(&mut *out, &line).expect("strings and numbers always serialise");
        out.push(b'\n');
    }
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

    #[test]
    fn a_revision_above_two_to_the_53_survives() {
        let text = r#"{"outcome":"applied","revision":"18446744073709551615"}"#;
        let answer: WriteAnswer = serde_json::from_str(text).expect("parses");
        assert_eq!(answer.revision, Some(Revision(u64::MAX)));
    }

    #[test]
    fn a_body_that_is_no_text_travels_as_base64() {
        let mut put = QuarantinePut {
            message_id: "m".into(),
            code: "bad_json".into(),
            detail: "d".into(),
            body: Bytes::from_static(b"\xff"),
            attributes: vec![("a".into(), "b".into())],
            sent: TimeMs(7),
        };
        let mut out = Vec::new();
        put.push_line(&mut out);
        put.body = Bytes::from_static(b"x\n");
        put.push_line(&mut out);
        assert_eq!(
            String::from_utf8(out).expect("text"),
            concat!(
                r#"{"message_id":"m","code":"bad_json","detail":"d","body_base64":"/w==","#,
                r#""attributes":{"a":"b"},"sent":7}"#,
                "\n",
                r#"{"message_id":"m","code":"bad_json","detail":"d","body":"x\n","#,
                r#""attributes":{"a":"b"},"sent":7}"#,
                "\n"
            )
        );
    }
}
