//! Rebuilding a lost or damaged replica as a fresh one while its shard serves.
//!
//! Order matters. Where the fresh replica comes to another node, the map names it first (so that
//! its node starts it), then it becomes a learner and catches up, then a joint change makes it a
//! voter in place of the old one, and only then the map forgets the old one. Where it comes to the
//! node of the old one, the old one goes first, because a node keeps one copy of a shard. Asked
//! again after a crash, each step finds what is already done.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::map::{Map, Replica};
use platbook_protocol::rpc::{MapPut, PutMap, Refusal, ReplaceReplica};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tracing::info;

use crate::node::Node;
use crate::raft::Role;
use crate::shard::Shard;

/// How long the fresh replica may take for a snapshot and what was written meanwhile.
const CATCH_UP_TIMEOUT: Duration = Duration::from_secs(60 * 60);
const MAP_TIMEOUT: Duration = Duration::from_secs(10);
const MAP_ATTEMPTS_MAX: u32 = 20;
const RETRY_PAUSE: Duration = Duration::from_millis(200);

/// Replaces a replica; returns the fresh one's id.
pub(crate) async fn replace(
    node: &Arc<Node>,
    request: ReplaceReplica,
) -> Result<ReplicaId, Refusal> {
    let ReplaceReplica { shard: id, replica: old, on } = request;
    let unavailable = |reason: String| Refusal::Unavailable { shard: id, reason };
    let shard = node.shards().get(id).ok_or(Refusal::NotLeader { shard: id, leader: None })?;
    let standing = shard.group().standing();
    if standing.role != Role::Leader {
        let leader = standing.leader.map(|(_, node)| node);
        return Err(Refusal::NotLeader { shard: id, leader });
    }
    if shard.group().replica() == old {
        let reason = "this replica leads its shard: transfer the leadership first".to_string();
        return Err(Refusal::BadRequest { reason });
    }
    if node.directory().node_of(id, old) == Some(on) {
        drop_replica(node, &shard, old).await?;
    }
    let fresh = change_map(node, |map| place(map, id, old, on)).await?;
    info!(shard = %id, %old, %fresh, %on, "replacing a replica");
    shard.group().add_learner(fresh, on).await?;
    // A voter without the state would count towards majorities that have the state only on paper.
    tokio::time::timeout(CATCH_UP_TIMEOUT, shard.group().await_caught_up(fresh))
        .await
        .map_err(|_| unavailable(format!("replica {fresh} did not catch up: ask again")))??;
    let mut voters = voters_without(&shard, old);
    if !voters.contains(&fresh) {
        voters.push(fresh);
    }
    shard.group().change_voters(&voters).await?;
    change_map(node, |map| Ok((forget(map, id, old), fresh))).await?;
    let now = shard.group().standing().voters;
    match now.contains(&fresh) && !now.contains(&old) {
        true => Ok(fresh),
        false => Err(unavailable("the group changed meanwhile: ask again".into())),
    }
}

fn voters_without(shard: &Shard, old: ReplicaId) -> Vec<ReplicaId> {
    shard.group().standing().voters.into_iter().filter(|voter| *voter != old).collect()
}

/// Takes a replica out of its group and then out of the map; its node deletes it.
async fn drop_replica(node: &Arc<Node>, shard: &Shard, old: ReplicaId) -> Result<(), Refusal> {
    let left = voters_without(shard, old);
    if left.is_empty() {
        let reason = "it is the only replica of its shard".to_string();
        return Err(Refusal::BadRequest { reason });
    }
    shard.group().change_voters(&left).await?;
    change_map(node, |map| Ok((forget(map, shard.id(), old), old))).await.map(|_| ())
}

/// The map with a fresh replica on `on`, or the one that an earlier attempt placed there.
fn place(map: &Map, id: ShardId, old: ReplicaId, on: NodeId) -> Result<(Map, ReplicaId), Refusal> {
    let bad = |reason: String| Refusal::BadRequest { reason };
    if map.node(on).is_none() {
        return Err(bad(format!("node {on} is not in the map")));
    }
    let mut next = map.clone();
    let fresh = next.next_replica;
    let shard = next
        .shards
        .iter_mut()
        .find(|shard| shard.id == id)
        .ok_or_else(|| bad(format!("shard {id} is not in the map")))?;
    if old >= fresh {
        return Err(bad(format!("shard {id} never had a replica {old}")));
    }
    if let Some(there) = shard.replicas.iter().find(|r| r.node == on && r.id > old) {
        return Ok((map.clone(), there.id));
    }
    if shard.replicas.iter().any(|r| r.node == on && r.id != old) {
        return Err(bad(format!("node {on} already has a replica of shard {id}")));
    }
    shard.replicas.push(Replica { id: fresh, node: on });
    next.next_replica = ReplicaId(fresh.0 + 1);
    next.epoch += 1;
    Ok((next, fresh))
}

fn forget(map: &Map, id: ShardId, old: ReplicaId) -> Map {
    let mut next = map.clone();
    for shard in next.shards.iter_mut().filter(|shard| shard.id == id) {
        shard.replicas.retain(|replica| replica.id != old);
    }
    if next != *map {
        next.epoch += 1;
    }
    next
}

/// Changes the map through the system shard, again when somebody else was faster.
async fn change_map(
    node: &Arc<Node>,
    change: impl Fn(&Map) -> Result<(Map, ReplicaId), Refusal>,
) -> Result<ReplicaId, Refusal> {
    let stuck =
        |reason: &str| Refusal::Unavailable { shard: ShardId::SYSTEM, reason: reason.to_string() };
    for _ in 0..MAP_ATTEMPTS_MAX {
        let map = node.directory().map().ok_or_else(|| stuck("no map yet"))?;
        let (next, fresh) = change(&map)?;
        if next == *map {
            return Ok(fresh);
        }
        let request = PutMap { expected_epoch: map.epoch, map: next };
        match node.put_map(request, MAP_TIMEOUT).await {
            // A new cluster: the system shard is about to keep its first map.
            Ok(MapPut { map: None, .. }) => tokio::time::sleep(RETRY_PAUSE).await,
            Ok(MapPut { accepted, map: Some(map) }) => {
                node.directory().learn(map);
                if accepted {
                    return Ok(fresh);
                }
            }
            Err(refusal) if refusal.retryable() => tokio::time::sleep(RETRY_PAUSE).await,
            Err(refusal) => return Err(refusal),
        }
    }
    Err(stuck("the map keeps changing"))
}
