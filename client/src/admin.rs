//! Calls of operators: what could not be applied, what to look at, what the cluster is made of.

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use bytes::Bytes;
use http::header::CONTENT_TYPE;
use http::{HeaderMap, Method};
use platbook_protocol::{ListingId, NodeId, ReplicaId, ShardId, TimeMs};
use serde::Serialize;
use serde_json::{Value, json};

use crate::client::{Client, JSON, NDJSON, is_not_found};
use crate::error::{Error, WriteError};
use crate::transport::{Call, escape};
use crate::zip::ZipListings;

/// Calls of operators; [`Client::admin`] gives it.
#[derive(Clone, Debug)]
pub struct Admin {
    client: Client,
}

/// A page of a list.
#[derive(Clone, Debug, Default, PartialEq)]
#[non_exhaustive]
pub struct Page {
    /// The entries, as the router gives them.
    pub items: Vec<Value>,
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

impl Admin {
    pub(crate) fn new(client: Client) -> Admin {
        Admin { client }
    }

    /// Every listing of a shard, streamed, as they were at one moment: its token's.
    pub async fn export_shard(&self, shard: ShardId) -> Result<ZipListings, Error> {
        let call = Call::get(format!("/v1/export?shard={}", shard.0), NDJSON);
        Ok(ZipListings::new(self.client.transport.open(&call).await?))
    }

    /// A page of the quarantine.
    pub async fn quarantine_list(&self, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        self.page("/v1/quarantine", limit, cursor).await
    }

    /// One quarantined message; `None` where there is none.
    pub async fn quarantine_get(&self, message_id: &str) -> Result<Option<Value>, Error> {
        match self.client.read_json(quarantine_path(message_id)).await {
            Err(error) if is_not_found(&error) => Ok(None),
            other => other.map(Some),
        }
    }

    /// Sends a quarantined message through the store again.
    pub async fn quarantine_retry(&self, message_id: &str) -> Result<Value, WriteError> {
        let path = format!("{}/retry", quarantine_path(message_id));
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        self.client.write_json(&Call { method: Method::POST, path, headers, body }).await
    }

    /// Forgets a quarantined message.
    pub async fn quarantine_drop(&self, message_id: &str) -> Result<(), WriteError> {
        self.remove(quarantine_path(message_id)).await
    }

    /// Puts messages into the quarantine; on success all of them are durable. Safe to repeat:
    /// they stand under their message ids.
    pub async fn quarantine_put(&self, messages: &[QuarantinePut]) -> Result<(), WriteError> {
        let mut body = Vec::new();
        for message in messages {
            message.push_line(&mut body);
        }
        let headers = [(CONTENT_TYPE, NDJSON)].into_iter().collect();
        let (path, body) = ("/v1/quarantine".to_string(), body.into());
        let call = Call { method: Method::POST, path, headers, body };
        self.client.transport.write(&call).await.map(|_| ())
    }

    /// A page of the ids to look at.
    pub async fn suspects(&self, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        self.page("/v1/suspects", limit, cursor).await
    }

    /// Takes an id off the suspects list.
    pub async fn suspect_clear(&self, id: &ListingId) -> Result<(), WriteError> {
        self.remove(format!("/v1/suspects/{}", escape(id.as_str()))).await
    }

    /// Nodes, zones, shards, leaders, positions.
    pub async fn cluster(&self) -> Result<Value, Error> {
        self.client.read_json("/v1/cluster".to_string()).await
    }

    /// As [`Admin::cluster`], with a hash of what each replica holds: reads everything.
    pub async fn cluster_with_hashes(&self) -> Result<Value, Error> {
        self.client.read_json("/v1/cluster?hashes=true".to_string()).await
    }

    /// Asks the leader of `shard` to hand over to `to`.
    pub async fn transfer_leader(&self, shard: ShardId, to: NodeId) -> Result<Value, WriteError> {
        let order = json!({"shard": shard, "to": to});
        self.post_json("/v1/cluster/transfer-leader", &order).await
    }

    /// Has `replica` of `shard` rebuilt on the node `on`, under a new id.
    pub async fn replace_replica(
        &self,
        shard: ShardId,
        replica: ReplicaId,
        on: NodeId,
    ) -> Result<Value, WriteError> {
        let order = json!({"shard": shard, "replica": replica, "on": on});
        self.post_json("/v1/cluster/replace-replica", &order).await
    }

    /// Posts a JSON document to an administrative path of the router, from `/v1/...`. It may be
    /// sent more than once.
    pub async fn post_json(&self, path: &str, document: &Value) -> Result<Value, WriteError> {
        let headers = [(CONTENT_TYPE, JSON)].into_iter().collect();
        let (path, body) = (path.to_string(), document.to_string().into());
        self.client.write_json(&Call { method: Method::POST, path, headers, body }).await
    }

    async fn remove(&self, path: String) -> Result<(), WriteError> {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let call = Call { method: Method::DELETE, path, headers, body };
        self.client.transport.write(&call).await.map(|_| ())
    }

    async fn page(&self, path: &str, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        let mut path = format!("{path}?limit={limit}");
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={}", escape(cursor)));
        }
        let answer = self.client.transport.read(&Call::get(path, NDJSON)).await?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let items = lines
            .map(serde_json::from_slice)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::bad_answer)?;
        let next = answer.headers.get("platbook-next").and_then(|v| v.to_str().ok());
        Ok(Page { items, next: next.map(ToString::to_string) })
    }
}

fn quarantine_path(message_id: &str) -> String {
    format!("/v1/quarantine/{}", escape(message_id))
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
