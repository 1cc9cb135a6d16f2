//! The calling side of a link: keeps one connection to a peer and multiplexes channels over it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http_body_util::{BodyExt, Limited, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tracing::{debug, info, warn};

use super::frame::{Kind, Message, Outgoing, Reassembler};
use crate::directory::Directory;
use crate::net::TcpStream;

/// Where links are accepted.
pub(crate) const LINK_PATH: &str = "/raft/link";

const CONNECT_TIMEOUT: Duration = Duration::from_secs(1);
const RECONNECT_PAUSE_MIN: Duration = Duration::from_millis(20);
const RECONNECT_PAUSE_MAX: Duration = Duration::from_millis(300);
/// A peer that answers no ping for this long is taken for dead, also if its TCP is not.
const PING_INTERVAL: Duration = Duration::from_secs(1);
const PING_TIMEOUT: Duration = Duration::from_secs(2);
/// Messages waiting to be written to one peer, over all groups.
const OUTGOING_MAX: usize = 256;
/// Answers waiting to be read in one channel; callers have fewer requests in flight.
const ANSWERS_MAX: usize = 128;
/// Bytes of small messages that one write gathers.
const GATHER_BYTES: usize = 64 << 10;
const STREAM_WINDOW_BYTES: u32 = 16 << 20;
const CONNECTION_WINDOW_BYTES: u32 = 32 << 20;
const FRAME_BYTES_MAX: u32 = 1 << 20;

/// Longest reason for a refusal.
const REFUSAL_BYTES_MAX: usize = 64 << 10;

type Body = http_body_util::combinators::UnsyncBoxBody<Bytes, std::convert::Infallible>;
/// What ends one connection attempt; it is only logged.
type Failure = Box<dyn std::error::Error + Send + Sync>;

/// One peer. Clones share the connection.
#[derive(Clone)]
pub(crate) struct Link {
    shared: Arc<Shared>,
}

struct Shared {
    peer: NodeId,
    next_channel: AtomicU64,
    connection: Mutex<Option<Connection>>,
    /// The peer showed a sign of life: no reason to wait before the next attempt.
    retry: Notify,
}

#[derive(Clone)]
struct Connection {
    outgoing: mpsc::Sender<Outgoing>,
    channels: Arc<Mutex<HashMap<u64, mpsc::Sender<Message>>>>,
}

/// Why nothing can be sent.
#[derive(Clone, Debug, thiserror::Error)]
pub(crate) enum LinkError {
    /// No connection at the moment.
    #[error("node {peer} is not connected")]
    Down {
        /// The peer.
        peer: NodeId,
    },
    /// The peer has no such replica, or it stopped.
    #[error("node {peer} refused: {reason}")]
    Refused {
        /// The peer.
        peer: NodeId,
        /// What it says.
        reason: String,
    },
    /// No answer in time.
    #[error("node {peer} did not answer within {} ms", .after.as_millis())]
    Timeout {
        /// The peer.
        peer: NodeId,
        /// How long was waited.
        after: Duration,
    },
}

/// One conversation with one replica: requests in order, answers in order.
pub(crate) struct Channel {
    pub(crate) sender: ChannelSender,
    pub(crate) answers: mpsc::Receiver<Message>,
}

/// The sending half of a channel; dropping it closes the channel.
pub(crate) struct ChannelSender {
    id: u64,
    shard: ShardId,
    replica: ReplicaId,
    peer: NodeId,
    connection: Connection,
}

impl Link {
    pub(crate) fn start(peer: NodeId, directory: Directory, shutdown: CancellationToken) -> Link {
        let (next_channel, connection) = (AtomicU64::new(1), Mutex::new(None));
        let shared = Shared { peer, next_channel, connection, retry: Notify::new() };
        let link = Link { shared: Arc::new(shared) };
        tokio::spawn(link.clone().keep_connected(directory, shutdown));
        link
    }

    /// Whether the peer is connected at the moment.
    pub(crate) fn stands(&self) -> bool {
        self.shared.connection.lock().expect("never poisoned").is_some()
    }

    /// Connects without waiting for the next attempt's time.
    pub(crate) fn retry_now(&self) {
        if !self.stands() {
            self.shared.retry.notify_one();
        }
    }

    /// Opens a channel to a replica on the peer.
    pub(crate) fn open(&self, shard: ShardId, replica: ReplicaId) -> Result<Channel, LinkError> {
        let peer = self.shared.peer;
        let connection = self.shared.connection.lock().expect("never poisoned").clone();
        let connection = connection.ok_or(LinkError::Down { peer })?;
        let id = self.shared.next_channel.fetch_add(1, Ordering::Relaxed);
        let (tx, answers) = mpsc::channel(ANSWERS_MAX);
        connection.channels.lock().expect("never poisoned").insert(id, tx);
        let sender = ChannelSender { id, shard, replica, peer, connection };
        Ok(Channel { sender, answers })
    }

    /// One request, one answer.
    pub(crate) async fn call(
        &self,
        kind: Kind,
        (shard, replica): (ShardId, ReplicaId),
        body: Bytes,
        timeout: Duration,
    ) -> Result<Bytes, LinkError> {
        let peer = self.shared.peer;
        let mut channel = self.open(shard, replica)?;
        let answer = async {
            channel.sender.send(kind, vec![body]).await?;
            answer_of(channel.answers.recv().await, peer)
        };
        let answered = tokio::time::timeout(timeout, answer).await;
        answered.unwrap_or(Err(LinkError::Timeout { peer, after: timeout }))
    }

    async fn keep_connected(self, directory: Directory, shutdown: CancellationToken) {
        let mut pause = RECONNECT_PAUSE_MIN;
        let mut said = None;
        loop {
            let attempt = self.connect_once(&directory, &mut said);
            match shutdown.run_until_cancelled(attempt).await {
                None => return,
                Some(Ok(())) => pause = RECONNECT_PAUSE_MIN,
                Some(Err(error)) => {
                    debug!(peer = %self.shared.peer, %error, "link is down");
                    pause = (pause * 2).min(RECONNECT_PAUSE_MAX);
                }
            }
            self.disconnect();
            let retry = tokio::time::timeout(pause, self.shared.retry.notified());
            if shutdown.run_until_cancelled(retry).await.is_none() {
                return;
            }
        }
    }

    fn disconnect(&self) {
        let gone = self.shared.connection.lock().expect("never poisoned").take();
        if let Some(connection) = gone {
            // Dropping the senders tells every caller that no answer will come.
            connection.channels.lock().expect("never poisoned").clear();
            info!(peer = %self.shared.peer, "link lost");
        }
    }

    /// Connects, serves until the connection ends; an error if it never stood.
    /// `said` is why the peer refused the last time, which is said once.
    async fn connect_once(
        &self,
        directory: &Directory,
        said: &mut Option<String>,
    ) -> Result<(), Failure> {
        let peer = self.shared.peer;
        let address = directory.address(peer).ok_or("the map has no address")?;
        let tcp = tokio::time::timeout(CONNECT_TIMEOUT, TcpStream::connect(&address)).await??;
        tcp.set_nodelay(true)?;
        let (mut client, connection) =
            hyper::client::conn::http2::Builder::new(TokioExecutor::new())
                .timer(TokioTimer::new())
                .keep_alive_interval(PING_INTERVAL)
                .keep_alive_timeout(PING_TIMEOUT)
                .keep_alive_while_idle(true)
                .initial_stream_window_size(STREAM_WINDOW_BYTES)
                .initial_connection_window_size(CONNECTION_WINDOW_BYTES)
                .max_frame_size(FRAME_BYTES_MAX)
                .handshake::<_, Body>(TokioIo::new(tcp))
                .await?;
        let driver = tokio::spawn(connection);
        let (outgoing, queue) = mpsc::channel(OUTGOING_MAX);
        let request = directory.request(&address, LINK_PATH).body(body_of(queue))?;
        let response =
            tokio::time::timeout(CONNECT_TIMEOUT, client.send_request(request)).await??;
        if response.status() != http::StatusCode::OK {
            let status = response.status();
            let body = Limited::new(response.into_body(), REFUSAL_BYTES_MAX).collect().await?;
            let reason = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            driver.abort();
            if said.as_ref() != Some(&reason) {
                warn!(%peer, %address, %status, %reason, "peer refuses the link");
                *said = Some(reason.clone());
            }
            return Err(reason.into());
        }
        *said = None;
        let connection = Connection { outgoing, channels: Arc::default() };
        *self.shared.connection.lock().expect("never poisoned") = Some(connection.clone());
        info!(%peer, %address, "link stands");
        let ended = read_answers(response.into_body(), &connection).await;
        driver.abort();
        if let Err(error) = ended {
            debug!(%peer, %error, "link ended");
        }
        Ok(())
    }
}

impl ChannelSender {
    /// Sends one request; waits while the link is congested.
    pub(crate) async fn send(&self, kind: Kind, parts: Vec<Bytes>) -> Result<(), LinkError> {
        let down = LinkError::Down { peer: self.peer };
        let message = self.message(kind, parts);
        self.connection.outgoing.send(message).await.map_err(|_| down)
    }

    fn message(&self, kind: Kind, parts: Vec<Bytes>) -> Outgoing {
        let (shard, replica) = (self.shard, self.replica);
        Outgoing { kind, channel: self.id, shard, replica, parts }
    }
}

impl Drop for ChannelSender {
    fn drop(&mut self) {
        self.connection.channels.lock().expect("never poisoned").remove(&self.id);
        // A full queue may lose the close: the peer also drops channels when the link ends.
        let _ = self.connection.outgoing.try_send(self.message(Kind::Close, Vec::new()));
    }
}

/// Tells answers from refusals and from lost links.
pub(crate) fn answer_of(message: Option<Message>, peer: NodeId) -> Result<Bytes, LinkError> {
    match message {
        None => Err(LinkError::Down { peer }),
        Some(Message { kind: Kind::Answer, body, .. }) => Ok(body),
        Some(Message { body, .. }) => {
            let reason = String::from_utf8_lossy(&body).into_owned();
            Err(LinkError::Refused { peer, reason })
        }
    }
}

async fn read_answers(mut body: Incoming, connection: &Connection) -> Result<(), Failure> {
    let mut reassembler = Reassembler::default();
    while let Some(frame) = body.frame().await {
        if let Ok(chunk) = frame?.into_data() {
            reassembler.push(&chunk);
        }
        while let Some(message) = reassembler.next()? {
            let mut channels = connection.channels.lock().expect("never poisoned");
            let id = message.channel;
            let accepted = channels.get(&id).map(|answers| answers.try_send(message).is_ok());
            if accepted == Some(false) {
                // The caller went away, or does not read: it will see the channel closed.
                channels.remove(&id);
            }
        }
    }
    Ok(())
}

/// A body that sends what is queued: one write for all that waits.
pub(crate) fn body_of(queue: mpsc::Receiver<Outgoing>) -> Body {
    let chunks = futures_util::stream::unfold(
        (queue, BytesMut::new(), Vec::<Bytes>::new()),
        |(mut queue, mut gathered, mut chunks)| async move {
            if chunks.is_empty() {
                queue.recv().await?.write(&mut gathered, &mut chunks);
                while gathered.len() < GATHER_BYTES && chunks.len() < 16 {
                    let Ok(next) = queue.try_recv() else { break };
                    next.write(&mut gathered, &mut chunks);
                }
                chunks.push(gathered.split().freeze());
                chunks.retain(|chunk| !chunk.is_empty());
                chunks.reverse();
            }
            let chunk = chunks.pop()?;
            Some((Ok(Frame::data(chunk)), (queue, gathered, chunks)))
        },
    );
    BodyExt::boxed_unsync(StreamBody::new(chunks))
}
