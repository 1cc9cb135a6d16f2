//! A cluster in this process: real nodes on loopback ports, with data in a temporary directory.
#![allow(dead_code, reason = "each test uses its own part")]

mod ports;
mod power;
mod rebuild;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use bincode::{Decode, Encode};
use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::{TokioExecutor, TokioIo};
use platbook_engine::store::Inspection;
use platbook_node::{Clock, NodeConfig, Seams};
use platbook_protocol::codec;
use platbook_protocol::map::Map;
use platbook_protocol::op::{Body, Op, OpList, OpOutcome};
use platbook_protocol::register::{Admission, Decision, Message, Upsert, Version};
use platbook_protocol::row::WriteOutcome;
use platbook_protocol::rpc::{
    GetMap, GetStatus, MapAnswer, NodeStatus, Propose, Proposed, Refusal, Scan, ZipState, scan,
};
use platbook_protocol::{Digest, NodeId, ReplicaId, Revision, ShardId, Slot, TimeMs, Zip};
use tokio::net::TcpStream;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

const PATIENCE: Duration = Duration::from_secs(30);
const POLL: Duration = Duration::from_millis(20);

struct Running {
    stop: CancellationToken,
    task: JoinHandle<Result<(), String>>,
    /// Where it runs, if it can lose power.
    _machine: Option<power::Machine>,
}

pub(crate) struct Cluster {
    dir: tempfile::TempDir,
    addresses: BTreeMap<NodeId, SocketAddr>,
    shards: u32,
    /// Settings that differ from those of the other tests.
    settings: serde_json::Value,
    clocks: BTreeMap<NodeId, Clock>,
    running: BTreeMap<NodeId, Running>,
    map: Option<Map>,
    power: power::Power,
}

impl Cluster {
    pub(crate) async fn start(nodes: u64, shards: u32) -> Cluster {
        Cluster::start_as(nodes, shards, serde_json::json!({})).await
    }

    /// As [`Cluster::start`], with other settings of every node.
    pub(crate) async fn start_as(nodes: u64, shards: u32, settings: serde_json::Value) -> Cluster {
        let mut cluster = Cluster::lay_out(nodes, shards, settings);
        cluster.start_all().await;
        cluster
    }

    fn lay_out(nodes: u64, shards: u32, settings: serde_json::Value) -> Cluster {
        // `RUST_LOG=debug` shows what the nodes say; a second test finds the subscriber set.
        let filter = tracing_subscriber::EnvFilter::from_default_env();
        let _ = tracing_subscriber::fmt().with_env_filter(filter).with_test_writer().try_init();
        let addresses = (1..=nodes).map(|id| (NodeId(id), ports::free_address())).collect();
        let dir = tempfile::tempdir().expect("a temporary directory");
        let (clocks, running) = (BTreeMap::new(), BTreeMap::new());
        let (map, power) = (None, power::Power::default());
        Cluster { dir, addresses, shards, settings, clocks, running, map, power }
    }

    pub(crate) async fn start_all(&mut self) {
        for id in self.addresses.keys().copied().collect::<Vec<_>>() {
            self.start_node(id);
        }
    }

    pub(crate) fn start_node(&mut self, id: NodeId) {
        self.start_with(id, false);
    }

    pub(crate) fn rejoin(&mut self, id: NodeId) {
        self.start_with(id, true);
    }

    fn start_with(&mut self, id: NodeId, rejoin: bool) {
        let peers: Vec<String> = self.addresses.iter().map(|(id, a)| format!("{id}={a}")).collect();
        let mut config = serde_json::json!({
            "id": id.0,
            "data": self.path(id),
            "listen": self.addresses[&id],
            "peers": peers,
            "shards": self.shards,
            "rejoin": rejoin,
            "memory-max": 256 << 20,
            "log-segment-bytes": 8 << 20,
            "log-bytes-max": 16 << 20,
            "disk-free-percent-min": 0,
        });
        for (name, value) in self.settings.as_object().expect("settings are named") {
            config[name] = value.clone();
        }
        let config: NodeConfig = serde_json::from_value(config).expect("a configuration");
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let (clock, log_files) = (self.clock(id), self.power.files(id));
        let seams = Seams { clock, log_files, simulated: None };
        let run = async move {
            let stopped = async move { stopped.cancelled().await };
            platbook_node::run_in(seams, config, stopped).await.map_err(|e| e.to_string())
        };
        let machine = self.power.machine();
        let task = match &machine {
            Some(machine) => machine.spawn(run),
            None => tokio::spawn(run),
        };
        self.running.insert(id, Running { stop, task, _machine: machine });
    }

    /// The data directory of a node.
    pub(crate) fn path(&self, id: NodeId) -> PathBuf {
        self.power.dir(self.dir.path(), id).join(format!("node-{id}"))
    }

    pub(crate) fn address(&self, id: NodeId) -> SocketAddr {
        self.addresses[&id]
    }

    /// The node's clock, which goes on over restarts.
    pub(crate) fn clock(&mut self, id: NodeId) -> Clock {
        self.clocks.entry(id).or_default().clone()
    }

    /// A metric of a node that has no labels.
    pub(crate) async fn metric(&self, id: NodeId, name: &str) -> f64 {
        self.try_metric(id, name).await.expect("it answers")
    }

    async fn try_metric(&self, id: NodeId, name: &str) -> Option<f64> {
        let answered = self.exchange(id, "GET", "/metrics", Vec::new()).await.ok()?;
        let text = String::from_utf8_lossy(&answered.1).into_owned();
        let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        let value = line.unwrap_or_else(|| panic!("no metric {name}: {text}"));
        Some(value.parse().expect("a number"))
    }

    /// Waits until a metric of a node, which may be starting, is as wanted.
    pub(crate) async fn until(&self, id: NodeId, name: &str, wanted: impl Fn(f64) -> bool) {
        let mut poll = tokio::time::interval(POLL);
        let mut last = f64::NAN;
        let reached = async {
            loop {
                last = self.try_metric(id, name).await.unwrap_or(f64::NAN);
                if wanted(last) {
                    return;
                }
                poll.tick().await;
            }
        };
        let reached = tokio::time::timeout(PATIENCE, reached).await;
        assert!(reached.is_ok(), "{name} of node {id} stays at {last}");
    }

    /// The cluster's id, as callers name it.
    pub(crate) fn cluster_id(&self) -> String {
        self.map.as_ref().expect("ready was awaited").cluster.to_string()
    }

    /// Role and fault of a node's replica.
    pub(crate) async fn standing_of(&self, id: NodeId, shard: ShardId) -> (String, Option<String>) {
        let status = self.status(id, false).await.expect("the node answers");
        let replica = status.replicas.into_iter().find(|replica| replica.shard == shard);
        let replica = replica.expect("the node has a replica");
        (replica.role, replica.fault)
    }

    /// Entries of which a stopped node's store still knows what they changed.
    pub(crate) fn effects(&self, id: NodeId) -> u64 {
        let store = Inspection::open(&self.path(id).join("db")).expect("a stopped node's store");
        let totals = store.totals().expect("it can be read");
        totals.get("effects").map_or(0, |effects| effects.keys)
    }

    pub(crate) fn wipe(&self, id: NodeId) {
        std::fs::remove_dir_all(self.path(id)).expect("the directory was there");
    }

    pub(crate) async fn stop(&mut self, id: NodeId) {
        self.running[&id].stop.cancel();
        self.ended(id).await.expect("a node that is asked to stops without an error");
    }

    /// Asks a node to stop, without waiting for it.
    pub(crate) fn ask_to_stop(&self, id: NodeId) {
        self.running[&id].stop.cancel();
    }

    /// A request that a node holds for up to `wait_ms`.
    pub(crate) async fn wait_for_a_map(&self, id: NodeId, wait_ms: u32) {
        let known_epoch = self.map.as_ref().expect("ready was awaited").epoch;
        let ask = codec::encode(&GetMap { known_epoch, wait_ms });
        // The node may stop before it answers.
        let _ = self.exchange(id, "POST", "/rpc/map", ask).await;
    }

    /// Waits until nobody listens at the node's address.
    pub(crate) async fn refuses_connections(&self, id: NodeId) {
        let mut poll = tokio::time::interval(POLL);
        while TcpStream::connect(self.addresses[&id]).await.is_ok() {
            poll.tick().await;
        }
    }

    pub(crate) async fn stop_all(&mut self) {
        for running in self.running.values() {
            running.stop.cancel();
        }
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            self.ended(id).await.expect("a node that is asked to stops without an error");
        }
    }

    pub(crate) async fn ended(&mut self, id: NodeId) -> Result<(), String> {
        let running = self.running.remove(&id).expect("it was started");
        let ended = tokio::time::timeout(PATIENCE, running.task).await.expect("ends in time");
        ended.expect("no panic")
    }

    /// Waits until every node says that it is ready.
    pub(crate) async fn ready(&mut self) {
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            let mut last = Err("never asked".to_string());
            let running = &self.running[&id].task;
            let mut poll = tokio::time::interval(POLL);
            let ready = async {
                loop {
                    last = self.exchange(id, "GET", "/readyz", Vec::new()).await;
                    if matches!(last, Ok((200, _))) || running.is_finished() {
                        return;
                    }
                    poll.tick().await;
                }
            };
            let ready = tokio::time::timeout(PATIENCE, ready).await;
            if running.is_finished() {
                panic!("node {id} ended: {:?}", self.ended(id).await);
            }
            assert!(ready.is_ok(), "node {id} is not ready: {last:?}");
        }
        self.learn_map().await;
    }

    async fn learn_map(&mut self) -> Map {
        let ask = GetMap { known_epoch: 0, wait_ms: 0 };
        let mut refusals = Vec::new();
        // A node may have stopped by itself since it was started: any other knows the map as well.
        for id in self.running.keys().copied() {
            match self.try_call::<_, MapAnswer>(id, "/rpc/map", &ask).await {
                Ok(answer) => {
                    let map = answer.map.expect("a formed cluster has a map");
                    self.map = Some(map.clone());
                    return map;
                }
                Err(refusal) => refusals.push(format!("node {id}: {refusal}")),
            }
        }
        panic!("no node tells the map: {refusals:?}")
    }

    pub(crate) fn shards(&self) -> Vec<ShardId> {
        let map = self.map.as_ref().expect("ready was awaited");
        map.shards.iter().map(|shard| shard.id).collect()
    }

    pub(crate) fn shard_of(&self, zip: Zip) -> ShardId {
        let map = self.map.as_ref().expect("ready was awaited");
        map.shard_of(Slot::of_zip(&zip)).expect("every slot has a shard").id
    }

    /// Leader and placements of a shard.
    pub(crate) async fn placement(&mut self, shard: ShardId) -> (NodeId, Vec<(ReplicaId, NodeId)>) {
        let map = self.learn_map().await;
        let replicas = map.shard(shard).expect("in the map").replicas.clone();
        let mut poll = tokio::time::interval(POLL);
        let found = async {
            loop {
                for id in self.running.keys().copied().collect::<Vec<_>>() {
                    let status = self.status(id, false).await;
                    let leads = |r: &&platbook_protocol::rpc::ReplicaStatus| {
                        r.shard == shard && r.role == "leader"
                    };
                    if status.is_some_and(|s| s.replicas.iter().any(|r| leads(&r))) {
                        return id;
                    }
                }
                poll.tick().await;
            }
        };
        let leader = tokio::time::timeout(PATIENCE, found).await.expect("a leader is found");
        (leader, replicas.iter().map(|r| (r.id, r.node)).collect())
    }

    async fn status(&self, id: NodeId, with_hashes: bool) -> Option<NodeStatus> {
        self.try_call(id, "/rpc/status", &GetStatus { with_hashes }).await.ok()
    }

    /// Index and content hash of each replica of a shard.
    pub(crate) async fn contents(&mut self, shard: ShardId) -> Vec<(u64, u128)> {
        let mut found = Vec::new();
        for id in self.running.keys().copied().collect::<Vec<_>>() {
            let Some(status) = self.status(id, true).await else { continue };
            let of_shard = status.replicas.into_iter().filter(|r| r.shard == shard);
            found.extend(of_shard.filter_map(|r| r.content));
        }
        found
    }

    /// Waits until all replicas of all shards have the same content at the same index.
    pub(crate) async fn same_content(&mut self) {
        for shard in self.shards() {
            let replicas = self.placement(shard).await.1.len();
            self.same_content_of(shard, replicas).await;
        }
    }

    pub(crate) async fn same_content_of(&mut self, shard: ShardId, replicas: usize) {
        let mut last = Vec::new();
        let mut poll = tokio::time::interval(Duration::from_millis(50));
        let same = async {
            loop {
                let found = self.contents(shard).await;
                last.clone_from(&found);
                let equal = found.windows(2).all(|pair| pair[0] == pair[1]);
                if equal && found.len() == replicas {
                    return;
                }
                poll.tick().await;
            }
        };
        let same = tokio::time::timeout(Duration::from_secs(30), same).await;
        assert!(same.is_ok(), "replicas of shard {shard} do not become equal: {last:?}");
    }

    /// Carries one upsert through, as a router would.
    pub(crate) async fn put(&mut self, id: &str, zip: Zip, frame: &[u8]) {
        let map = self.map.as_ref().expect("ready was awaited");
        let home = map.shard_of(Slot::of_id(id)).expect("every slot has a shard").id;
        let mut ops = OpList::default();
        ops.push(&admit(id, zip, now_ms()));
        let outcomes = self.propose(home, &ops).await;
        let OpOutcome::Admitted(admitted) = &outcomes[0] else { panic!("{outcomes:?}") };
        let Decision::Do { revision, .. } = admitted.decision else { panic!("{admitted:?}") };
        let mut ops = OpList::default();
        ops.push(&write_op(id, zip, revision, frame));
        let outcomes = self.propose(self.shard_of(zip), &ops).await;
        assert_eq!(outcomes, [OpOutcome::Written(WriteOutcome::Done)]);
    }

    pub(crate) async fn propose(&mut self, shard: ShardId, ops: &OpList) -> Vec<OpOutcome> {
        let (count, ops) = (ops.count() as u32, ops.bytes());
        let request = Propose { shard, deadline_ms: 5_000, count, ops };
        let answer: Proposed = self.call_leader(shard, "/rpc/propose", &request).await;
        answer.outcomes
    }

    pub(crate) async fn call_leader<Q: Encode, A: Decode<()>>(
        &mut self,
        shard: ShardId,
        path: &str,
        request: &Q,
    ) -> A {
        let mut poll = tokio::time::interval(POLL);
        let asked = async {
            loop {
                let (leader, _) = self.placement(shard).await;
                match self.try_call(leader, path, request).await {
                    Ok(answer) => return answer,
                    Err(refusal) => tracing::debug!(%refusal, "again"),
                }
                poll.tick().await;
            }
        };
        tokio::time::timeout(PATIENCE, asked).await.expect("answered in time")
    }

    pub(crate) async fn call<Q: Encode, A: Decode<()>>(
        &self,
        id: NodeId,
        path: &str,
        request: &Q,
    ) -> A {
        self.try_call(id, path, request).await.unwrap_or_else(|e| panic!("{path} at {id}: {e}"))
    }

    pub(crate) async fn try_call<Q: Encode, A: Decode<()>>(
        &self,
        id: NodeId,
        path: &str,
        request: &Q,
    ) -> Result<A, String> {
        let (status, answer) = self.exchange(id, "POST", path, codec::encode(request)).await?;
        if status != 200 {
            return Err(format!("{status}: {}", String::from_utf8_lossy(&answer)));
        }
        let answer: Result<A, Refusal> = codec::decode(&answer).map_err(|e| e.to_string())?;
        answer.map_err(|e| e.to_string())
    }

    /// The ids of a streamed scan, checked to be whole.
    pub(crate) async fn scan(&mut self, shard: ShardId, request: &Scan) -> Vec<String> {
        let (leader, _) = self.placement(shard).await;
        let exchanged = self.exchange(leader, "POST", "/rpc/scan", codec::encode(request)).await;
        let (_, answer) = exchanged.expect("the leader answers");
        let (head, mut rest) = answer.split_at(4);
        let head = u32::from_le_bytes(head.try_into().expect("four bytes")) as usize;
        let state: Result<ZipState, Refusal> = codec::decode(&rest[..head]).expect("a head");
        state.expect("no refusal");
        rest = &rest[head..];
        let mut ids = Vec::new();
        while rest[0] == scan::ROW {
            let u16_at = |at: usize| usize::from(u16::from_le_bytes([rest[at], rest[at + 1]]));
            let (id, summary) = (u16_at(1), u16_at(11));
            let frame = u32::from_le_bytes(rest[13..17].try_into().expect("four bytes")) as usize;
            let start = scan::ROW_HEAD_BYTES;
            ids.push(String::from_utf8(rest[start..start + id].to_vec()).expect("UTF-8"));
            rest = &rest[start + id + summary + frame..];
        }
        assert_eq!(rest, [scan::END, 0], "the stream ends as it should");
        ids
    }

    pub(crate) async fn exchange(
        &self,
        id: NodeId,
        method: &str,
        path: &str,
        body: Vec<u8>,
    ) -> Result<(u16, Bytes), String> {
        let address = self.addresses[&id];
        let exchange = async {
            let tcp = TcpStream::connect(address).await.map_err(|e| e.to_string())?;
            let (mut client, connection) =
                hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(tcp))
                    .await
                    .map_err(|e| e.to_string())?;
            let driver = tokio::spawn(connection);
            let request = http::Request::builder()
                .method(method)
                .uri(format!("http://{address}{path}"))
                .header("platbook-protocol", codec::PROTOCOL_VERSION.to_string())
                .body(Full::new(Bytes::from(body)))
                .map_err(|e| e.to_string())?;
            let response = client.send_request(request).await.map_err(|e| e.to_string())?;
            let status = response.status().as_u16();
            let body = response.into_body().collect().await.map_err(|e| e.to_string())?;
            driver.abort();
            Ok((status, body.to_bytes()))
        };
        let late = |_| "no answer in time".to_string();
        tokio::time::timeout(Duration::from_secs(20), exchange).await.map_err(late)?
    }
}

/// Now: messages for unknown ids that are older than what is remembered are refused.
#[allow(clippy::disallowed_methods, reason = "a test stands outside the cluster")]
pub(crate) fn now_ms() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    now.expect("after 1970").as_millis() as u64
}

fn digest_of(id: &str, zip: Zip) -> Digest {
    let mut digest = [0; 16];
    let hash = Slot::of(format!("{id} {zip}").as_bytes()).0;
    digest[..2].copy_from_slice(&hash.to_le_bytes());
    Digest(digest)
}

pub(crate) fn admit(id: &str, zip: Zip, sent: u64) -> Op<'_> {
    let version =
        Version { modified: TimeMs(sent), sent: TimeMs(sent), digest: digest_of(id, zip) };
    let admission = Admission {
        message: Message::Upsert(Upsert { version, zip }),
        queued: TimeMs(sent),
        floor: Revision(0),
        if_match: None,
        hold: false,
    };
    Op::Admit { id, admission, body: None }
}

pub(crate) fn write_op<'a>(id: &'a str, zip: Zip, revision: Revision, frame: &'a [u8]) -> Op<'a> {
    let body = Body { summary: &[], frame };
    Op::Write { id, zip, revision, digest: digest_of(id, zip), body }
}
