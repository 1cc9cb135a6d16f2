//! The queue service: its queues, and which action is asked for.

use std::collections::BTreeMap;
use std::sync::atomic::AtomicU64;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use bytes::Bytes;
use platbook_protocol::TimeMs;
use serde::de::DeserializeOwned;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::faults::Faults;
use super::metrics::Metrics;
use super::queue::Queue;
use super::queues::CreateQueue;
use super::service_error::{Code, ServiceError};
use super::settings::{Given, Settings};
use super::store::{Recovered, Store};
use crate::clock::Clock;

/// What an action answers: JSON, or an error.
pub(super) type Answer = Result<Vec<u8>, ServiceError>;

/// Time at which a queue was made, kept among its attributes.
const CREATED: &str = "CreatedTimestamp";

/// Everything that a request may touch.
#[derive(Debug)]
pub(super) struct Service {
    pub(super) store: Store,
    pub(super) clock: Clock,
    pub(super) faults: Faults,
    pub(super) in_flight_max: usize,
    pub(super) metrics: Metrics,
    /// Messages accepted so far: what the draw of a second copy is about.
    pub(super) accepted: AtomicU64,
    /// Ends long polls.
    pub(super) stopping: CancellationToken,
    queues: Mutex<BTreeMap<String, Arc<OpenQueue>>>,
    /// Number of the next queue; held while a queue is made, changed or removed.
    pub(super) next_queue: tokio::sync::Mutex<u32>,
}

/// One queue in use.
#[derive(Debug)]
pub(super) struct OpenQueue {
    pub(super) number: u32,
    pub(super) name: String,
    pub(super) created: TimeMs,
    state: Mutex<State>,
    /// Wakes one long poll: something may be there to deliver.
    pub(super) arrivals: Notify,
}

/// What changes of a queue.
#[derive(Debug)]
pub(super) struct State {
    pub(super) queue: Queue,
    pub(super) settings: Settings,
}

impl Service {
    /// The service over a store, with the queues that an earlier process left.
    pub(super) fn try_new(
        store: Store,
        recovered: Recovered,
        clock: Clock,
        faults: Faults,
        in_flight_max: usize,
    ) -> Result<Service, ServiceError> {
        let service = Service {
            store,
            clock,
            faults,
            in_flight_max,
            metrics: Metrics::default(),
            accepted: AtomicU64::new(0),
            stopping: CancellationToken::new(),
            queues: Mutex::default(),
            next_queue: tokio::sync::Mutex::new(
                recovered.queues.iter().map(|q| q.queue + 1).max().unwrap_or(1),
            ),
        };
        let now = service.clock.now();
        for left in recovered.queues {
            let mut given: Given = serde_json::from_str(&left.attributes)?;
            let created = given.remove(CREATED).and_then(|text| text.parse().ok());
            let settings = Settings::default().try_with(&given)?;
            let created = TimeMs(created.unwrap_or_default());
            let open = service.open(left.queue, left.name, created, settings);
            let mut state = open.lock();
            left.keys.into_iter().for_each(|(key, visible)| state.queue.push(key, visible, now));
        }
        Ok(service)
    }

    /// Does what `target` asks for; `base` is the URL under which the client reached us.
    pub(super) async fn act(&self, target: &str, base: &str, body: &Bytes) -> Answer {
        let action = target.strip_prefix("AmazonSQS.").unwrap_or_default();
        match action {
            "CreateQueue" => {
                let CreateQueue { queue_name, attributes } = read(body)?;
                self.create_queue(base, queue_name, attributes).await
            }
            "GetQueueUrl" => self.get_queue_url(base, read(body)?),
            "ListQueues" => self.list_queues(base, read(body)?),
            "GetQueueAttributes" => self.get_queue_attributes(read(body)?),
            "SetQueueAttributes" => self.set_queue_attributes(read(body)?).await,
            "DeleteQueue" => self.delete_queue(read(body)?).await,
            "PurgeQueue" => self.purge_queue(read(body)?).await,
            "SendMessage" => self.send_message(body).await,
            "SendMessageBatch" => self.send_message_batch(body).await,
            "ReceiveMessage" => self.receive_message(read(body)?).await,
            "DeleteMessage" => self.delete_message(read(body)?).await,
            "DeleteMessageBatch" => self.delete_message_batch(read(body)?).await,
            "ChangeMessageVisibility" => self.change_visibility(read(body)?),
            "ChangeMessageVisibilityBatch" => self.change_visibility_batch(read(body)?),
            _ => {
                let message = format!("The action {target} is not valid for this endpoint.");
                Err(ServiceError::new(Code::InvalidAction, message))
            }
        }
    }

    /// The queue that a URL names: its last segment.
    pub(super) fn by_url(&self, url: &str) -> Result<Arc<OpenQueue>, ServiceError> {
        if url.is_empty() {
            let message = "The request must contain the parameter QueueUrl.";
            return Err(ServiceError::new(Code::MissingParameter, message));
        }
        self.by_name(url.rsplit('/').next().unwrap_or_default())
    }

    pub(super) fn by_name(&self, name: &str) -> Result<Arc<OpenQueue>, ServiceError> {
        let found = self.lock().get(name).map(Arc::clone);
        let message = "The specified queue does not exist.";
        found.ok_or_else(|| ServiceError::new(Code::QueueDoesNotExist, message))
    }

    /// All queues by name.
    pub(super) fn all(&self) -> Vec<Arc<OpenQueue>> {
        self.lock().values().map(Arc::clone).collect()
    }

    pub(super) fn open(
        &self,
        number: u32,
        name: String,
        created: TimeMs,
        settings: Settings,
    ) -> Arc<OpenQueue> {
        let queue = Queue::new(self.faults, self.in_flight_max);
        let state = Mutex::new(State { queue, settings });
        let arrivals = Notify::new();
        let open = Arc::new(OpenQueue { number, name: name.clone(), created, state, arrivals });
        self.lock().insert(name, Arc::clone(&open));
        open
    }

    pub(super) fn close(&self, name: &str) {
        self.lock().remove(name);
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Arc<OpenQueue>>> {
        // A map insert or removal is whole before anything that could panic.
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl OpenQueue {
    /// Never held across an await.
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().expect("the queue's methods keep its invariants or nothing may go on")
    }

    /// What is persisted about the queue besides its name.
    pub(super) fn attributes_with(&self, settings: Settings) -> String {
        attributes_text(settings, self.created)
    }
}

/// Settings and the time of making as they are persisted.
pub(super) fn attributes_text(settings: Settings, created: TimeMs) -> String {
    let mut attributes = settings.to_attributes();
    attributes.insert(CREATED.to_string(), created.to_string());
    serde_json::to_string(&attributes).expect("a map of texts always serialises")
}

fn read<T: DeserializeOwned>(body: &Bytes) -> Result<T, ServiceError> {
    // Clients send no body at all where an action has no required member.
    let body: &[u8] = if body.is_empty() { b"{}" } else { body };
    Ok(serde_json::from_slice(body)?)
}
