//! The queue's client: the only module that knows the AWS SDK.
//!
//! [`QueueClient`] speaks in our own types. It never repeats a call by itself (the SDK's retries
//! are off): whoever calls knows what a repetition means, and repeats.

mod error;
mod objects;
mod sdk;

use std::sync::Arc;

use aws_sdk_sqs::Client;
use aws_sdk_sqs::types::{
    BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry,
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use platbook_protocol::TimeMs;

pub use error::QueueError;
pub use objects::{Bodies, FetchError};

use crate::clock::Clock;
use crate::config::QueueConfig;

/// Most entries of a batch call.
pub const BATCH_ENTRIES_MAX: usize = 10;
/// Most bytes of the messages in one batch call.
pub const BATCH_BYTES_MAX: usize = 1 << 20;
/// How long a poll waits for a message, in seconds.
pub const POLL_WAIT_SECONDS: i32 = 20;

/// A handle on one queue; cheap to clone.
#[derive(Clone, Debug)]
pub struct QueueClient {
    /// For short calls.
    calls: Client,
    /// For long polls: its attempts may take longer than the wait.
    polls: Client,
    url: String,
}

/// A message as received.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    /// The queue's id of the message: the same for every delivery.
    pub message_id: String,
    /// Of this delivery.
    pub receipt_handle: String,
    /// The body.
    pub body: String,
    /// When the queue took it.
    pub sent: TimeMs,
    /// Deliveries so far, about.
    pub receive_count: u32,
    /// Message attributes, values as text (binary ones as base64).
    pub attributes: Vec<(String, String)>,
}

/// One entry of a batch that failed, by its index.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FailedEntry {
    /// Index in the batch.
    pub index: usize,
    /// The queue's code.
    pub code: String,
    /// The queue's words.
    pub message: String,
    /// Repeating it will fail again.
    pub is_senders_fault: bool,
}

/// How full a queue is, about.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Depth {
    /// Messages waiting.
    pub waiting: u64,
    /// Messages delivered and not deleted.
    pub in_flight: u64,
}

impl QueueClient {
    /// Finds credentials, region and endpoint; no request is sent yet.
    pub async fn connect(config: &QueueConfig) -> QueueClient {
        QueueClient::new(config, &sdk::load(config).await)
    }

    /// As [`QueueClient::connect`], and the objects that messages may point to with it: in S3, or
    /// at `s3_endpoint`.
    pub async fn connect_with_bodies(
        config: &QueueConfig,
        s3_endpoint: Option<&str>,
        clock: Clock,
    ) -> (QueueClient, Arc<dyn Bodies>) {
        let shared = sdk::load(config).await;
        let bodies = objects::S3::new(&shared, s3_endpoint, clock);
        (QueueClient::new(config, &shared), Arc::new(bodies))
    }

    fn new(config: &QueueConfig, shared: &aws_config::SdkConfig) -> QueueClient {
        QueueClient {
            calls: Client::from_conf(sdk::calls(shared)),
            polls: Client::from_conf(sdk::polls(shared)),
            url: config.queue_url.clone(),
        }
    }

    /// Polls for up to ten messages, hidden from others for `visibility_seconds`. With a `wait`
    /// of zero it only looks.
    pub async fn receive(
        &self,
        wait_seconds: i32,
        visibility_seconds: u32,
    ) -> Result<Vec<Received>, QueueError> {
        let answer = self
            .polls
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(BATCH_ENTRIES_MAX as i32)
            .wait_time_seconds(wait_seconds)
            .visibility_timeout(visibility_seconds as i32)
            .message_system_attribute_names(MessageSystemAttributeName::SentTimestamp)
            .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(|e| QueueError::call("ReceiveMessage", &e))?;
        answer.messages.unwrap_or_default().into_iter().map(received).collect()
    }

    /// Deletes by receipt handle, at most ten; gives what failed. Entry ids are indices.
    pub async fn delete(&self, handles: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
        let mut call = self.calls.delete_message_batch().queue_url(&self.url);
        for (index, handle) in handles.iter().enumerate() {
            let entry = DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*handle);
            call = call.entries(entry.build().map_err(|e| QueueError::entry(&e))?);
        }
        let answer = call.send().await.map_err(|e| QueueError::call("DeleteMessageBatch", &e))?;
        failed(answer.failed())
    }

    /// Moves the end of the visibility timeouts to `seconds` from now, at most ten; gives what
    /// failed.
    pub async fn change_visibility(
        &self,
        handles: &[&str],
        seconds: u32,
    ) -> Result<Vec<FailedEntry>, QueueError> {
        let mut call = self.calls.change_message_visibility_batch().queue_url(&self.url);
        for (index, handle) in handles.iter().enumerate() {
            let entry = ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(*handle)
                .visibility_timeout(seconds as i32);
            call = call.entries(entry.build().map_err(|e| QueueError::entry(&e))?);
        }
        let answer =
            call.send().await.map_err(|e| QueueError::call("ChangeMessageVisibilityBatch", &e))?;
        failed(answer.failed())
    }

    /// Sends messages, at most ten and 1 MiB; gives what failed.
    pub async fn send(&self, bodies: &[&str]) -> Result<Vec<FailedEntry>, QueueError> {
        let mut call = self.calls.send_message_batch().queue_url(&self.url);
        for (index, body) in bodies.iter().enumerate() {
            let entry =
                SendMessageBatchRequestEntry::builder().id(index.to_string()).message_body(*body);
            call = call.entries(entry.build().map_err(|e| QueueError::entry(&e))?);
        }
        let answer = call.send().await.map_err(|e| QueueError::call("SendMessageBatch", &e))?;
        failed(answer.failed())
    }

    /// How full the queue is.
    pub async fn depth(&self) -> Result<Depth, QueueError> {
        let waiting = QueueAttributeName::ApproximateNumberOfMessages;
        let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
        let answer = self
            .calls
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(waiting.clone())
            .attribute_names(in_flight.clone())
            .send()
            .await
            .map_err(|e| QueueError::call("GetQueueAttributes", &e))?;
        let number = |name| {
            let text = answer.attributes().and_then(|all| all.get(&name));
            text.and_then(|text| text.parse().ok())
        };
        match (number(waiting), number(in_flight)) {
            (Some(waiting), Some(in_flight)) => Ok(Depth { waiting, in_flight }),
            (_, _) => Err(QueueError::bad_answer("GetQueueAttributes", "numbers are missing")),
        }
    }
}

fn received(message: Message) -> Result<Received, QueueError> {
    let system = message.attributes.unwrap_or_default();
    let number = |name: MessageSystemAttributeName| system.get(&name)?.parse::<u64>().ok();
    let sent = number(MessageSystemAttributeName::SentTimestamp).map(TimeMs);
    let count = number(MessageSystemAttributeName::ApproximateReceiveCount);
    let attributes = message.message_attributes.unwrap_or_default();
    let mut attributes: Vec<(String, String)> =
        attributes.into_iter().map(|(name, value)| (name, text_of(value))).collect();
    attributes.sort_unstable();
    match (message.message_id, message.receipt_handle, sent) {
        (Some(message_id), Some(receipt_handle), Some(sent)) => Ok(Received {
            message_id,
            receipt_handle,
            body: message.body.unwrap_or_default(),
            sent,
            receive_count: count.unwrap_or(1).min(u64::from(u32::MAX)) as u32,
            attributes,
        }),
        (_, _, _) => {
            let reason = "a message without id, handle or SentTimestamp";
            Err(QueueError::bad_answer("ReceiveMessage", reason))
        }
    }
}

fn text_of(value: MessageAttributeValue) -> String {
    match (value.string_value, value.binary_value) {
        (Some(text), _) => text,
        (None, Some(blob)) => BASE64_STANDARD.encode(blob.into_inner()),
        (None, None) => String::new(),
    }
}

fn failed(entries: &[BatchResultErrorEntry]) -> Result<Vec<FailedEntry>, QueueError> {
    let convert = |entry: &BatchResultErrorEntry| {
        let index = entry.id().parse::<usize>();
        Ok(FailedEntry {
            index: index
                .map_err(|_| QueueError::bad_answer("a batch", "an id that is not ours"))?,
            code: entry.code().to_string(),
            message: entry.message().unwrap_or_default().to_string(),
            is_senders_fault: entry.sender_fault(),
        })
    };
    entries.iter().map(convert).collect()
}
