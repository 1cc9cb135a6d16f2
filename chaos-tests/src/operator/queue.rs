//! The operator's side of the queue: sending, and looking how much is left. Spoken by hand, so that
//! a fault in the product's own client cannot hide itself.

use serde_json::{Value, json};

use crate::{Cluster, Error, http};

/// Most messages in one request.
pub const BATCH_MAX: usize = 10;

/// A queue at a feed server.
#[derive(Clone, Debug)]
pub struct Queue {
    /// `host:port`.
    address: String,
    url: String,
}

impl Queue {
    /// The queue of a cluster.
    pub fn of(cluster: &Cluster) -> Queue {
        Queue { address: cluster.feed_address.clone(), url: cluster.queue_url() }
    }

    /// Sends up to [`BATCH_MAX`] messages.
    pub async fn send(&self, bodies: &[String]) -> Result<(), Error> {
        let entry =
            |(at, body): (usize, &String)| json!({"Id": at.to_string(), "MessageBody": body});
        let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
        let answer = self.call("SendMessageBatch", json!({"Entries": entries})).await?;
        let failed = answer.get("Failed").and_then(Value::as_array).map_or(0, Vec::len);
        match failed {
            0 => Ok(()),
            _ => Err(self.failed(format!("{failed} messages were refused: {answer}"))),
        }
    }

    /// Messages that were not deleted yet, waiting or held by a consumer.
    pub async fn left(&self) -> Result<u64, Error> {
        const COUNTS: [&str; 3] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let answer = self.call("GetQueueAttributes", json!({"AttributeNames": COUNTS})).await?;
        let count = |name: &str| {
            let text = answer["Attributes"][name].as_str().unwrap_or_default();
            text.parse::<u64>().map_err(|_| self.failed(format!("{name} is missing: {answer}")))
        };
        COUNTS.into_iter().map(count).sum()
    }

    async fn call(&self, action: &str, mut request: Value) -> Result<Value, Error> {
        request["QueueUrl"] = json!(self.url);
        let target = format!("AmazonSQS.{action}");
        let headers =
            [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        let answer = http::post(&self.address, "/", &headers, request.to_string()).await?;
        if answer.status != 200 {
            return Err(self.failed(format!("{action}: {} {}", answer.status, answer.text())));
        }
        serde_json::from_slice(&answer.body)
            .map_err(|error| self.failed(format!("{action}: bad answer: {error}")))
    }

    fn failed(&self, reason: String) -> Error {
        Error::Http { url: self.url.clone(), reason }
    }
}
