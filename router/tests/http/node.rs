//! Nodes in this process: they serve one [`State`] over HTTP/2, and fail as they are told.

use std::collections::{BTreeMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard};

use bincode::Encode;
use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full, StreamBody};
use hyper::body::{Frame, Incoming};
use hyper::server::conn::http2;
use hyper::service::service_fn;
use hyper_util::rt::{TokioExecutor, TokioIo};
use platbook_protocol::op::OpIter;
use platbook_protocol::rpc::{
    GetDictionary, GetMap, List, ListKind, Listed, MapAnswer, NodeStatus, Propose, Proposed,
    PutDictionary, ReadRegisters, ReadRows, ReadZipState, Refusal, ReplicaStatus, Scan,
};
use platbook_protocol::{NodeId, Seq, ShardId, Slot, TimeMs, codec};
use platbook_router::config::Limits;
use platbook_router::{Clock, Config, Server};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::client::Client;
use crate::state::State;

/// What a node does instead of answering, once.
#[derive(Clone, Debug)]
pub(crate) enum Fault {
    /// Nothing: the call is carried out and answered.
    None,
    /// Refuses.
    Refuse(Refusal),
    /// Does it, and breaks the stream instead of answering.
    DoAndBreak,
    /// Breaks the stream without doing anything.
    Break,
    /// Never answers.
    Hang,
    /// Sends so many bytes of a scan and breaks off.
    CutScan(usize),
}

/// What the nodes share.
pub(crate) struct Shared {
    pub(crate) state: State,
    /// Who leads every shard.
    pub(crate) leader: NodeId,
    /// Faults to come, by name of the call.
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    /// Calls so far.
    calls: BTreeMap<String, usize>,
}

/// A cluster with a router in front of it.
pub(crate) struct Cluster {
    shared: Arc<Mutex<Shared>>,
    stop: CancellationToken,
    pub(crate) client: Client,
}

impl Cluster {
    /// One node and a router.
    pub(crate) async fn start() -> Cluster {
        Cluster::with(1, Limits::default()).await
    }

    /// So many nodes and a router with these limits.
    pub(crate) async fn with(nodes: usize, limits: Limits) -> Cluster {
        Cluster::configured(nodes, Config { limits, ..Config::default() }).await
    }

    /// So many nodes and a router that is told this.
    pub(crate) async fn configured(nodes: usize, config: Config) -> Cluster {
        let mut listeners = Vec::new();
        for _ in 0..nodes {
            listeners.push(TcpListener::bind("127.0.0.1:0").await.expect("a free port"));
        }
        let address = |l: &TcpListener| l.local_addr().expect("it is bound").to_string();
        let addresses: Vec<String> = listeners.iter().map(address).collect();
        let shared = Arc::new(Mutex::new(Shared {
            state: State::new(&addresses, 4),
            leader: NodeId(1),
            faults: BTreeMap::new(),
            calls: BTreeMap::new(),
        }));
        let stop = CancellationToken::new();
        for (i, listener) in listeners.into_iter().enumerate() {
            tokio::spawn(serve(listener, NodeId(i as u64 + 1), shared.clone(), stop.clone()));
        }
        let client = router(Config { nodes: addresses, ..config }, stop.clone()).await;
        Cluster { shared, stop, client }
    }

    pub(crate) fn shared(&self) -> MutexGuard<'_, Shared> {
        self.shared.lock().expect("no test panics with it")
    }

    /// The next calls of `name` meet these faults, one each.
    pub(crate) fn fail(&self, name: &'static str, faults: impl IntoIterator<Item = Fault>) {
        self.shared().faults.entry(name).or_default().extend(faults);
    }

    /// How often `name` was called.
    pub(crate) fn calls(&self, name: &str) -> usize {
        self.shared().calls.get(name).copied().unwrap_or(0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

/// Starts a router before nodes.
pub(crate) async fn router(config: Config, stop: CancellationToken) -> Client {
    let listen = "127.0.0.1:0".parse().expect("an address");
    let config = Config { listen, ..config };
    let server = Server::bind(config, Clock::system()).await.expect("a free port");
    let address = server.address();
    tokio::spawn(server.serve(stop));
    Client::new(address)
}

type Body = UnsyncBoxBody<Bytes, Infallible>;

async fn serve(
    listener: TcpListener,
    me: NodeId,
    shared: Arc<Mutex<Shared>>,
    stop: CancellationToken,
) {
    loop {
        let (stream, _) = tokio::select! {
            accepted = listener.accept() => accepted.expect("accepting works"),
            () = stop.cancelled() => return,
        };
        let (shared, stop) = (shared.clone(), stop.clone());
        tokio::spawn(async move {
            let service = service_fn(move |request| answer(request, me, shared.clone()));
            let connection = http2::Builder::new(TokioExecutor::new())
                .serve_connection(TokioIo::new(stream), service);
            tokio::select! {
                // The router hangs up when its test ends.
                _ended = connection => {}
                () = stop.cancelled() => {}
            }
        });
    }
}

/// A call that breaks off: the service's error resets the stream.
#[derive(Debug, thiserror::Error)]
#[error("told to break")]
struct Broken;

async fn answer(
    request: Request<Incoming>,
    me: NodeId,
    shared: Arc<Mutex<Shared>>,
) -> Result<Response<Body>, Broken> {
    let name = request.uri().path().strip_prefix("/rpc/").expect("a call").to_string();
    let body = request.into_body().collect().await.map_err(|_| Broken)?.to_bytes();
    let fault = {
        let mut shared = shared.lock().expect("no test panics with it");
        *shared.calls.entry(name.clone()).or_default() += 1;
        shared.faults.get_mut(name.as_str()).and_then(VecDeque::pop_front)
    };
    match fault {
        None | Some(Fault::None) => Ok(carry_out(&name, &body, me, &shared, usize::MAX)),
        Some(Fault::Refuse(refusal)) => Ok(refused(&name, refusal)),
        Some(Fault::DoAndBreak) => {
            carry_out(&name, &body, me, &shared, usize::MAX);
            Err(Broken)
        }
        Some(Fault::Break) => Err(Broken),
        Some(Fault::Hang) => std::future::pending().await,
        Some(Fault::CutScan(bytes)) => Ok(carry_out(&name, &body, me, &shared, bytes)),
    }
}

fn carry_out(
    name: &str,
    body: &Bytes,
    me: NodeId,
    shared: &Mutex<Shared>,
    scan_bytes_max: usize,
) -> Response<Body> {
    let mut shared = shared.lock().expect("no test panics with it");
    let leader = shared.leader;
    let needs_leader = !matches!(name, "map" | "status" | "dictionary");
    if me != leader && needs_leader {
        return refused(name, Refusal::NotLeader { shard: ShardId(1), leader: Some(leader) });
    }
    let state = &mut shared.state;
    match name {
        "map" => map(state, body, leader),
        "status" => encoded(&Ok::<_, Refusal>(status(state, me, leader))),
        "dictionary" => {
            let asked: GetDictionary = codec::decode(body).expect("encoded");
            let found = state.dictionaries.get(asked.id as usize - 1).cloned();
            encoded(&Ok::<_, Refusal>(found))
        }
        "put-dictionary" => {
            let asked: PutDictionary = codec::decode(body).expect("encoded");
            if asked.latest == state.dictionaries.len() as u32 {
                state.dictionaries.push(asked.bytes);
            }
            encoded(&Ok::<_, Refusal>(state.dictionaries.len() as u32))
        }
        "propose" => encoded(&Ok::<_, Refusal>(propose(state, body))),
        "registers" => {
            let asked: ReadRegisters<'_> = codec::decode_versioned_borrowed(body).expect("encoded");
            let views: Vec<_> = asked.ids.iter().map(|id| state.register(id)).collect();
            encoded(&Ok::<_, Refusal>(views))
        }
        "rows" => {
            let asked: ReadRows<'_> = codec::decode_versioned_borrowed(body).expect("encoded");
            let views: Vec<_> = asked.rows.iter().map(|(zip, id)| state.row(*zip, id)).collect();
            encoded(&Ok::<_, Refusal>(views))
        }
        "zip-state" => {
            let asked: ReadZipState = codec::decode(body).expect("encoded");
            encoded(&Ok::<_, Refusal>(state.zip_state(asked.zip)))
        }
        "scan" => {
            let asked: Scan = codec::decode(body).expect("encoded");
            let mut stream = head(&Ok(state.zip_state(asked.zip)));
            let rows = state.scan(&asked);
            stream.extend_from_slice(&rows[..rows.len().min(scan_bytes_max)]);
            let chunk = Ok(Frame::data(Bytes::from(stream)));
            Response::new(StreamBody::new(futures_util::stream::iter([chunk])).boxed_unsync())
        }
        "list" => encoded(&Ok::<_, Refusal>(list(state, body))),
        other => panic!("the router called {other}"),
    }
}

fn map(state: &State, body: &Bytes, leader: NodeId) -> Response<Body> {
    let _asked: GetMap = codec::decode(body).expect("encoded");
    let leaders = state.map.shards.iter().map(|shard| (shard.id, Some(leader))).collect();
    let (map, dictionary) = (Some(state.map.clone()), state.dictionaries.len() as u32);
    encoded(&Ok::<_, Refusal>(MapAnswer { map, leaders, dictionary }))
}

fn propose(state: &mut State, body: &Bytes) -> Proposed {
    let asked: Propose<'_> = codec::decode_versioned_borrowed(body).expect("encoded");
    let ops = OpIter::new(asked.ops).map(|op| op.expect("the router encodes operations"));
    let outcomes: Vec<_> = ops.map(|op| state.apply(op)).collect();
    assert_eq!(outcomes.len(), asked.count as usize);
    Proposed { outcomes }
}

fn list(state: &State, body: &Bytes) -> Listed {
    let asked: List = codec::decode(body).expect("encoded");
    let is_here = |key: &str| {
        let shard = state.map.shard_of(Slot::of(key.as_bytes())).expect("all slots are owned");
        shard.id == asked.shard && asked.after.as_deref().is_none_or(|after| key > after)
    };
    let limit = asked.limit as usize;
    match asked.kind {
        ListKind::Quarantine => {
            let found = state.quarantine.iter().filter(|(key, _)| is_here(key)).take(limit);
            Listed::Quarantine(found.map(|(k, v)| (k.clone(), v.clone())).collect())
        }
        ListKind::Suspects => {
            let found = state.suspects.iter().filter(|(key, _)| is_here(key)).take(limit);
            let entry = |(k, (why, at)): (&String, &(_, TimeMs))| (k.clone(), *why, *at);
            Listed::Suspects(found.map(entry).collect())
        }
    }
}

fn status(state: &State, me: NodeId, leader: NodeId) -> NodeStatus {
    let replica = |shard: ShardId| {
        let replica = state.map.replica_on(shard, me)?;
        Some(ReplicaStatus {
            shard,
            replica: replica.id,
            role: if me == leader { "leader" } else { "follower" }.to_string(),
            term: 1,
            leader: Some(leader),
            last_log: 5,
            applied: 5,
            seq: Seq(u64::MAX),
            fault: None,
            content: None,
        })
    };
    NodeStatus {
        node: me,
        replicas: state.map.shards.iter().filter_map(|shard| replica(shard.id)).collect(),
        clock_offset_ms: 0,
        read_only: false,
        fsyncs: 0,
        scrubbed: None,
        damage: None,
    }
}

fn refused(name: &str, refusal: Refusal) -> Response<Body> {
    match name {
        "scan" => Response::new(Full::new(Bytes::from(head(&Err(refusal)))).boxed_unsync()),
        _ => encoded(&Err::<(), Refusal>(refusal)),
    }
}

fn head(answer: &Result<platbook_protocol::rpc::ZipState, Refusal>) -> Vec<u8> {
    let encoded = codec::encode(answer);
    let mut head = (encoded.len() as u32).to_le_bytes().to_vec();
    head.extend_from_slice(&encoded);
    head
}

fn encoded<T: Encode>(answer: &Result<T, Refusal>) -> Response<Body> {
    let mut response = Response::new(Full::new(codec::encode(answer).into()).boxed_unsync());
    *response.status_mut() = StatusCode::OK;
    response
}
