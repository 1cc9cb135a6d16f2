//! Taking messages: checks, checksums, the store, and only then the queue.

use std::borrow::Cow;
use std::collections::HashSet;
use std::sync::atomic::Ordering;

use bytes::Bytes;
use platbook_protocol::TimeMs;
use serde::Deserialize;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::attributes::{self, Attributes};
use super::journal::uuid;
use super::record::{Copy, Key, Location, Message, Record};
use super::service::{Answer, OpenQueue, Service};
use super::service_error::{Code, ServiceError};
use super::settings::{MESSAGE_BYTES_MAX, Settings};

/// Most entries of any batch.
pub(super) const BATCH_ENTRIES_MAX: usize = 10;
/// Longest delay of a message, in seconds.
const DELAY_MAX: u64 = 900;

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct SendBatch<'a> {
    #[serde(default)]
    queue_url: String,
    #[serde(default, borrow)]
    entries: Vec<Entry<'a>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Entry<'a> {
    /// Of a single message.
    #[serde(default)]
    queue_url: String,
    /// Of a batch's entry.
    #[serde(default)]
    id: String,
    #[serde(default, borrow)]
    message_body: Option<&'a RawValue>,
    #[serde(default)]
    delay_seconds: Option<u64>,
    #[serde(default)]
    message_attributes: Attributes,
    #[serde(default)]
    message_system_attributes: Attributes,
}

/// A checked message, what is answered about it, and how much of the batch limit it takes.
struct Prepared {
    message: Message,
    answer: Value,
    bytes: usize,
}

impl Service {
    pub(super) async fn send_message(&self, body: &Bytes) -> Answer {
        let entry: Entry<'_> = serde_json::from_slice(body)?;
        let open = self.by_url(&entry.queue_url)?;
        let settings = open.lock().settings;
        let prepared = self.prepare(&open, settings, &entry, body)?;
        self.accept(&open, vec![prepared.message]).await?;
        Ok(prepared.answer.to_string().into_bytes())
    }

    pub(super) async fn send_message_batch(&self, body: &Bytes) -> Answer {
        let request: SendBatch<'_> = serde_json::from_slice(body)?;
        let open = self.by_url(&request.queue_url)?;
        check_batch(request.entries.iter().map(|entry| entry.id.as_str()))?;
        let settings = open.lock().settings;
        let (mut messages, mut successful, mut failed) = (Vec::new(), Vec::new(), Vec::new());
        let mut bytes = 0;
        for entry in &request.entries {
            match self.prepare(&open, settings, entry, body) {
                Ok(prepared) => {
                    bytes += prepared.bytes;
                    let mut answer = prepared.answer;
                    answer["Id"] = Value::from(entry.id.as_str());
                    successful.push(answer);
                    messages.push(prepared.message);
                }
                Err(error) => failed.push(error.failed_entry(&entry.id)),
            }
        }
        if bytes as u64 > MESSAGE_BYTES_MAX {
            let message = format!(
                "Batch requests cannot be longer than {MESSAGE_BYTES_MAX} bytes. \
                 You have sent {bytes} bytes."
            );
            return Err(ServiceError::new(Code::BatchRequestTooLong, message));
        }
        self.accept(&open, messages).await?;
        let mut answer = json!({ "Successful": successful });
        if !failed.is_empty() {
            answer["Failed"] = Value::from(failed);
        }
        Ok(answer.to_string().into_bytes())
    }

    /// Stores messages and lets them be delivered.
    async fn accept(&self, open: &OpenQueue, messages: Vec<Message>) -> Result<(), ServiceError> {
        let kept: Vec<(u8, TimeMs)> = messages.iter().map(|m| (m.copies, m.visible)).collect();
        if kept.is_empty() {
            return Ok(());
        }
        let records = messages.into_iter().map(Record::Message).collect();
        let locations: Vec<Location> = self.store.append(records).await?;
        self.metrics.accepted.add(kept.len() as u64);
        let now = self.clock.now();
        {
            let mut state = open.lock();
            for (location, (copies, visible)) in locations.into_iter().zip(kept) {
                for copy in [Copy::First, Copy::Second].into_iter().take(usize::from(copies)) {
                    state.queue.push(Key { location, copy }, visible, now);
                }
            }
        }
        open.arrivals.notify_one();
        Ok(())
    }

    fn prepare(
        &self,
        open: &OpenQueue,
        settings: Settings,
        entry: &Entry<'_>,
        request: &Bytes,
    ) -> Result<Prepared, ServiceError> {
        let literal = entry.message_body.map(RawValue::get).unwrap_or_default();
        if literal.is_empty() {
            let message = "The request must contain the parameter MessageBody.";
            return Err(ServiceError::new(Code::MissingParameter, message));
        }
        let text = unquote(literal)?;
        check_text(&text)?;
        let (attributes_md5, attribute_bytes) = attributes::check(&entry.message_attributes)?;
        let bytes = text.len() + attribute_bytes;
        if bytes as u64 > settings.message_bytes_max {
            let limit = settings.message_bytes_max;
            return Err(ServiceError::invalid(format!(
                "Message must be shorter than {limit} bytes."
            )));
        }
        let delay = entry.delay_seconds.unwrap_or(settings.delay);
        if delay > DELAY_MAX {
            return Err(ServiceError::invalid(format!("DelaySeconds must be at most {DELAY_MAX}")));
        }
        let sent = self.clock.now();
        let body_md5 = attributes::md5(text.as_bytes());
        let id = new_id();
        let mut answer =
            json!({ "MessageId": uuid(id), "MD5OfMessageBody": attributes::hex(&body_md5) });
        if !entry.message_attributes.is_empty() {
            answer["MD5OfMessageAttributes"] = Value::from(attributes::hex(&attributes_md5));
        }
        if !entry.message_system_attributes.is_empty() {
            let (md5, _) = attributes::check(&entry.message_system_attributes)?;
            answer["MD5OfMessageSystemAttributes"] = Value::from(attributes::hex(&md5));
        }
        let trace = entry.message_system_attributes.get("AWSTraceHeader");
        let trace = trace.and_then(|a| a.string_value.clone()).unwrap_or_default();
        let message = Message {
            queue: open.number,
            copies: 1 + u8::from(
                self.faults.duplicates(self.accepted.fetch_add(1, Ordering::Relaxed)),
            ),
            sent,
            visible: TimeMs(sent.0 + delay * 1_000),
            id,
            body_md5,
            trace: Bytes::from(trace),
            attributes: to_json(&entry.message_attributes),
            body: request.slice_ref(literal.as_bytes()),
        };
        Ok(Prepared { message, answer, bytes })
    }
}

/// Checks number and ids of a batch's entries.
pub(super) fn check_batch<'a>(
    ids: impl ExactSizeIterator<Item = &'a str>,
) -> Result<(), ServiceError> {
    let count = ids.len();
    if count == 0 {
        let message = "There should be at least one entry in the request.";
        return Err(ServiceError::new(Code::EmptyBatch, message));
    }
    if count > BATCH_ENTRIES_MAX {
        let message =
            format!("Maximum number of entries per request are 10. You have sent {count}.");
        return Err(ServiceError::new(Code::TooManyEntries, message));
    }
    let mut seen = HashSet::new();
    for id in ids {
        let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
        if id.is_empty() || id.len() > 80 || !id.chars().all(fits) {
            let message = "A batch entry id can only contain alphanumeric characters, hyphens \
                           and underscores. It can be at most 80 letters long.";
            return Err(ServiceError::new(Code::InvalidEntryId, message));
        }
        if !seen.insert(id) {
            let message = format!("Id {id} repeated.");
            return Err(ServiceError::new(Code::EntryIdsNotDistinct, message));
        }
    }
    Ok(())
}

/// The text of a JSON string literal.
fn unquote(literal: &str) -> Result<Cow<'_, str>, ServiceError> {
    let inner = literal.strip_prefix('"').and_then(|l| l.strip_suffix('"'));
    match inner {
        Some(inner) if !inner.contains('\\') => Ok(Cow::Borrowed(inner)),
        Some(_) => Ok(Cow::Owned(serde_json::from_str(literal)?)),
        None => Err(ServiceError::new(Code::Malformed, "MessageBody is not a string")),
    }
}

/// Only what XML may hold goes into a message.
fn check_text(text: &str) -> Result<(), ServiceError> {
    if text.is_empty() {
        let message = "The request must contain the parameter MessageBody.";
        return Err(ServiceError::new(Code::MissingParameter, message));
    }
    let is_bad = |c: char| {
        (c < ' ' && !matches!(c, '\t' | '\n' | '\r')) || matches!(c, '\u{fffe}' | '\u{ffff}')
    };
    match text.chars().any(is_bad) {
        true => {
            let message = "Invalid characters found. Valid unicode characters are #x9 | #xA | \
                           #xD | #x20 to #xD7FF | #xE000 to #xFFFD | #x10000 to #x10FFFF";
            Err(ServiceError::new(Code::InvalidMessageContents, message))
        }
        false => Ok(()),
    }
}

fn to_json(attributes: &Attributes) -> Bytes {
    match attributes.is_empty() {
        true => Bytes::new(),
        false => {
            Bytes::from(serde_json::to_vec(attributes).expect("a map of texts always serialises"))
        }
    }
}

/// A random UUID of version 4.
fn new_id() -> u128 {
    let random: u128 = rand::random();
    (random & !(0xf << 76) & !(0b11 << 62)) | (0x4 << 76) | (0b10 << 62)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_batch_has_one_to_ten_distinct_ids() {
        let code = |ids: &[&str]| check_batch(ids.iter().copied()).map_err(|e| e.code);
        assert_eq!(code(&[]), Err(Code::EmptyBatch));
        assert_eq!(code(&["a"; 11]), Err(Code::TooManyEntries));
        assert_eq!(code(&["a", "a"]), Err(Code::EntryIdsNotDistinct));
        assert_eq!(code(&["a b"]), Err(Code::InvalidEntryId));
        assert_eq!(code(&["a", "b"]), Ok(()));
    }

    #[test]
    fn control_characters_are_refused_and_escapes_understood() {
        let text = |literal| unquote(literal).and_then(|t| check_text(&t).map(|()| t.into_owned()));
        assert_eq!(text(r#""a\n\u00e9\ud83d\ude00""#), Ok("a\né😀".to_string()));
        let refused = text(r#""\u0000""#).expect_err("no NUL in XML");
        assert_eq!(refused.code, Code::InvalidMessageContents);
        assert_eq!(text("7").expect_err("a number").code, Code::Malformed);
        assert_eq!(text(r#""""#).expect_err("empty").code, Code::MissingParameter);
    }

    #[test]
    fn ids_are_uuids_of_version_4() {
        let text = uuid(new_id());
        assert_eq!(text.len(), 36);
        assert_eq!(text.as_bytes()[14], b'4');
        assert!(b"89ab".contains(&text.as_bytes()[19]));
    }
}
