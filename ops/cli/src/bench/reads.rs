//! What reads are measured by: a closed loop of readers, and the router's HTTP answers as they
//! stream in.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use bytes::Bytes;
use http::{Request, StatusCode, header};
use http_body_util::{BodyExt, Empty};
use hyper::client::conn::http1::{self, SendRequest};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

/// What one read has brought so far.
#[derive(Clone, Copy, Debug)]
pub(super) struct Seen {
    began: Instant,
    /// Until the first row.
    pub(super) first: Option<Duration>,
    pub(super) rows: usize,
    pub(super) bytes: usize,
}

impl Seen {
    /// The clock starts.
    pub(super) fn start() -> Seen {
        Seen { began: Instant::now(), first: None, rows: 0, bytes: 0 }
    }

    /// More has come.
    pub(super) fn add(&mut self, rows: usize, bytes: usize) {
        self.first.get_or_insert_with(|| self.began.elapsed());
        self.rows += rows;
        self.bytes += bytes;
    }
}

/// What a loop of reads took.
#[derive(Clone, Debug, Default)]
pub(super) struct ReadLoop {
    pub(super) reads: usize,
    pub(super) rows: usize,
    pub(super) bytes: usize,
    pub(super) took: Duration,
    /// Of each read, ascending.
    pub(super) latencies: Vec<Duration>,
    /// Until the first row of each read, ascending.
    pub(super) firsts: Vec<Duration>,
}

/// Lets `readers` read one after the other for `time`; `read` is told which reader it is, and which
/// of all reads this is.
pub(super) async fn read_for<F, R>(
    readers: usize,
    time: Duration,
    read: F,
) -> anyhow::Result<ReadLoop>
where
    F: Fn(usize, usize) -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<Seen>> + Send,
{
    let began = Instant::now();
    let mut running = JoinSet::new();
    for reader in 0..readers {
        let read = read.clone();
        running.spawn(async move {
            let mut own = ReadLoop::default();
            let mut number = reader;
            while began.elapsed() < time {
                let from = Instant::now();
                let seen = read(reader, number).await?;
                own.latencies.push(from.elapsed());
                own.firsts.extend(seen.first);
                own.reads += 1;
                own.rows += seen.rows;
                own.bytes += seen.bytes;
                number += readers;
            }
            Ok::<_, anyhow::Error>(own)
        });
    }
    let mut all = ReadLoop::default();
    while let Some(ended) = running.join_next().await {
        let own = ended??;
        all.reads += own.reads;
        all.rows += own.rows;
        all.bytes += own.bytes;
        all.latencies.extend(own.latencies);
        all.firsts.extend(own.firsts);
    }
    all.took = began.elapsed();
    all.latencies.sort_unstable();
    all.firsts.sort_unstable();
    Ok(all)
}

/// The value that `per_cent` of ascending ones do not exceed.
pub(super) fn quantile(ascending: &[Duration], per_cent: usize) -> Duration {
    let rank = (ascending.len() * per_cent).div_ceil(100).max(1);
    ascending.get(rank - 1).copied().unwrap_or_default()
}

/// A connection that is not in use, if there is one.
type Slot = Mutex<Option<SendRequest<Empty<Bytes>>>>;

/// Reads from a router, each reader on a connection of its own.
#[derive(Clone)]
pub(super) struct HttpReader {
    host: Arc<str>,
    connections: Arc<[Slot]>,
}

/// An answer that was read to its end.
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) etag: Option<String>,
    pub(super) seen: Seen,
}

impl HttpReader {
    /// For `readers` at `address` (`host:port`); each connects with its first read, and again where
    /// the router has closed an idle connection.
    pub(super) fn new(address: &str, readers: usize) -> HttpReader {
        let connections = (0..readers).map(|_| Mutex::default()).collect();
        HttpReader { host: address.into(), connections }
    }

    async fn connect(&self) -> anyhow::Result<SendRequest<Empty<Bytes>>> {
        let stream = TcpStream::connect(&*self.host).await?;
        stream.set_nodelay(true)?;
        let (sender, connection) = http1::handshake(TokioIo::new(stream)).await?;
        tokio::spawn(connection);
        Ok(sender)
    }

    /// `GET path` as lines, unless the state still is `if_none_match`; a line counts as a row.
    pub(super) async fn get(
        &self,
        reader: usize,
        path: &str,
        if_none_match: Option<&str>,
    ) -> anyhow::Result<Answer> {
        let slot = &self.connections[reader % self.connections.len()];
        let kept = slot.lock().unwrap_or_else(PoisonError::into_inner).take();
        let mut sender = match kept.filter(|sender| !sender.is_closed()) {
            Some(sender) => sender,
            None => self.connect().await?,
        };
        let mut request = Request::get(path)
            .header(header::HOST, &*self.host)
            .header(header::ACCEPT, "application/x-ndjson");
        if let Some(tag) = if_none_match {
            request = request.header(header::IF_NONE_MATCH, tag);
        }
        let mut seen = Seen::start();
        sender.ready().await?;
        let response = sender.send_request(request.body(Empty::new())?).await?;
        let status = response.status();
        let etag = response.headers().get(header::ETAG);
        let etag = etag.and_then(|tag| tag.to_str().ok()).map(str::to_string);
        let mut body = response.into_body();
        while let Some(frame) = body.frame().await {
            if let Ok(data) = frame?.into_data() {
                seen.add(data.iter().filter(|byte| **byte == b'\n').count(), data.len());
            }
        }
        *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(sender);
        Ok(Answer { status, etag, seen })
    }

    /// One listing.
    pub(super) async fn listing(&self, reader: usize, id: &str) -> anyhow::Result<Seen> {
        let answer = self.get(reader, &format!("/v1/listings/{id}"), None).await?;
        ensure!(answer.status == StatusCode::OK, "{id}: {}", answer.status);
        // A body without a line end is one row.
        Ok(Seen { rows: 1, ..answer.seen })
    }

    /// Every listing of a ZIP, or those that `query` (`?...`) leaves.
    pub(super) async fn zip(&self, reader: usize, zip: &str, query: &str) -> anyhow::Result<Seen> {
        let answer = self.get(reader, &format!("/v1/zips/{zip}/listings{query}"), None).await?;
        match answer.status {
            StatusCode::OK => Ok(answer.seen),
            other => bail!("{zip}{query}: {other}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_loop_counts_every_read_and_ends() {
        let read = |reader: usize, number: usize| async move {
            assert_eq!(number % 3, reader);
            tokio::task::yield_now().await;
            let mut seen = Seen::start();
            seen.add(2, 10);
            Ok(seen)
        };
        let all = read_for(3, Duration::from_millis(20), read).await.unwrap();
        assert!(all.reads >= 3);
        assert_eq!((all.rows, all.bytes), (2 * all.reads, 10 * all.reads));
        assert_eq!((all.latencies.len(), all.firsts.len()), (all.reads, all.reads));
    }

    #[test]
    fn quantiles_are_values_that_were_seen() {
        let ms = |ms: &[u64]| ms.iter().map(|ms| Duration::from_millis(*ms)).collect::<Vec<_>>();
        assert_eq!(quantile(&ms(&[1, 2, 3, 4]), 50), Duration::from_millis(2));
        assert_eq!(quantile(&ms(&[1, 2, 3, 4]), 99), Duration::from_millis(4));
        assert_eq!(quantile(&[], 50), Duration::ZERO);
    }
}
