//! One message on its way, and what its body says.

use platbook_client::admin::QuarantinePut;
use platbook_protocol::listing::{ListingError, Parsed, Parser};
use platbook_protocol::problem::Code;

use super::room::Share;
use crate::queue::Received;

/// A message with its line for the router.
#[derive(Debug)]
pub(super) struct Pending {
    pub(super) message: Received,
    /// With a line feed.
    pub(super) line: Vec<u8>,
    /// Key of the object that the message points to, if it does.
    pub(super) object: Option<String>,
    pub(super) share: Share,
}

/// A message that goes to quarantine.
#[derive(Debug)]
pub(super) struct Refused {
    pub(super) message: Received,
    pub(super) code: String,
    pub(super) detail: String,
    pub(super) share: Share,
}

/// A message that is done: its handles are deleted, then its share is free.
#[derive(Debug)]
pub(super) struct Settled {
    pub(super) handles: Vec<String>,
    pub(super) share: Share,
}

/// What a body says.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Content {
    /// Something for the router.
    Line(Vec<u8>),
    /// The message lies in an object store.
    Pointer { bucket: String, key: String },
}

/// Reads a body and makes the router's line of it: the message itself, whatever was around it,
/// with its order. A body that is no message is told from one that is before the router sees it,
/// so that it cannot take others down with it.
pub(super) fn read(
    parser: &Parser,
    message: &Received,
    body: &[u8],
    sequence_attribute: Option<&str>,
) -> Result<Content, ListingError> {
    let parsed = parser.message(body)?;
    if let Parsed::Pointer { bucket, key } = parsed {
        return Ok(Content::Pointer { bucket, key });
    }
    let mut line = Vec::with_capacity(body.len() + 96);
    let order = match sequence_attribute {
        None => format!("\"sent\":{}", message.sent),
        Some(name) => {
            let value = message.attributes.iter().find(|(found, _)| found == name);
            let sequence = value.and_then(|(_, text)| text.trim().parse::<u64>().ok());
            let sequence = sequence.ok_or(ListingError::NoSequence)?;
            format!("\"sent\":{},\"sequence\":{sequence}", message.sent)
        }
    };
    match parsed {
        Parsed::Upsert(listing) => {
            line.extend_from_slice(format!("{{\"op\":\"upsert\",{order},\"listing\":").as_bytes());
            line.extend_from_slice(&listing.body);
        }
        Parsed::Delete { id, .. } => {
            line.extend_from_slice(format!("{{\"op\":\"delete\",{order},\"id\":").as_bytes());
            let id = serde_json::to_vec(id.as_str()).expect("a text always serialises");
            line.extend_from_slice(&id);
        }
        Parsed::Pointer { .. } => unreachable!("returned above"),
    }
    line.extend_from_slice(b"}\n");
    Ok(Content::Line(line))
}

impl Refused {
    /// A message that is none.
    pub(super) fn new(message: Received, error: &ListingError, share: Share) -> Refused {
        let (code, detail) = (error.code().as_str().to_string(), error.detail());
        Refused { message, code, detail, share }
    }

    /// A message whose object does not exist.
    pub(super) fn missing(message: Received, detail: String, share: Share) -> Refused {
        let code = Code::PointerMissing.as_str().to_string();
        Refused { message, code, detail, share }
    }

    /// What the quarantine keeps.
    pub(super) fn to_put(&self) -> QuarantinePut {
        QuarantinePut {
            message_id: self.message.message_id.clone(),
            code: self.code.clone(),
            detail: self.detail.clone(),
            body: bytes::Bytes::from(self.message.body.clone()),
            attributes: self.message.attributes.clone(),
            sent: self.message.sent,
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::TimeMs;

    use super::*;

    fn received(body: &str) -> Received {
        Received {
            message_id: "m".into(),
            receipt_handle: "h".into(),
            body: body.into(),
            sent: TimeMs(7),
            receive_count: 1,
            attributes: vec![("seq".into(), "41".into())],
        }
    }

    fn line(body: &str, sequence: Option<&str>) -> Result<String, &'static str> {
        let content = read(&Parser::default(), &received(body), body.as_bytes(), sequence);
        match content.map_err(|e| e.code().as_str())? {
            Content::Line(line) => Ok(String::from_utf8(line).expect("text")),
            Content::Pointer { bucket, key } => Ok(format!("{bucket}/{key}")),
        }
    }

    #[test]
    fn every_form_of_a_message_becomes_one_line_with_its_order() {
        let listing = "{\n \"ListingKey\": \"a\", \"ListPrice\": 1 }";
        let expected =
            "{\"op\":\"upsert\",\"sent\":7,\"listing\":{\"ListingKey\":\"a\",\"ListPrice\":1}}\n";
        assert_eq!(line(listing, None).as_deref(), Ok(expected));
        let enveloped = format!("{{\"op\":\"upsert\",\"listing\":{listing}}}");
        assert_eq!(line(&enveloped, None).as_deref(), Ok(expected));
        let sns = serde_json::json!({"Type": "Notification", "Message": enveloped}).to_string();
        assert_eq!(line(&sns, None).as_deref(), Ok(expected));
        let delete = "{\"op\":\"delete\",\"sent\":7,\"sequence\":41,\"id\":\"a\\\"b\"}\n";
        assert_eq!(line(r#"{"op":"delete","id":"a\"b"}"#, Some("seq")).as_deref(), Ok(delete));
        let pointer = concat!(
            r#"["software.amazon.payloadoffloading.PayloadS3Pointer","#,
            r#"{"s3BucketName":"b","s3Key":"k"}]"#
        );
        assert_eq!(line(pointer, None).as_deref(), Ok("b/k"));
    }

    #[test]
    fn what_is_no_message_has_a_code() {
        assert_eq!(line("{", None), Err("bad_json"));
        assert_eq!(line("{\"ListPrice\":1}", None), Err("no_id"));
        assert_eq!(line("{\"id\":\"a\"}", Some("other")), Err("no_sequence"));
    }
}
