//! Requests over the simulated network.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use platbook_chaos_tests::http::Answer;
use turmoil::net::TcpStream;

type Sender = http1::SendRequest<Full<Bytes>>;

/// A client of one server; connects again when it has to.
pub(crate) struct Http {
    address: String,
    sender: Option<Sender>,
}

impl Http {
    /// `address` is `host:port`.
    pub(crate) fn to(address: String) -> Http {
        Http { address, sender: None }
    }

    /// Asks and reads the answer, all within `limit`. After an error nobody knows whether the
    /// request arrived.
    pub(crate) async fn call(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
        limit: Duration,
    ) -> Result<Answer, String> {
        let exchange = async {
            let response = self.open(method, path, headers, body.into()).await?;
            let (status, headers) = (response.status().as_u16(), response.headers().clone());
            let body = response.into_body().collect().await.map_err(|e| e.to_string())?.to_bytes();
            Ok(Answer { status, headers, body })
        };
        let answered = tokio::time::timeout(limit, exchange).await;
        let answered = answered.unwrap_or_else(|_| Err("no answer in time".to_string()));
        if answered.is_err() {
            // Whatever is still under way on it is nobody's any more.
            self.sender = None;
        }
        answered
    }

    /// Asks; the body is still to be read.
    pub(crate) async fn open(
        &mut self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Bytes,
    ) -> Result<Response<Incoming>, String> {
        let mut request = Request::builder().method(method).uri(path).header("host", &self.address);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(Full::new(body)).map_err(|e| e.to_string())?;
        let sender = self.connected().await?;
        sender.send_request(request).await.map_err(|e| e.to_string())
    }

    async fn connected(&mut self) -> Result<&mut Sender, String> {
        let is_ready = match &mut self.sender {
            Some(sender) => sender.ready().await.is_ok(),
            None => false,
        };
        if !is_ready {
            let tcp = TcpStream::connect(self.address.as_str()).await.map_err(|e| e.to_string())?;
            let shaken = http1::handshake(TokioIo::new(tcp)).await;
            let (sender, connection) = shaken.map_err(|e| e.to_string())?;
            tokio::spawn(connection);
            self.sender = Some(sender);
        }
        Ok(self.sender.as_mut().expect("just made"))
    }
}
