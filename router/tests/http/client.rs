//! Asks the router like a user.

use std::net::SocketAddr;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client as HyperClient;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde_json::Value;

/// One user.
#[derive(Clone)]
pub(crate) struct Client {
    http: HyperClient<HttpConnector, Full<Bytes>>,
    address: SocketAddr,
}

/// An answer, read to its end.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    /// A header as text.
    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().expect("headers are text"))
    }

    /// The body as text.
    pub(crate) fn text(&self) -> &str {
        std::str::from_utf8(&self.body).expect("bodies are text")
    }

    /// The body as JSON.
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|e| panic!("{e}: {}", self.text()))
    }

    /// Status and problem code.
    pub(crate) fn problem(&self) -> (u16, String) {
        assert_eq!(self.header("content-type"), Some("application/problem+json"), "{self:?}");
        let code = self.json()["code"].as_str().expect("every problem has a code").to_string();
        (self.status.as_u16(), code)
    }
}

impl Client {
    pub(crate) fn new(address: SocketAddr) -> Client {
        Client { http: HyperClient::builder(TokioExecutor::new()).build_http(), address }
    }

    /// Asks; an error if the body breaks off.
    pub(crate) async fn try_ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Result<Answer, String> {
        let mut request =
            Request::builder().method(method).uri(format!("http://{}{path}", self.address));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body.to_string().into())).expect("a request");
        let response = self.http.request(request).await.map_err(|e| format!("{e:?}"))?;
        let (head, body) = response.into_parts();
        let body = body.collect().await.map_err(|e| e.to_string())?.to_bytes();
        Ok(Answer { status: head.status, headers: head.headers, body })
    }

    pub(crate) async fn ask(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: &str,
    ) -> Answer {
        self.try_ask(method, path, headers, body).await.expect("an answer")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.ask(Method::GET, path, &[], "").await
    }

    /// Puts a listing with this ZIP, price and modified time.
    pub(crate) async fn put(&self, id: &str, zip: &str, price: u64, modified: u64) -> Answer {
        let body = listing(id, zip, price, modified);
        self.ask(Method::PUT, &format!("/v1/listings/{id}"), &[], &body).await
    }

    /// The ids in a ZIP.
    pub(crate) async fn ids(&self, zip: &str) -> Vec<String> {
        let answer = self.get(&format!("/v1/zips/{zip}/listings")).await;
        let listings = answer.json();
        let listings = listings.as_array().expect("an array");
        listings.iter().map(|l| l["ListingKey"].as_str().expect("a key").to_string()).collect()
    }
}

/// A listing as an operator sends it.
pub(crate) fn listing(id: &str, zip: &str, price: u64, modified: u64) -> String {
    format!(
        r#"{{"ListingKey":"{id}", "PostalCode":"{zip}", "ListPrice":{price}, {}:{modified}}}"#,
        r#""ModificationTimestamp""#
    )
}
