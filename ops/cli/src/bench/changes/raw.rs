//! A reader of changes that counts them, and opens none: what the servers can do, not what the
//! reader makes of it.

use anyhow::{Context, bail, ensure};
use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Empty};
use hyper::Request;
use hyper::body::Incoming;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use platbook_protocol::records::{self, Record};
use tokio::net::TcpStream;

/// How it is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Binary,
    Lines,
}

impl Form {
    fn media_type(self) -> &'static str {
        match self {
            Form::Binary => records::MEDIA_TYPE,
            Form::Lines => "application/x-ndjson",
        }
    }
}

/// What was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    pub(super) changes: u64,
    pub(super) bytes: u64,
}

/// An open response.
pub(super) struct Reader {
    form: Form,
    body: Incoming,
    held: BytesMut,
    pub(super) count: Count,
    /// The last token told.
    pub(super) token: Option<String>,
}

impl Reader {
    /// Asks `router` (`host:port`) for changes.
    pub(super) async fn open(router: &str, form: Form, query: &str) -> anyhow::Result<Reader> {
        let tcp = TcpStream::connect(router).await.context("no connection to the router")?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(tcp)).await?;
        // It ends with the response, or is cut; either is seen there.
        tokio::spawn(connection);
        let request = Request::get(format!("/v1/changes?{query}"))
            .header("host", router)
            .header("accept", form.media_type())
            .body(Empty::<Bytes>::new())?;
        let response = sender.send_request(request).await?;
        let status = response.status();
        let body = response.into_body();
        if !status.is_success() {
            let problem = body.collect().await?.to_bytes();
            bail!("{status}: {}", String::from_utf8_lossy(&problem));
        }
        let (held, count) = (BytesMut::new(), Count::default());
        Ok(Reader { form, body, held, count, token: None })
    }

    /// Reads what comes next; `false` behind the end.
    pub(super) async fn read(&mut self) -> anyhow::Result<bool> {
        let Some(frame) = self.body.frame().await else {
            ensure!(self.held.is_empty(), "the response ended within an event");
            return Ok(false);
        };
        let Ok(chunk) = frame?.into_data() else { return Ok(true) };
        self.count.bytes += chunk.len() as u64;
        self.held.extend_from_slice(&chunk);
        match self.form {
            Form::Binary => self.take_records()?,
            Form::Lines => self.take_lines()?,
        }
        Ok(true)
    }

    fn take_records(&mut self) -> anyhow::Result<()> {
        while let Some(bytes) = records::length(&self.held)? {
            let whole = records::LENGTH_BYTES + bytes;
            if self.held.len() < whole {
                break;
            }
            let record = self.held.split_to(whole).freeze();
            match Record::read(&record[records::LENGTH_BYTES..])? {
                Some(Record::Change(_)) => self.count.changes += 1,
                Some(Record::Control(json)) => self.on_control(json)?,
                Some(Record::Head | Record::Dictionary { .. }) | None => {}
            }
        }
        Ok(())
    }

    fn take_lines(&mut self) -> anyhow::Result<()> {
        while let Some(at) = self.held.iter().position(|byte| *byte == b'\n') {
            let line = self.held.split_to(at + 1).freeze();
            match line.starts_with(b"{\"control\"") {
                true => self.on_control(&line)?,
                false => self.count.changes += 1,
            }
        }
        Ok(())
    }

    fn on_control(&mut self, json: &[u8]) -> anyhow::Result<()> {
        let control: serde_json::Value = serde_json::from_slice(json)?;
        if let Some(token) = control["token"].as_str() {
            self.token = Some(token.to_string());
        }
        Ok(())
    }
}
