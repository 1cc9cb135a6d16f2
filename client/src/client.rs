//! The calls.

use std::time::Duration;

use bytes::Bytes;
use http::header::{ACCEPT, CONTENT_TYPE, ETAG, IF_MATCH};
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use platbook_protocol::{ListingId, NodeId, ReplicaId, Revision, ShardId, TimeMs, Zip};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::value::RawValue;

use crate::answer::{BulkAnswer, Listing, Page, QuarantinePut, WriteAnswer};
use crate::clock;
use crate::config::ClientConfig;
use crate::error::Error;
use crate::transport::{Answer, Call, Kind, Transport, escape};
use crate::zip::ZipListings;

const NDJSON: HeaderValue = HeaderValue::from_static("application/x-ndjson");
const JSON: HeaderValue = HeaderValue::from_static("application/json");

/// A handle on a router; cheap to clone, all clones share their connections.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
}

/// Which listings of a ZIP, and how much of them. The default is all of everything.
#[derive(Clone, Debug, Default)]
pub struct ZipQuery {
    /// Most listings.
    pub limit: Option<u64>,
    /// Go on behind this [`ZipListings::next_cursor`].
    pub cursor: Option<String>,
    /// Least price, whole currency units.
    pub min_price: Option<u64>,
    /// Greatest price.
    pub max_price: Option<u64>,
    /// Least number of bedrooms.
    pub min_beds: Option<u16>,
    /// Exact status.
    pub status: Option<String>,
    /// Exact property type.
    pub property_type: Option<String>,
    /// Names of the fields wanted.
    pub fields: Vec<String>,
}

/// Conditions of a write of one listing.
#[derive(Clone, Copy, Debug, Default)]
pub struct WriteOptions {
    /// When the change happened; the client's clock at the first attempt where absent. It is what
    /// makes a retry safe: every attempt carries the same.
    pub sent: Option<TimeMs>,
    /// The revision that must be the current one.
    pub if_match: Option<Revision>,
}

impl Client {
    /// A client of the router at `url` with default settings.
    pub fn new(url: &str) -> Result<Client, Error> {
        Client::try_with(&ClientConfig { router: url.to_string(), ..ClientConfig::default() })
    }

    /// A client with these settings.
    pub fn try_with(config: &ClientConfig) -> Result<Client, Error> {
        Ok(Client { transport: Transport::try_new(config)? })
    }

    /// The same client with another deadline for each call.
    pub fn with_deadline(&self, deadline: Duration) -> Client {
        Client { transport: self.transport.clone().with_deadline(deadline) }
    }

    /// Every listing of a ZIP, streamed.
    pub async fn zip(&self, zip: &Zip, query: &ZipQuery) -> Result<ZipListings, Error> {
        let path = format!("/v1/zips/{zip}/listings{}", query.encode());
        let call = get(path, Some(NDJSON));
        Ok(ZipListings::new(self.transport.open(&call).await?))
    }

    /// One listing; `None` where there is none.
    pub async fn get(&self, id: &ListingId) -> Result<Option<Listing>, Error> {
        let call = get(listing_path(id), None);
        let answer = match self.transport.call(&call).await {
            Err(Error::Refused(problem)) if problem.code == "listing_not_found" => return Ok(None),
            other => other?,
        };
        let header = |name: &str| {
            answer.headers.get(name).and_then(|v| v.to_str().ok()).map(ToString::to_string)
        };
        let revision = header("platbook-revision").and_then(|r| r.parse().ok()).map(Revision);
        let zip = header("platbook-zip").unwrap_or_default();
        Ok(Some(Listing { zip, revision, etag: header(ETAG.as_str()), body: answer.body }))
    }

    /// Listings in the order of `ids`, `None` for a missing one.
    pub async fn compare(&self, ids: &[ListingId]) -> Result<Vec<Option<Box<RawValue>>>, Error> {
        let list: Vec<String> = ids.iter().map(|id| escape(id.as_str())).collect();
        self.read(format!("/v1/listings?ids={}", list.join(","))).await
    }

    /// Puts a listing. Safe to repeat: every attempt carries the same `sent`.
    pub async fn put(
        &self,
        id: &ListingId,
        listing: Bytes,
        options: WriteOptions,
    ) -> Result<WriteAnswer, Error> {
        let mut headers = options.headers();
        headers.insert(CONTENT_TYPE, JSON);
        self.write(Method::PUT, listing_path(id), headers, listing).await
    }

    /// Deletes a listing. Safe to repeat: every attempt carries the same `sent`.
    pub async fn delete(
        &self,
        id: &ListingId,
        options: WriteOptions,
    ) -> Result<WriteAnswer, Error> {
        self.write(Method::DELETE, listing_path(id), options.headers(), Bytes::new()).await
    }

    /// Posts messages, one a line. Every line must carry its `sent`, or a retry is not safe.
    /// With `will_resend` the caller promises to send each line again until it is done, so that
    /// the store need not keep bodies of unfinished messages.
    pub async fn post_messages(
        &self,
        lines: Bytes,
        will_resend: bool,
    ) -> Result<BulkAnswer, Error> {
        self.post_lines(lines, will_resend, HeaderMap::new()).await
    }

    /// Posts listings or messages, one a line; those without a `sent` of their own were sent at
    /// `sent`, at every attempt. The caller promises to send each line again until it is done.
    pub async fn post_listings(&self, lines: Bytes, sent: TimeMs) -> Result<BulkAnswer, Error> {
        let headers = WriteOptions { sent: Some(sent), if_match: None }.headers();
        self.post_lines(lines, true, headers).await
    }

    async fn post_lines(
        &self,
        lines: Bytes,
        will_resend: bool,
        mut headers: HeaderMap,
    ) -> Result<BulkAnswer, Error> {
        headers.insert(CONTENT_TYPE, NDJSON);
        if will_resend {
            let promised = HeaderValue::from_static("promised");
            headers.insert(HeaderName::from_static("platbook-resend"), promised);
        }
        self.write(Method::POST, "/v1/listings".to_string(), headers, lines).await
    }

    /// Every listing of a shard, streamed, as they were at one moment: its token's.
    pub async fn export_shard(&self, shard: ShardId) -> Result<ZipListings, Error> {
        let call = get(format!("/v1/export?shard={}", shard.0), Some(NDJSON));
        Ok(ZipListings::new(self.transport.open(&call).await?))
    }

    /// A page of the quarantine.
    pub async fn quarantine_list(&self, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        self.page("/v1/quarantine", limit, cursor).await
    }

    /// One quarantined message; `None` where there is none.
    pub async fn quarantine_get(
        &self,
        message_id: &str,
    ) -> Result<Option<serde_json::Value>, Error> {
        match self.read(quarantine_path(message_id)).await {
            Err(Error::Refused(problem)) if problem.status == StatusCode::NOT_FOUND.as_u16() => {
                Ok(None)
            }
            other => other.map(Some),
        }
    }

    /// Sends a quarantined message through the store again.
    pub async fn quarantine_retry(&self, message_id: &str) -> Result<serde_json::Value, Error> {
        let path = format!("{}/retry", quarantine_path(message_id));
        self.write(Method::POST, path, HeaderMap::new(), Bytes::new()).await
    }

    /// Forgets a quarantined message.
    pub async fn quarantine_drop(&self, message_id: &str) -> Result<(), Error> {
        self.remove(quarantine_path(message_id)).await
    }

    /// Puts messages into the quarantine; on success all of them are durable. Safe to repeat:
    /// they stand under their message ids.
    pub async fn quarantine_put(&self, messages: &[QuarantinePut]) -> Result<(), Error> {
        let mut body = Vec::new();
        for message in messages {
            message.push_line(&mut body);
        }
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, NDJSON);
        let path = "/v1/quarantine".to_string();
        let call = Call {
            kind: Kind::Write,
            method: Method::POST,
            path,
            headers,
            body: Bytes::from(body),
        };
        self.transport.call(&call).await.map(|_| ())
    }

    /// A page of the ids to look at.
    pub async fn suspects(&self, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        self.page("/v1/suspects", limit, cursor).await
    }

    /// Takes an id off the suspects list.
    pub async fn suspect_clear(&self, id: &ListingId) -> Result<(), Error> {
        self.remove(format!("/v1/suspects/{}", escape(id.as_str()))).await
    }

    /// Posts a JSON document to an administrative path of the router, from `/v1/...`.
    pub async fn post_json(
        &self,
        path: &str,
        document: &serde_json::Value,
    ) -> Result<serde_json::Value, Error> {
        let headers = [(CONTENT_TYPE, JSON)].into_iter().collect();
        let body = Bytes::from(document.to_string());
        self.write(Method::POST, path.to_string(), headers, body).await
    }

    /// Nodes, zones, shards, leaders, positions.
    pub async fn cluster(&self) -> Result<serde_json::Value, Error> {
        self.read("/v1/cluster".to_string()).await
    }

    /// As [`Client::cluster`], with a hash of what each replica holds: reads everything.
    pub async fn cluster_with_hashes(&self) -> Result<serde_json::Value, Error> {
        self.read("/v1/cluster?hashes=true".to_string()).await
    }

    /// Asks the leader of `shard` to hand over to `to`.
    pub async fn transfer_leader(
        &self,
        shard: ShardId,
        to: NodeId,
    ) -> Result<serde_json::Value, Error> {
        self.order("transfer-leader", &serde_json::json!({"shard": shard, "to": to})).await
    }

    /// Has `replica` of `shard` rebuilt on the node `on`, under a new id.
    pub async fn replace_replica(
        &self,
        shard: ShardId,
        replica: ReplicaId,
        on: NodeId,
    ) -> Result<serde_json::Value, Error> {
        let order = serde_json::json!({"shard": shard, "replica": replica, "on": on});
        self.order("replace-replica", &order).await
    }

    async fn order(
        &self,
        name: &str,
        order: &serde_json::Value,
    ) -> Result<serde_json::Value, Error> {
        let headers = [(CONTENT_TYPE, JSON)].into_iter().collect();
        let path = format!("/v1/cluster/{name}");
        self.write(Method::POST, path, headers, Bytes::from(order.to_string())).await
    }

    async fn remove(&self, path: String) -> Result<(), Error> {
        let (headers, body) = (HeaderMap::new(), Bytes::new());
        let call = Call { kind: Kind::Write, method: Method::DELETE, path, headers, body };
        self.transport.call(&call).await.map(|_| ())
    }

    async fn page(&self, path: &str, limit: u32, cursor: Option<&str>) -> Result<Page, Error> {
        let mut path = format!("{path}?limit={limit}");
        if let Some(cursor) = cursor {
            path.push_str(&format!("&cursor={}", escape(cursor)));
        }
        let answer = self.transport.call(&get(path, Some(NDJSON))).await?;
        let lines = answer.body.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
        let items = lines
            .map(serde_json::from_slice)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|e| Error::BadAnswer { reason: e.to_string() })?;
        let next = answer.headers.get("platbook-next").and_then(|v| v.to_str().ok());
        Ok(Page { items, next: next.map(ToString::to_string) })
    }

    async fn read<T: DeserializeOwned>(&self, path: String) -> Result<T, Error> {
        let answer = self.transport.call(&get(path, Some(JSON))).await?;
        serde_json::from_slice(&answer.body).map_err(|e| Error::BadAnswer { reason: e.to_string() })
    }

    async fn write<T: for<'de> Deserialize<'de>>(
        &self,
        method: Method,
        path: String,
        headers: HeaderMap,
        body: Bytes,
    ) -> Result<T, Error> {
        let call = Call { kind: Kind::Write, method, path, headers, body };
        let Answer { status, body, .. } = self.transport.call(&call).await?;
        // It was answered as done, but what was done is not readable: nobody knows.
        serde_json::from_slice(&body).map_err(|e| Error::Unknown {
            attempts: 1,
            reason: format!("status {status}, but the answer is unreadable: {e}"),
            problem: None,
        })
    }
}

impl ZipQuery {
    fn encode(&self) -> String {
        let number = |n: Option<u64>| n.map(|n| n.to_string());
        let fields = (!self.fields.is_empty()).then(|| self.fields.join(","));
        let pairs = [
            ("limit", number(self.limit)),
            ("cursor", self.cursor.clone()),
            ("min_price", number(self.min_price)),
            ("max_price", number(self.max_price)),
            ("min_beds", number(self.min_beds.map(u64::from))),
            ("status", self.status.clone()),
            ("type", self.property_type.clone()),
            ("fields", fields),
        ];
        let mut out = String::new();
        for (name, value) in pairs {
            if let Some(value) = value {
                out.push(if out.is_empty() { '?' } else { '&' });
                out.push_str(&format!("{name}={}", escape(&value)));
            }
        }
        out
    }
}

impl WriteOptions {
    fn headers(&self) -> HeaderMap {
        let mut headers = HeaderMap::new();
        let sent = self.sent.unwrap_or_else(clock::now);
        headers.insert(HeaderName::from_static("platbook-sent"), HeaderValue::from(sent.0));
        if let Some(revision) = self.if_match {
            let tag = format!("\"{revision}\"");
            let value = HeaderValue::try_from(tag).expect("digits and quotes are header text");
            headers.insert(IF_MATCH, value);
        }
        headers
    }
}

fn get(path: String, accept: Option<HeaderValue>) -> Call {
    let headers = accept.map(|value| (ACCEPT, value)).into_iter().collect();
    Call { kind: Kind::Read, method: Method::GET, path, headers, body: Bytes::new() }
}

fn listing_path(id: &ListingId) -> String {
    format!("/v1/listings/{}", escape(id.as_str()))
}

fn quarantine_path(message_id: &str) -> String {
    format!("/v1/quarantine/{}", escape(message_id))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_query_names_only_what_is_asked() {
        assert_eq!(ZipQuery::default().encode(), "");
        let query = ZipQuery {
            min_price: Some(1),
            status: Some("Active Under".into()),
            fields: vec!["a".into(), "b".into()],
            ..ZipQuery::default()
        };
        assert_eq!(query.encode(), "?min_price=1&status=Active%20Under&fields=a%2Cb");
    }

    #[test]
    fn every_attempt_of_a_write_carries_the_same_sent() {
        let headers = WriteOptions { sent: None, if_match: Some(Revision(9)) }.headers();
        assert!(headers["platbook-sent"].to_str().is_ok_and(|v| v.parse::<u64>().is_ok()));
        assert_eq!(headers[IF_MATCH], "\"9\"");
    }
}
