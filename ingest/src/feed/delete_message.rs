//! Acknowledging messages, and moving the end of their visibility timeout.

use serde::Deserialize;
use serde_json::{Value, json};

use super::handle::Handle;
use super::queue::{Deleted, NotChanged};
use super::receive_message::VISIBILITY_MAX;
use super::record::Record;
use super::send_message::check_batch;
use super::service::{Answer, OpenQueue, Service};
use super::service_error::{Code, ServiceError};

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct DeleteMessage {
    queue_url: String,
    receipt_handle: String,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct ChangeVisibility {
    queue_url: String,
    receipt_handle: String,
    visibility_timeout: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
pub(super) struct Batch {
    queue_url: String,
    entries: Vec<Entry>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "PascalCase", default)]
struct Entry {
    id: String,
    receipt_handle: String,
    visibility_timeout: Option<u64>,
}

impl Service {
    pub(super) async fn delete_message(&self, request: DeleteMessage) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        let gone = self.delete(&open, &request.receipt_handle, false)?;
        self.store.append_lazily(gone.into_iter().collect()).await?;
        Ok(b"{}".to_vec())
    }

    pub(super) async fn delete_message_batch(&self, request: Batch) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        let mut gone = Vec::new();
        let answer = answer_batch(&request.entries, |entry| {
            gone.extend(self.delete(&open, &entry.receipt_handle, true)?);
            Ok(())
        })?;
        if !gone.is_empty() {
            self.store.append_lazily(gone).await?;
        }
        Ok(answer)
    }

    pub(super) fn change_visibility(&self, request: ChangeVisibility) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        self.hide(&open, &request.receipt_handle, request.visibility_timeout)?;
        Ok(b"{}".to_vec())
    }

    pub(super) fn change_visibility_batch(&self, request: Batch) -> Answer {
        let open = self.by_url(&request.queue_url)?;
        answer_batch(&request.entries, |entry| {
            self.hide(&open, &entry.receipt_handle, entry.visibility_timeout)
        })
    }

    fn delete(
        &self,
        open: &OpenQueue,
        handle: &str,
        may_fail: bool,
    ) -> Result<Option<Record>, ServiceError> {
        let Handle { key, count, .. } = Handle::try_parse(handle, open.number)?;
        let deleted = open.lock().queue.delete(key, count, may_fail);
        match deleted {
            Deleted::Gone { back } => {
                self.metrics.deleted.add(1);
                // At the in-flight cap, or for the copy that came back, somebody may wait.
                open.arrivals.notify_one();
                Ok(Some(Record::Delete { key, back }))
            }
            Deleted::Nothing => Ok(None),
            Deleted::Failed => {
                let message = "We encountered an internal error. Please try again.";
                Err(ServiceError::new(Code::Internal, message))
            }
        }
    }

    fn hide(
        &self,
        open: &OpenQueue,
        handle: &str,
        timeout: Option<u64>,
    ) -> Result<(), ServiceError> {
        let Handle { key, count, .. } = Handle::try_parse(handle, open.number)?;
        let Some(timeout) = timeout else {
            let message = "The request must contain the parameter VisibilityTimeout.";
            return Err(ServiceError::new(Code::MissingParameter, message));
        };
        if timeout > VISIBILITY_MAX {
            return Err(ServiceError::invalid(format!(
                "VisibilityTimeout must be an integer between 0 and {VISIBILITY_MAX}"
            )));
        }
        let now = self.clock.now();
        let changed = open.lock().queue.change_visibility(key, count, timeout * 1_000, now);
        match changed {
            Ok(()) => {
                // A long poll that sleeps until a later time must look again.
                open.arrivals.notify_one();
                Ok(())
            }
            Err(NotChanged::Unknown) => Err(ServiceError::invalid(format!(
                "Message does not exist or is not available for visibility timeout change: \
                 {handle}"
            ))),
            Err(NotChanged::NotInFlight) => {
                let message = "The message referred to isn't in flight.";
                Err(ServiceError::new(Code::MessageNotInflight, message))
            }
        }
    }
}

/// Does every entry for itself; the batch succeeds also where entries fail.
fn answer_batch(
    entries: &[Entry],
    mut act: impl FnMut(&Entry) -> Result<(), ServiceError>,
) -> Answer {
    check_batch(entries.iter().map(|entry| entry.id.as_str()))?;
    let (mut successful, mut failed) = (Vec::new(), Vec::new());
    for entry in entries {
        match act(entry) {
            Ok(()) => successful.push(json!({ "Id": entry.id })),
            Err(error) => failed.push(error.failed_entry(&entry.id)),
        }
    }
    let mut answer = json!({ "Successful": successful });
    if !failed.is_empty() {
        answer["Failed"] = Value::from(failed);
    }
    Ok(answer.to_string().into_bytes())
}
