//! Handing out messages: one look, or a long poll.

use std::time::Duration;

use platbook_protocol::TimeMs;
use serde::Deserialize;
use tokio::time::{Instant, sleep_until};

use super::attributes::{self, Attributes, hex, is_wanted};
use super::handle::Handle;
use super::journal::uuid;
use super::queue::{Delivery, Received};
use super::record::{Message, Record};
use super::send_message::BATCH_ENTRIES_MAX;
use super::service::{Answer, OpenQueue, Service};
use super::service_error::{Code, ServiceError};

/// Longest visibility timeout, in seconds.
pub(super) const VISIBILITY_MAX: u64 = 43_200;
/// Longest wait of a long poll, in seconds.
const WAIT_MAX: u64 = 20;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ReceiveMessage {
    queue_url: String,
    max_number_of_messages: Option<u64>,
    visibility_timeout: Option<u64>,
    wait_time_seconds: Option<u64>,
    message_attribute_names: Vec<String>,
    message_system_attribute_names: Vec<String>,
    /// The older name of the same.
    attribute_names: Vec<String>,
}

impl Service {
    pub(super) async fn receive_message(&self, request: ReceiveMessage) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        let settings = open.lock().settings;
        let max = in_range("MaxNumberOfMessages", request.max_number_of_messages, 1, 1, 10)?;
        debug_assert!(max as usize <= BATCH_ENTRIES_MAX);
        let visibility = in_range(
            "VisibilityTimeout",
            request.visibility_timeout,
            settings.visibility_timeout,
            0,
            VISIBILITY_MAX,
        )?;
        let wait =
            in_range("WaitTimeSeconds", request.wait_time_seconds, settings.wait, 0, WAIT_MAX)?;
        let deadline = Instant::now() + Duration::from_secs(wait);
        loop {
            let mut arrival = std::pin::pin!(open.arrivals.notified());
            // Listen before looking, or what arrives in between is missed.
            arrival.as_mut().enable();
            let now = self.clock.now();
            let (received, next_visible, has_more) = {
                let mut state = open.lock();
                let received = state.queue.receive(max as usize, visibility * 1_000, now);
                let has_more = state.queue.depth(now).waiting > 0;
                (received, state.queue.next_visible(), has_more)
            };
            let Received { deliveries, is_at_cap } = received;
            if has_more && !is_at_cap {
                open.arrivals.notify_one();
            }
            if !deliveries.is_empty() {
                let answer = self.hand_out(&open, &request, deliveries, now).await?;
                if let Some(answer) = answer {
                    return Ok(answer);
                }
                continue;
            }
            if wait == 0 && is_at_cap {
                let message = "Too many messages in flight.";
                return Err(ServiceError::new(Code::OverLimit, message));
            }
            if Instant::now() >= deadline || self.stopping.is_cancelled() {
                return Ok(b"{}".to_vec());
            }
            let due = next_visible.map_or(u64::MAX, |at| at.0.saturating_sub(now.0)).max(1);
            let due = Instant::now() + Duration::from_millis(due.min(WAIT_MAX * 1_000));
            tokio::select! {
                () = arrival => {}
                () = sleep_until(deadline.min(due)) => {}
                () = self.stopping.cancelled() => {}
            }
        }
    }

    /// The answer with these deliveries; `None` where all of them were too old or are gone.
    async fn hand_out(
        &self,
        open: &OpenQueue,
        request: &ReceiveMessage,
        deliveries: Vec<Delivery>,
        now: TimeMs,
    ) -> Result<Option<Vec<u8>>, ServiceError> {
        let locations = deliveries.iter().map(|delivery| delivery.key.location).collect();
        let messages = self.store.read(locations).await?;
        let retention_ms = open.lock().settings.retention * 1_000;
        let mut out = b"{\"Messages\":[".to_vec();
        let empty = out.len();
        let mut expired = Vec::new();
        for (delivery, message) in deliveries.into_iter().zip(messages) {
            // Gone meanwhile: the queue was purged.
            let Some(message) = message else { continue };
            if message.sent.0 + retention_ms <= now.0 {
                expired.push(delivery.key);
                continue;
            }
            if out.len() > empty {
                out.push(b',');
            }
            push_message(&mut out, open.number, request, &delivery, &message)?;
            self.metrics.delivered.add(1);
        }
        if !expired.is_empty() {
            expired.iter().for_each(|key| open.lock().queue.expire(*key));
            let gone = expired.into_iter().map(|key| Record::Delete { key, back: false });
            self.store.append_lazily(gone.collect()).await?;
        }
        let has_any = out.len() > empty;
        out.extend_from_slice(b"]}");
        Ok(has_any.then_some(out))
    }
}

fn in_range(
    name: &str,
    given: Option<u64>,
    default: u64,
    min: u64,
    max: u64,
) -> Result<u64, ServiceError> {
    let value = given.unwrap_or(default);
    match (min..=max).contains(&value) {
        true => Ok(value),
        false => Err(ServiceError::invalid(format!(
            "Value {value} for parameter {name} is invalid. Must be between {min} and {max}."
        ))),
    }
}

fn push_message(
    out: &mut Vec<u8>,
    queue: u32,
    request: &ReceiveMessage,
    delivery: &Delivery,
    message: &Message,
) -> Result<(), ServiceError> {
    let handle = Handle { queue, key: delivery.key, count: delivery.count };
    let head = format!(
        "{{\"MessageId\":\"{}\",\"ReceiptHandle\":\"{handle}\",\"MD5OfBody\":\"{}\",\"Body\":",
        uuid(message.id),
        hex(&message.body_md5)
    );
    out.extend_from_slice(head.as_bytes());
    out.extend_from_slice(&message.body);
    push_system_attributes(out, request, delivery, message)?;
    push_attributes(out, request, message)?;
    out.push(b'}');
    Ok(())
}

fn push_system_attributes(
    out: &mut Vec<u8>,
    request: &ReceiveMessage,
    delivery: &Delivery,
    message: &Message,
) -> Result<(), ServiceError> {
    let trace = String::from_utf8_lossy(&message.trace);
    let all = [
        ("SenderId", "AIDAPLATBOOKFEED00000".to_string()),
        ("SentTimestamp", message.sent.to_string()),
        ("ApproximateReceiveCount", delivery.count.to_string()),
        ("ApproximateFirstReceiveTimestamp", delivery.first.to_string()),
        ("AWSTraceHeader", trace.into_owned()),
    ];
    let is_asked = |name: &str| {
        is_wanted(&request.message_system_attribute_names, name)
            || is_wanted(&request.attribute_names, name)
    };
    let wanted: serde_json::Map<_, _> = all
        .into_iter()
        .filter(|(name, value)| !value.is_empty() && is_asked(name))
        .map(|(name, value)| (name.to_string(), value.into()))
        .collect();
    if !wanted.is_empty() {
        out.extend_from_slice(b",\"Attributes\":");
        serde_json::to_writer(&mut *out, &wanted)?;
    }
    Ok(())
}

fn push_attributes(
    out: &mut Vec<u8>,
    request: &ReceiveMessage,
    message: &Message,
) -> Result<(), ServiceError> {
    if message.attributes.is_empty() || request.message_attribute_names.is_empty() {
        return Ok(());
    }
    let mut wanted: Attributes = serde_json::from_slice(&message.attributes)?;
    wanted.retain(|name, _| is_wanted(&request.message_attribute_names, name));
    if !wanted.is_empty() {
        let (md5, _) = attributes::check(&wanted)?;
        out.extend_from_slice(b",\"MessageAttributes\":");
        serde_json::to_writer(&mut *out, &wanted)?;
        let md5 = format!(",\"MD5OfMessageAttributes\":\"{}\"", hex(&md5));
        out.extend_from_slice(md5.as_bytes());
    }
    Ok(())
}
