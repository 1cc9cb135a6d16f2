//! As much of NATS's protocol as the measurements need: requests over one shared connection, each
//! with a reply subject of its own, on which one or many messages come back.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use anyhow::{Context, anyhow, ensure};
use bytes::{Buf, Bytes, BytesMut};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::net::tcp::{OwnedReadHalf, OwnedWriteHalf};
use tokio::sync::{mpsc, oneshot};

/// Longest wait for all replies to a request.
pub(super) const REPLIES_WITHIN: Duration = Duration::from_secs(60);
/// Requests that wait to be written; a further one waits for room.
const WAITING_MAX: usize = 64;
/// Free room in the buffer before every read.
const READ_BYTES: usize = 64 << 10;
/// Longest message that is taken.
const MESSAGE_BYTES_MAX: usize = 64 << 20;
/// Requests that are written at once, up to so many bytes.
const WRITE_BYTES: usize = 256 << 10;

/// When a request has been answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Until {
    /// So many acknowledgements, none of which says that something failed.
    Acks(usize),
    /// The first message.
    One,
    /// A message whose status says that there are no more.
    End,
}

/// What came back.
#[derive(Debug, Default)]
pub(super) struct Replies {
    pub(super) messages: usize,
    pub(super) bytes: usize,
    /// The last one.
    pub(super) last: Bytes,
}

/// The bucket has no leader at the moment.
#[derive(Clone, Copy, Debug, thiserror::Error)]
#[error("nobody answers for the bucket")]
pub(super) struct NoResponders;

struct Waiting {
    until: Until,
    replies: Replies,
    done: oneshot::Sender<anyhow::Result<Replies>>,
}

type Table = Arc<Mutex<HashMap<u64, Waiting>>>;

/// A connection; clones share it.
#[derive(Clone)]
pub(super) struct Connection {
    inbox: Arc<str>,
    next: Arc<AtomicU64>,
    waiting: Table,
    writer: mpsc::Sender<Bytes>,
}

impl Connection {
    /// Connects to `address` (`host:port`); `name` tells the connections of a process apart.
    pub(super) async fn open(address: &str, name: usize) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(address).await?;
        stream.set_nodelay(true)?;
        let (reading, writing) = stream.into_split();
        let waiting: Table = Table::default();
        let (writer, requests) = mpsc::channel(WAITING_MAX);
        let inbox: Arc<str> = format!("_INBOX.platbook{name}x{}", std::process::id()).into();
        let hello = format!(
            "CONNECT {{\"verbose\":false,\"pedantic\":false,\"headers\":true,\
             \"no_responders\":true,\"lang\":\"platbook-bench\",\"version\":\"1\",\
             \"protocol\":1}}\r\nSUB {inbox}.* 1\r\n"
        );
        writer.send(hello.into()).await.context("the writer has ended")?;
        tokio::spawn(write(writing, requests));
        tokio::spawn(read(reading, waiting.clone(), writer.clone()));
        Ok(Connection { inbox, next: Arc::default(), waiting, writer })
    }

    /// Publishes what `compose` makes of a fresh reply subject, and waits for the replies, no
    /// longer than `within`.
    pub(super) async fn request(
        &self,
        until: Until,
        within: Duration,
        compose: impl FnOnce(&str) -> Bytes,
    ) -> anyhow::Result<Replies> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (done, ended) = oneshot::channel();
        let waiting = Waiting { until, replies: Replies::default(), done };
        table(&self.waiting).insert(number, waiting);
        let request = compose(&format!("{}.{number}", self.inbox));
        self.writer.send(request).await.context("the connection is closed")?;
        match tokio::time::timeout(within, ended).await {
            Ok(ended) => ended.context("the connection is closed")?,
            Err(_) => {
                table(&self.waiting).remove(&number);
                Err(anyhow!("no reply within {} s", within.as_secs()))
            }
        }
    }
}

/// Appends a message.
pub(super) fn put(out: &mut Vec<u8>, subject: &str, reply: &str, body: &[u8]) {
    out.extend_from_slice(format!("PUB {subject} {reply} {}\r\n", body.len()).as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

/// Appends a message with headers (whole, with their first line and the empty one at the end).
pub(super) fn put_with(out: &mut Vec<u8>, subject: &str, reply: &str, head: &str, body: &[u8]) {
    let (head_bytes, bytes) = (head.len(), head.len() + body.len());
    let space = if reply.is_empty() { "" } else { " " };
    let line = format!("HPUB {subject} {reply}{space}{head_bytes} {bytes}\r\n{head}");
    out.extend_from_slice(line.as_bytes());
    out.extend_from_slice(body);
    out.extend_from_slice(b"\r\n");
}

fn table(waiting: &Table) -> MutexGuard<'_, HashMap<u64, Waiting>> {
    waiting.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Writes requests, several at once where they wait; ends with the connection.
async fn write(mut stream: OwnedWriteHalf, mut requests: mpsc::Receiver<Bytes>) {
    let mut together = BytesMut::new();
    while let Some(request) = requests.recv().await {
        together.extend_from_slice(&request);
        while together.len() < WRITE_BYTES
            && let Ok(request) = requests.try_recv()
        {
            together.extend_from_slice(&request);
        }
        if stream.write_all(&together).await.is_err() {
            // The reader sees the end of the connection, too, and tells whoever waits.
            return;
        }
        together.clear();
    }
}

/// Hands out what comes, until the connection ends; then whoever waits is told.
async fn read(mut stream: OwnedReadHalf, waiting: Table, writer: mpsc::Sender<Bytes>) {
    let mut buffer = BytesMut::new();
    let ended = loop {
        match take(&mut buffer) {
            Ok(Some(Incoming::Message(message))) => on_message(&waiting, message),
            Ok(Some(Incoming::Ping)) => {
                if writer.send(Bytes::from_static(b"PONG\r\n")).await.is_err() {
                    break anyhow!("the connection is closed");
                }
            }
            Ok(Some(Incoming::Other)) => {}
            Ok(None) => {
                buffer.reserve(READ_BYTES);
                match stream.read_buf(&mut buffer).await {
                    Ok(0) => break anyhow!("the server closed the connection"),
                    Ok(_) => {}
                    Err(error) => break error.into(),
                }
            }
            Err(error) => break error,
        }
    };
    for (_, waiting) in table(&waiting).drain() {
        // Nobody may wait for it any more.
        let _ = waiting.done.send(Err(anyhow!("{ended:#}")));
    }
}

/// One message that the server sent.
struct Message {
    /// The number at the end of the reply subject.
    number: u64,
    /// Of the first header line: `NATS/1.0 204 EOB`.
    status: Option<u16>,
    payload: Bytes,
}

enum Incoming {
    Message(Message),
    Ping,
    Other,
}

fn on_message(waiting: &Table, message: Message) {
    let mut table = table(waiting);
    let Some(entry) = table.get_mut(&message.number) else { return };
    let Message { number, status, payload } = message;
    let replies = &mut entry.replies;
    let ended = match (status, entry.until) {
        (Some(204), Until::End) => Some(Ok(())),
        (Some(503), _) => Some(Err(NoResponders.into())),
        (Some(status), _) => Some(Err(anyhow!("status {status}"))),
        (None, until) => {
            replies.messages += 1;
            replies.bytes += payload.len();
            let is_refused = matches!(until, Until::Acks(_)) && contains(&payload, b"\"error\"");
            let text = || String::from_utf8_lossy(&payload).into_owned();
            let refused = is_refused.then(|| Err(anyhow!(text())));
            replies.last = payload.clone();
            refused.or_else(|| match until {
                Until::Acks(count) if replies.messages < count => None,
                Until::End => None,
                Until::Acks(_) | Until::One => Some(Ok(())),
            })
        }
    };
    if let Some(ended) = ended
        && let Some(waiting) = table.remove(&number)
    {
        // Nobody may wait for it any more.
        let _ = waiting.done.send(ended.map(|()| waiting.replies));
    }
}

fn contains(text: &[u8], wanted: &[u8]) -> bool {
    text.windows(wanted.len()).any(|part| part == wanted)
}

/// Takes one whole message of the protocol off the buffer.
fn take(buffer: &mut BytesMut) -> anyhow::Result<Option<Incoming>> {
    let Some(end) = buffer.windows(2).position(|two| two == b"\r\n") else {
        ensure!(buffer.len() < READ_BYTES, "a line that does not end");
        return Ok(None);
    };
    let line = String::from_utf8_lossy(&buffer[..end]).into_owned();
    let words: Vec<&str> = line.split_whitespace().collect();
    let Some(verb) = words.first().map(|verb| verb.to_ascii_uppercase()) else {
        buffer.advance(end + 2);
        return Ok(Some(Incoming::Other));
    };
    if !matches!(verb.as_str(), "MSG" | "HMSG") {
        buffer.advance(end + 2);
        ensure!(verb != "-ERR", "nats: {line}");
        let is_ping = verb == "PING";
        return Ok(Some(if is_ping { Incoming::Ping } else { Incoming::Other }));
    }
    let number = |from_end: usize| {
        let word = words.len().checked_sub(from_end).and_then(|at| words.get(at));
        word.and_then(|word| word.parse::<usize>().ok()).with_context(|| line.clone())
    };
    let bytes = number(1)?;
    let head_bytes = if verb == "HMSG" { number(2)? } else { 0 };
    ensure!(head_bytes <= bytes && bytes < MESSAGE_BYTES_MAX, "nats: {line}");
    if buffer.len() < end + 2 + bytes + 2 {
        return Ok(None);
    }
    let subject = words.get(1).copied().unwrap_or_default();
    let token = subject.rsplit('.').next().and_then(|token| token.parse().ok());
    let mut message = buffer.split_to(end + 2 + bytes + 2).freeze();
    message.advance(end + 2);
    message.truncate(bytes);
    let head = message.split_to(head_bytes);
    let first_line = head.split(|byte| *byte == b'\r').next().unwrap_or_default();
    let first_line = String::from_utf8_lossy(first_line);
    let status = first_line.split_whitespace().nth(1).and_then(|status| status.parse().ok());
    let number = token.with_context(|| line.clone())?;
    Ok(Some(Incoming::Message(Message { number, status, payload: message })))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(text: &[u8]) -> Message {
        let mut buffer = BytesMut::from(text);
        let Some(Incoming::Message(message)) = take(&mut buffer).unwrap() else {
            panic!("no message in {text:?}");
        };
        assert!(buffer.is_empty());
        message
    }

    #[test]
    fn messages_are_read_whole_or_not_at_all() {
        let whole = b"MSG _INBOX.a.7 1 5\r\nhe\r\no\r\n";
        let plain = message(whole);
        assert_eq!((plain.number, plain.status, &plain.payload[..]), (7, None, &b"he\r\no"[..]));
        for cut in 0..whole.len() {
            assert!(take(&mut BytesMut::from(&whole[..cut])).unwrap().is_none());
        }
        let end = message(b"HMSG _INBOX.a.8 1 20 20\r\nNATS/1.0 204 EOB\r\n\r\n\r\n");
        assert_eq!((end.number, end.status, end.payload.len()), (8, Some(204), 0));
        let with = message(b"HMSG _INBOX.a.9 1 $X 18 20\r\nNATS/1.0\r\nA: 1\r\n\r\nhi\r\n");
        assert_eq!((with.number, with.status, &with.payload[..]), (9, None, &b"hi"[..]));
    }

    #[test]
    fn what_is_no_message_is_told_apart_and_a_length_that_lies_is_an_error() {
        let mut ping = BytesMut::from(&b"PING\r\n+OK\r\n"[..]);
        assert!(matches!(take(&mut ping), Ok(Some(Incoming::Ping))));
        assert!(matches!(take(&mut ping), Ok(Some(Incoming::Other))));
        let bad: [&[u8]; 3] =
            [b"-ERR 'x'\r\n", b"MSG a.1 1 99999999999\r\n", b"HMSG a.1 1 9 5\r\nhello\r\n"];
        for line in bad {
            assert!(take(&mut BytesMut::from(line)).is_err(), "{line:?}");
        }
    }

    #[test]
    fn a_request_ends_with_its_last_acknowledgement_or_its_first_failure() {
        let ask = |until| {
            let (done, ended) = oneshot::channel();
            let table = Table::default();
            let replies = Replies::default();
            super::table(&table).insert(1, Waiting { until, replies, done });
            (table, ended)
        };
        let ack = |text: &'static [u8], status| Message {
            number: 1,
            status,
            payload: Bytes::from_static(text),
        };
        let (table, mut ended) = ask(Until::Acks(2));
        on_message(&table, ack(b"{\"seq\":1}", None));
        assert!(ended.try_recv().is_err());
        on_message(&table, ack(b"{\"seq\":2}", None));
        assert_eq!(ended.try_recv().unwrap().unwrap().messages, 2);
        let (table, mut ended) = ask(Until::Acks(2));
        on_message(&table, ack(b"{\"error\":{\"code\":503}}", None));
        assert!(ended.try_recv().unwrap().is_err());
        let (table, mut ended) = ask(Until::End);
        on_message(&table, ack(b"body", None));
        on_message(&table, ack(b"", Some(204)));
        assert_eq!(ended.try_recv().unwrap().unwrap().bytes, 4);
        let (table, mut ended) = ask(Until::One);
        on_message(&table, ack(b"", Some(503)));
        assert!(ended.try_recv().unwrap().is_err_and(|error| error.is::<NoResponders>()));
    }
}
