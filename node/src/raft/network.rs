//! openraft's network over the links between nodes.
//!
//! Appends are pipelined: a channel a stream, answers in order. A stream that gets no answer for
//! [`STALL_TIMEOUT`] is given up, not one that merely waits for a slow fsync.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use futures_util::{Stream, StreamExt};
use openraft::OptionalSend;
use openraft::base::{BoxFuture, BoxStream};
use openraft::errors::{NetworkError, RPCError, ReplicationClosed, StreamingError, Unreachable};
use openraft::network::{Backoff, RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{
    AppendEntriesRequest, AppendEntriesResponse, SnapshotResponse, StreamAppendResult,
    TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use platbook_protocol::planted::Bug;
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::sync::{Notify, Semaphore, mpsc};
use tokio::time::Instant;

use super::held::Held;
use super::machine::SnapshotData;
use super::types::{LogId, Types, Vote};
use super::wire;
use crate::peer::frame::{Kind, Message};
use crate::peer::link::{ChannelSender, Link, LinkError, answer_of};
use crate::peer::{Peers, snapshot};

/// Appends of one stream that are in flight. The receiver queues more than this.
const APPENDS_IN_FLIGHT_MAX: usize = 32;
/// A stream whose oldest request waits longer than this is broken.
const STALL_TIMEOUT: Duration = Duration::from_secs(10);
/// Pauses of a leader before it tries again to reach a replica that was out of reach.
const BACKOFF_MIN: Duration = Duration::from_millis(10);
const BACKOFF_MAX: Duration = Duration::from_millis(100);

type RpcError = RPCError<Types>;
type Snapshot = openraft::alias::SnapshotOf<Types, SnapshotData>;

/// Makes the clients of one group.
pub(crate) struct Network {
    pub(crate) peers: Peers,
    pub(crate) shard: ShardId,
    pub(crate) held: Held,
}

/// Speaks to one member of one group.
pub(crate) struct Client {
    peers: Peers,
    link: Link,
    node: NodeId,
    shard: ShardId,
    target: ReplicaId,
    held: Held,
}

impl RaftNetworkFactory<Types> for Network {
    type Network = Client;

    async fn new_client(&mut self, target: ReplicaId, node: &NodeId) -> Client {
        Client {
            peers: self.peers.clone(),
            link: self.peers.link(*node),
            node: *node,
            shard: self.shard,
            target,
            held: self.held.clone(),
        }
    }
}

fn rpc_error(error: LinkError) -> RpcError {
    match error {
        LinkError::Down { .. } | LinkError::Refused { .. } => {
            RPCError::Unreachable(Unreachable::new(&error))
        }
        LinkError::Timeout { .. } => RPCError::Network(NetworkError::new(&error)),
    }
}

fn malformed(error: impl std::error::Error + 'static) -> RpcError {
    RPCError::Network(NetworkError::new(&error))
}

impl Client {
    async fn call(
        &self,
        kind: Kind,
        body: bytes::Bytes,
        option: &RPCOption,
    ) -> Result<bytes::Bytes, RpcError> {
        let to = (self.shard, self.target);
        self.link.call(kind, to, body, option.soft_ttl()).await.map_err(rpc_error)
    }
}

impl RaftNetworkV2<Types> for Client {
    type SnapshotData = SnapshotData;

    async fn append_entries(
        &mut self,
        rpc: AppendEntriesRequest<Types>,
        option: RPCOption,
    ) -> Result<AppendEntriesResponse<Types>, RpcError> {
        let once = futures_util::stream::iter([rpc]);
        let mut answers = RaftNetworkV2::stream_append(self, once, option).await?;
        match answers.next().await {
            Some(answer) => answer.map(AppendEntriesResponse::from),
            None => Err(RPCError::Network(NetworkError::from_string("no answer to an append"))),
        }
    }

    fn stream_append<'s, S>(
        &'s mut self,
        mut input: S,
        _option: RPCOption,
    ) -> BoxFuture<'s, Result<BoxStream<'s, Result<StreamAppendResult<Types>, RpcError>>, RpcError>>
    where
        S: Stream<Item = AppendEntriesRequest<Types>> + OptionalSend + Unpin + 'static,
    {
        Box::pin(async move {
            let channel = match self.link.open(self.shard, self.target) {
                Ok(channel) => channel,
                Err(error) => {
                    // openraft waits out its backoff inside `input`. A failure before anything is
                    // taken from it would be tried again at once, and again.
                    let failed = async move {
                        let request = input.next().await?;
                        match Bug::QuorumOffByOne.is_planted() {
                            true => Some(Ok(Ok(last_of(&request)))),
                            false => Some(Err(rpc_error(error))),
                        }
                    };
                    let failed = futures_util::stream::once(failed);
                    return Ok(Box::pin(failed.filter_map(std::future::ready)) as BoxStream<'s, _>);
                }
            };
            let flow = Arc::new(Flow::default());
            let told = Told { held: self.held.clone(), by: self.target };
            let sending = tokio::spawn(forward(input, channel.sender, flow.clone(), told.clone()));
            let answers = Answers {
                node: self.node,
                told,
                queue: channel.answers,
                flow,
                received: 0,
                progress: Instant::now(),
                _sending: AbortOnDrop(sending.abort_handle()),
            };
            let answers = futures_util::stream::unfold(Some(answers), |state| async move {
                let mut answers = state?;
                let next = answers.next().await?;
                let goes_on = matches!(next, Ok(Ok(_)));
                Some((next, goes_on.then_some(answers)))
            });
            Ok(Box::pin(answers) as BoxStream<'s, _>)
        })
    }

    /// A link that is down costs nothing to look at again, and what a leader fails to send is
    /// what its writes wait for.
    fn backoff(&self) -> Option<Backoff> {
        let longer = |pause: &Duration| Some((*pause * 2).min(BACKOFF_MAX));
        Some(Backoff::new(std::iter::successors(Some(BACKOFF_MIN), longer)))
    }

    async fn vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let answer = self.call(Kind::Vote, wire::encode_vote_request(&rpc), &option).await?;
        wire::decode_vote_answer(&answer).map_err(malformed)
    }

    async fn pre_vote(
        &mut self,
        rpc: VoteRequest<Types>,
        option: RPCOption,
    ) -> Result<VoteResponse<Types>, RpcError> {
        let answer = self.call(Kind::PreVote, wire::encode_vote_request(&rpc), &option).await?;
        wire::decode_vote_answer(&answer).map_err(malformed)
    }

    async fn full_snapshot(
        &mut self,
        vote: Vote,
        snapshot: Snapshot,
        cancel: impl Future<Output = ReplicationClosed> + OptionalSend + 'static,
        _option: RPCOption,
    ) -> Result<SnapshotResponse<Types>, StreamingError<Types>> {
        let head = wire::encode_snapshot_head(&vote, &snapshot.meta);
        let SnapshotData::Outgoing(data) = snapshot.snapshot else {
            return Err(NetworkError::from_string("only a snapshot of our own can be sent").into());
        };
        let to = (self.shard, self.target);
        let sending = snapshot::send(self.peers.directory(), self.node, to, head, *data);
        let sent = tokio::select! {
            biased;
            closed = cancel => return Err(closed.into()),
            sent = sending => sent,
        };
        let answer = sent.map_err(|e| Unreachable::from_string(e.to_string()))?;
        let vote = wire::decode_vote(&answer).map_err(|e| NetworkError::new(&e))?;
        Ok(SnapshotResponse::new(vote))
    }

    async fn transfer_leader(
        &mut self,
        req: TransferLeaderRequest<Types>,
        option: RPCOption,
    ) -> Result<TransferLeaderResponse<Types>, RpcError> {
        let body = wire::encode_transfer(req.from_leader(), *req.to_node_id(), req.last_log_id());
        self.call(Kind::Transfer, body, &option).await?;
        Ok(Ok(()))
    }
}

/// The last entry that a follower has who took all of the request.
fn last_of(request: &AppendEntriesRequest<Types>) -> Option<LogId> {
    request.entries.last().map_or(request.prev_log_id, |entry| Some(entry.log_id))
}

struct AbortOnDrop(tokio::task::AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// What the sending and the receiving half of one stream know of each other.
struct Flow {
    sent: AtomicU64,
    /// In which its requests are sent.
    term: AtomicU64,
    ended: AtomicBool,
    changed: Notify,
    room: Semaphore,
}

impl Default for Flow {
    fn default() -> Flow {
        Flow {
            sent: AtomicU64::new(0),
            term: AtomicU64::new(0),
            ended: AtomicBool::new(false),
            changed: Notify::new(),
            room: Semaphore::new(APPENDS_IN_FLIGHT_MAX),
        }
    }
}

/// What one follower acknowledged.
#[derive(Clone)]
struct Told {
    held: Held,
    by: ReplicaId,
}

async fn forward<S>(mut input: S, channel: ChannelSender, flow: Arc<Flow>, told: Told)
where
    S: Stream<Item = AppendEntriesRequest<Types>> + Unpin,
{
    loop {
        flow.room.acquire().await.expect("the semaphore is never closed").forget();
        let Some(request) = input.next().await else { break };
        let term = request.vote.leader_id().term;
        flow.term.store(term, Ordering::Release);
        flow.sent.fetch_add(1, Ordering::Release);
        flow.changed.notify_one();
        let message = wire::encode_append(request, told.held.by(term, told.by));
        if channel.send(Kind::Append, message).await.is_err() {
            break;
        }
    }
    flow.ended.store(true, Ordering::Release);
    flow.changed.notify_one();
    // The channel stays open until the last answer is there: the receiving half aborts this task.
    std::future::pending::<()>().await;
}

struct Answers {
    node: NodeId,
    told: Told,
    queue: mpsc::Receiver<Message>,
    flow: Arc<Flow>,
    received: u64,
    /// When the oldest request without an answer started to wait, or later.
    progress: Instant,
    _sending: AbortOnDrop,
}

impl Answers {
    async fn next(&mut self) -> Option<Result<StreamAppendResult<Types>, RpcError>> {
        loop {
            let ended = self.flow.ended.load(Ordering::Acquire);
            let waiting = self.flow.sent.load(Ordering::Acquire) - self.received;
            if waiting == 0 {
                if ended {
                    return None;
                }
                self.progress = Instant::now();
            }
            tokio::select! {
                biased;
                message = self.queue.recv() => return Some(self.on_message(message)),
                () = self.flow.changed.notified() => {}
                () = tokio::time::sleep_until(self.progress + STALL_TIMEOUT), if waiting > 0 => {
                    let (peer, after) = (self.node, STALL_TIMEOUT);
                    return Some(Err(rpc_error(LinkError::Timeout { peer, after })));
                }
            }
        }
    }

    fn on_message(
        &mut self,
        message: Option<Message>,
    ) -> Result<StreamAppendResult<Types>, RpcError> {
        let body = answer_of(message, self.node).map_err(rpc_error)?;
        self.received += 1;
        self.progress = Instant::now();
        self.flow.room.add_permits(1);
        let answer = wire::decode_append_answer(&body).map_err(malformed)?;
        if let Ok(Some(matched)) = &answer {
            let term = self.flow.term.load(Ordering::Acquire);
            self.told.held.acknowledged(term, self.told.by, matched.index + 1);
        }
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicUsize;

    use tokio_util::sync::CancellationToken;

    use super::*;
    use crate::directory::Directory;

    fn request() -> AppendEntriesRequest<Types> {
        AppendEntriesRequest {
            vote: Vote::new(1, ReplicaId(1)),
            prev_log_id: None,
            entries: Vec::new(),
            leader_commit: None,
        }
    }

    #[tokio::test]
    async fn a_peer_that_is_away_costs_a_request_so_that_the_backoff_in_it_is_waited_for() {
        let peers = Peers::new(Directory::new(NodeId(1)), CancellationToken::new());
        let mut network = Network { peers, shard: ShardId(1), held: Held::default() };
        let mut client = network.new_client(ReplicaId(2), &NodeId(2)).await;
        let taken = Arc::new(AtomicUsize::new(0));
        let counted = taken.clone();
        let input = futures_util::stream::iter([request(), request()])
            .inspect(move |_| _ = counted.fetch_add(1, Ordering::Relaxed));
        let option = RPCOption::new(Duration::from_millis(10));
        let answers = RaftNetworkV2::stream_append(&mut client, input, option).await;
        let answers: Vec<_> = answers.expect("a stream").collect().await;
        assert!(matches!(answers[..], [Err(RPCError::Unreachable(_))]), "{answers:?}");
        assert_eq!(taken.load(Ordering::Relaxed), 1);
    }
}
