//! The operator's side of the queue: sending, and looking how much is left. Spoken by hand, so that
//! a fault in the product's own client cannot hide itself.

use anyhow::{Context, ensure};
use platbook_chaos_tests::http;
use serde_json::{Value, json};

/// Most messages in one request.
pub(super) const BATCH_MAX: usize = 10;

/// A queue at a feed server.
pub(super) struct Queue {
    /// `host:port`.
    pub(super) address: String,
    pub(super) url: String,
}

impl Queue {
    /// Sends up to [`BATCH_MAX`] messages.
    pub(super) async fn send(&self, bodies: &[String]) -> anyhow::Result<()> {
        let entry =
            |(at, body): (usize, &String)| json!({"Id": at.to_string(), "MessageBody": body});
        let entries: Vec<Value> = bodies.iter().enumerate().map(entry).collect();
        let answer = self.call("SendMessageBatch", json!({"Entries": entries})).await?;
        let failed = answer.get("Failed").and_then(Value::as_array).map_or(0, Vec::len);
        ensure!(failed == 0, "the queue refused {failed} messages: {answer}");
        Ok(())
    }

    /// Messages that were not deleted yet, waiting or held by a consumer.
    pub(super) async fn left(&self) -> anyhow::Result<u64> {
        const COUNTS: [&str; 3] = [
            "ApproximateNumberOfMessages",
            "ApproximateNumberOfMessagesNotVisible",
            "ApproximateNumberOfMessagesDelayed",
        ];
        let answer = self.call("GetQueueAttributes", json!({"AttributeNames": COUNTS})).await?;
        let count = |name: &str| {
            let text = answer["Attributes"][name].as_str().unwrap_or_default();
            text.parse::<u64>().with_context(|| format!("the queue did not tell {name}"))
        };
        COUNTS.into_iter().map(count).sum()
    }

    async fn call(&self, action: &str, mut request: Value) -> anyhow::Result<Value> {
        request["QueueUrl"] = json!(self.url);
        let target = format!("AmazonSQS.{action}");
        let headers =
            [("content-type", "application/x-amz-json-1.0"), ("x-amz-target", target.as_str())];
        let answer = http::post(&self.address, "/", &headers, request.to_string()).await?;
        ensure!(answer.status == 200, "{action}: {} {}", answer.status, answer.text());
        serde_json::from_slice(&answer.body).with_context(|| format!("{action}: bad answer"))
    }
}
