//! The actions on queues: make, find, list, settings, purge, remove.

use std::sync::Arc;

use serde::Deserialize;
use serde_json::json;

use super::record::{Key, Record};
use super::service::{Answer, OpenQueue, Service, attributes_text};
use super::service_error::{Code, ServiceError};
use super::settings::{Given, Settings};

/// The account that every queue belongs to.
const ACCOUNT: &str = "000000000000";
/// Most queues in one listing.
const LIST_MAX: usize = 1_000;
/// Deletes of a purge that go to the store at a time.
const PURGE_BATCH: usize = 10_000;

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct CreateQueue {
    pub(super) queue_name: String,
    pub(super) attributes: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetQueueUrl {
    queue_name: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ListQueues {
    queue_name_prefix: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct GetQueueAttributes {
    queue_url: String,
    attribute_names: Vec<String>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct SetQueueAttributes {
    queue_url: String,
    attributes: Given,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct OnQueue {
    queue_url: String,
}

impl Service {
    /// Makes a queue; the same name with the same settings is the same queue.
    pub(super) async fn create_queue(&self, base: &str, name: String, attributes: Given) -> Answer {
        let settings = Settings::default().try_with(&attributes)?;
        check_name(&name)?;
        let mut next = self.next_queue.lock().await;
        if let Ok(known) = self.by_name(&name) {
            let current = known.lock().settings;
            if current.try_with(&attributes)? != current {
                let message = "A queue already exists with the same name and other attributes";
                return Err(ServiceError::new(Code::QueueNameExists, message));
            }
            return Ok(url_answer(base, &name));
        }
        let created = self.clock.now();
        let attributes = attributes_text(settings, created);
        let record = Record::Queue { queue: *next, name: name.clone(), attributes };
        self.store.append(vec![record]).await?;
        self.open(*next, name.clone(), created, settings);
        *next += 1;
        Ok(url_answer(base, &name))
    }

    pub(super) fn get_queue_url(&self, base: &str, request: GetQueueUrl) -> Answer {
        Ok(url_answer(base, &self.by_name(&request.queue_name)?.name))
    }

    pub(super) fn list_queues(&self, base: &str, request: ListQueues) -> Answer {
        let queues = self.all();
        let wanted = queues.iter().filter(|q| q.name.starts_with(&request.queue_name_prefix));
        let urls: Vec<String> = wanted.take(LIST_MAX).map(|q| url_of(base, &q.name)).collect();
        let answer = if urls.is_empty() { json!({}) } else { json!({ "QueueUrls": urls }) };
        Ok(answer.to_string().into_bytes())
    }

    pub(super) fn get_queue_attributes(&self, request: GetQueueAttributes) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        let all = attributes_of(&open, self.clock.now());
        let wants_all = request.attribute_names.iter().any(|name| name == "All");
        let mut wanted = Given::new();
        for name in request.attribute_names.into_iter().filter(|name| name != "All") {
            let Some(value) = all.get(&name) else {
                let message = format!("Unknown Attribute {name}.");
                return Err(ServiceError::new(Code::InvalidAttributeName, message));
            };
            wanted.insert(name, value.clone());
        }
        let wanted = if wants_all { all } else { wanted };
        let answer = if wanted.is_empty() { json!({}) } else { json!({ "Attributes": wanted }) };
        Ok(answer.to_string().into_bytes())
    }

    pub(super) async fn set_queue_attributes(&self, request: SetQueueAttributes) -> Answer {
        let _admin = self.next_queue.lock().await;
        let open = self.by_url(&request.queue_url)?;
        let settings = open.lock().settings.try_with(&request.attributes)?;
        let attributes = open.attributes_with(settings);
        let record = Record::Queue { queue: open.number, name: open.name.clone(), attributes };
        self.store.append(vec![record]).await?;
        open.lock().settings = settings;
        Ok(b"{}".to_vec())
    }

    pub(super) async fn purge_queue(&self, request: OnQueue) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        self.purge(&open).await?;
        Ok(b"{}".to_vec())
    }

    pub(super) async fn delete_queue(&self, request: OnQueue) -> Answer {
        let _admin = self.next_queue.lock().await;
        let open = self.by_url(&request.queue_url)?;
        self.close(&open.name);
        self.purge(&open).await?;
        self.store.append(vec![Record::QueueGone { queue: open.number }]).await?;
        Ok(b"{}".to_vec())
    }

    async fn purge(&self, open: &Arc<OpenQueue>) -> Result<(), ServiceError> {
        let keys: Vec<Key> = open.lock().queue.purge();
        for batch in keys.chunks(PURGE_BATCH) {
            let gone = batch.iter().map(|key| Record::Delete { key: *key, back: false });
            self.store.append_lazily(gone.collect()).await?;
        }
        Ok(())
    }
}

fn attributes_of(open: &OpenQueue, now: platbook_protocol::TimeMs) -> Given {
    let mut state = open.lock();
    let depth = state.queue.depth(now);
    let mut attributes = state.settings.to_attributes();
    let created = (open.created.0 / 1_000).to_string();
    let more = [
        ("ApproximateNumberOfMessages", depth.waiting.to_string()),
        ("ApproximateNumberOfMessagesNotVisible", depth.in_flight.to_string()),
        ("ApproximateNumberOfMessagesDelayed", depth.delayed.to_string()),
        ("CreatedTimestamp", created.clone()),
        ("LastModifiedTimestamp", created),
        ("QueueArn", format!("arn:aws:sqs:us-east-1:{ACCOUNT}:{}", open.name)),
    ];
    attributes.extend(more.map(|(name, value)| (name.to_string(), value)));
    attributes
}

fn check_name(name: &str) -> Result<(), ServiceError> {
    if name.ends_with(".fifo") {
        let message = "FIFO queues are not supported: the feed has no order.";
        return Err(ServiceError::new(Code::UnsupportedOperation, message));
    }
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if name.is_empty() || name.len() > 80 || !name.chars().all(fits) {
        let reason = "Can only include alphanumeric characters, hyphens, or underscores. \
                      1 to 80 in length";
        return Err(ServiceError::invalid(reason));
    }
    Ok(())
}

fn url_of(base: &str, name: &str) -> String {
    format!("{base}/{ACCOUNT}/{name}")
}

fn url_answer(base: &str, name: &str) -> Vec<u8> {
    json!({ "QueueUrl": url_of(base, name) }).to_string().into_bytes()
}
