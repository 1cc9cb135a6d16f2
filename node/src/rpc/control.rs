//! Calls about the cluster itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, StatusCode};
use hyper::body::Incoming;
use platbook_engine::store::Installer;
use platbook_engine::system::{SystemAnswer, SystemCommand};
use platbook_protocol::codec;
use platbook_protocol::rpc::{
    Clock, ClockAnswer, Form, GetDictionary, GetMap, GetStatus, Hello, HelloAnswer, MapAnswer,
    MapPut, NodeStatus, PutDictionary, PutMap, Refusal, ReplaceReplica, ReplicaStatus, Transfer,
};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tracing::{info, warn};

use super::data::shard_of;
use super::service::{Answer, bad_request, bytes, text};
use crate::blocking::blocking;
use crate::node::Node;
use crate::peer::snapshot::{Failure, Parts};
use crate::raft::{Group, Role};
use crate::shard::Shard;
use crate::system::replace;

/// Longest wait for a newer map.
const MAP_WAIT_MS_MAX: u32 = 30_000;
/// How long a dictionary may take to be agreed on.
const SYSTEM_TIMEOUT: Duration = Duration::from_secs(5);

pub(super) async fn map(node: &Arc<Node>, body: Bytes) -> Result<MapAnswer, Refusal> {
    let request: GetMap = codec::decode(&body).map_err(bad_request)?;
    let wait = Duration::from_millis(u64::from(request.wait_ms.min(MAP_WAIT_MS_MAX)));
    let mut maps = node.directory().watch();
    let newer =
        maps.wait_for(|map| map.as_ref().is_some_and(|map| map.epoch != request.known_epoch));
    // Without a newer map within the wait, the known one is the answer.
    let _ = tokio::time::timeout(wait, newer).await;
    let leaders = node.shards().all().into_iter();
    let leaders = leaders.map(|s| (s.id(), s.group().standing().leader.map(|(_, node)| node)));
    Ok(MapAnswer {
        map: node.directory().map().map(|map| (*map).clone()),
        leaders: leaders.collect(),
        dictionary: latest_dictionary(node),
    })
}

/// As this node's replica of the system shard knows it; 0 where it has none.
fn latest_dictionary(node: &Node) -> u32 {
    let system = node.shards().get(ShardId::SYSTEM);
    system.map_or(0, |shard| shard.store().latest_dictionary())
}

pub(super) async fn dictionary(node: &Arc<Node>, body: Bytes) -> Result<Option<Vec<u8>>, Refusal> {
    let request: GetDictionary = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, ShardId::SYSTEM)?;
    // Dictionaries never change, so any replica that has it may answer.
    shard
        .store()
        .dictionary(request.id)
        .map_err(|e| Refusal::Unavailable { shard: ShardId::SYSTEM, reason: e.to_string() })
}

pub(super) async fn put_dictionary(node: &Arc<Node>, body: Bytes) -> Result<u32, Refusal> {
    let request: PutDictionary = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, ShardId::SYSTEM)?;
    if latest_dictionary(node) != request.latest {
        // Somebody else trained one meanwhile: use theirs.
        return Ok(latest_dictionary(node));
    }
    let command = SystemCommand::PutDictionary { bytes: request.bytes };
    match shard.propose_system(&command, SYSTEM_TIMEOUT).await? {
        SystemAnswer::Dictionary(id) => Ok(id),
        SystemAnswer::Map(_)
        | SystemAnswer::MapRefused(_)
        | SystemAnswer::Done
        | SystemAnswer::WrongShard => {
            Err(Refusal::BadRequest { reason: "answer of another kind".into() })
        }
    }
}

pub(super) async fn put_map(node: &Arc<Node>, body: Bytes) -> Result<MapPut, Refusal> {
    let request: PutMap = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, ShardId::SYSTEM)?;
    let PutMap { expected_epoch, map } = request;
    let command = SystemCommand::PutMap { expected_epoch, map };
    match shard.propose_system(&command, SYSTEM_TIMEOUT).await? {
        SystemAnswer::Map(map) => Ok(MapPut { accepted: true, map: Some(map) }),
        SystemAnswer::MapRefused(map) => Ok(MapPut { accepted: false, map }),
        SystemAnswer::Dictionary(_) | SystemAnswer::Done | SystemAnswer::WrongShard => {
            Err(Refusal::BadRequest { reason: "answer of another kind".into() })
        }
    }
}

pub(super) async fn clock(node: &Arc<Node>, body: Bytes) -> Result<ClockAnswer, Refusal> {
    codec::decode::<Clock>(&body).map_err(bad_request)?;
    Ok(ClockAnswer { now: node.clock().wall(), may_lead: node.may_lead() })
}

pub(super) async fn hello(node: &Arc<Node>, body: Bytes) -> Result<HelloAnswer, Refusal> {
    let request: Hello = codec::decode(&body).map_err(bad_request)?;
    let config = node.config();
    let mut own: Vec<(NodeId, String)> =
        config.peers.iter().map(|peer| (peer.id, peer.address.clone())).collect();
    own.sort();
    let mut theirs = request.peers;
    theirs.sort();
    let cluster = node.directory().cluster();
    let objection = if request.from == config.node() {
        Some(format!("this node has number {} too", request.from))
    } else if cluster.is_none() && request.shards != config.shards {
        Some(format!(
            "it was started with {} shards, this node with {}",
            request.shards, config.shards
        ))
    } else if cluster.is_none() && theirs != own {
        Some("it was started with other peers".to_string())
    } else {
        None
    };
    Ok(HelloAnswer {
        node: config.node(),
        zone: config.zone.clone(),
        address: config.advertised(),
        cluster,
        invites: node.invites(request.from),
        objection,
    })
}

pub(super) async fn form(node: &Arc<Node>, body: Bytes) -> Result<(), Refusal> {
    let request: Form = codec::decode(&body).map_err(bad_request)?;
    let cluster = request.map.cluster;
    match node.directory().cluster() {
        Some(own) if own == cluster => return Ok(()),
        Some(own) => {
            let reason = format!("this node already belongs to cluster {own}");
            return Err(Refusal::BadRequest { reason });
        }
        None => {}
    }
    if request.map.node(node.config().node()).is_none() {
        return Err(Refusal::BadRequest { reason: "the map does not name this node".into() });
    }
    node.accept_form(request.map).await.map_err(|reason| {
        warn!(%reason, "cluster not joined");
        Refusal::Unavailable { shard: ShardId::SYSTEM, reason }
    })
}

pub(super) async fn status(node: &Arc<Node>, body: Bytes) -> Result<NodeStatus, Refusal> {
    let request: GetStatus = codec::decode(&body).map_err(bad_request)?;
    let mut replicas = Vec::new();
    for shard in node.shards().all() {
        replicas.push(replica_status(&shard, request.with_hashes).await);
    }
    Ok(NodeStatus {
        node: node.config().node(),
        replicas,
        clock_offset_ms: node.clock_offset_ms(),
        read_only: node.is_read_only(),
        fsyncs: node.fsyncs(),
        scrubbed: node.scrub().progress().finished,
        damage: node.health().damage().map(str::to_string),
    })
}

async fn replica_status(shard: &Shard, with_hash: bool) -> ReplicaStatus {
    let group: &Group = shard.group();
    let standing = group.standing();
    let content = match with_hash {
        false => None,
        true => {
            let store = shard.store().clone();
            let hashed = blocking(move || store.content_hash()).await;
            hashed.ok().and_then(Result::ok).map(|(at, hash)| (at.map_or(0, |p| p.index), hash))
        }
    };
    let role = match standing.role {
        Role::Leader => "leader",
        Role::Candidate => "candidate",
        Role::Follower => "follower",
        Role::Learner => "learner",
        Role::Stopped => "fenced",
    };
    ReplicaStatus {
        shard: shard.id(),
        replica: group.replica(),
        role: role.to_string(),
        term: standing.term,
        leader: standing.leader.map(|(_, node)| node),
        last_log: standing.last_log,
        applied: standing.applied,
        seq: shard.store().applied().seq,
        fault: standing.fault,
        content,
    }
}

pub(super) async fn transfer(node: &Arc<Node>, body: Bytes) -> Result<(), Refusal> {
    let request: Transfer = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    let standing = shard.group().standing();
    if standing.role != Role::Leader {
        let leader = standing.leader.map(|(_, node)| node);
        return Err(Refusal::NotLeader { shard: request.shard, leader });
    }
    let map = node.directory().map();
    let to = map.and_then(|map| map.replica_on(request.shard, request.to));
    match to {
        Some(replica) if standing.voters.contains(&replica.id) => {
            shard.group().hand_over(replica.id).await
        }
        Some(_) | None => {
            let reason = format!("node {} has no voter of shard {}", request.to, request.shard);
            Err(Refusal::BadRequest { reason })
        }
    }
}

pub(super) async fn replace_replica(node: &Arc<Node>, body: Bytes) -> Result<ReplicaId, Refusal> {
    let request: ReplaceReplica = codec::decode(&body).map_err(bad_request)?;
    replace::replace(node, request).await
}

/// Receives a snapshot into a file of its own and hands it to the group only when it is whole.
pub(super) async fn receive_snapshot(node: &Arc<Node>, request: Request<Incoming>) -> Answer {
    let query = request.uri().query().unwrap_or_default().to_string();
    let number = |name: &str| {
        let pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.into_iter().find(|(found, _)| *found == name).and_then(|(_, v)| v.parse::<u64>().ok())
    };
    let (Some(shard), Some(replica)) = (number("shard"), number("replica")) else {
        return text(StatusCode::BAD_REQUEST, "shard and replica are missing");
    };
    let group = u32::try_from(shard)
        .ok()
        .and_then(|shard| node.groups().get(ShardId(shard), ReplicaId(replica)));
    let Some(group) = group else {
        return text(StatusCode::NOT_FOUND, "no such replica here");
    };
    match receive(&group, Parts::new(request.into_body())).await {
        Ok(vote) => {
            info!(shard, replica, "snapshot installed");
            bytes(StatusCode::OK, vote)
        }
        Err(error) => {
            warn!(shard, replica, %error, "snapshot not installed");
            text(StatusCode::UNPROCESSABLE_ENTITY, error.to_string())
        }
    }
}

async fn receive(group: &Group, mut parts: Parts) -> Result<Bytes, Failure> {
    let head = parts.next().await?.ok_or("the body is empty")?;
    let store = group.store().clone();
    let mut installer = blocking(move || store.install()).await??;
    while let Some(part) = parts.next().await? {
        let (written, back): (Result<(), _>, Installer) =
            blocking(move || (installer.write(&part), installer)).await?;
        written?;
        installer = back;
    }
    Ok(group.on_snapshot(&head, installer).await?)
}
