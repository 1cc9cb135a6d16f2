//! Which replicas run here: those that the map places on this node.
//!
//! Also what is done to all of them: founding, handing over, giving up log that nobody needs.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use platbook_engine::error::StoreError;
use platbook_engine::log::HeldBack;
use platbook_engine::store::ShardStore;
use platbook_protocol::map::{Map, Replica, Shard as MapShard};
use platbook_protocol::rpc::{Clock, ClockAnswer};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::time::Instant;
use tracing::{error, info, warn};

use crate::blocking::blocking;
use crate::error::NodeError;
use crate::node::Node;
use crate::raft::{Group, Role};
use crate::rpc::client;
use crate::shard::{Reach, Shard};

/// Leaderships are spread again when this much time has passed.
const SPREAD_INTERVAL: Duration = Duration::from_secs(5);
const HAND_OVER_POLL: Duration = Duration::from_millis(20);
/// A handover that did not happen within this time is asked for again.
const HAND_OVER_AGAIN: Duration = Duration::from_millis(500);
const WILLING_TIMEOUT: Duration = Duration::from_millis(500);
const FOUND_PAUSE: Duration = Duration::from_millis(100);

/// Follows the map until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    node.spawn(spread(node.clone()));
    let mut maps = node.directory().watch();
    loop {
        let map = maps.borrow_and_update().clone();
        if let Some(map) = map {
            follow(&node, &map).await;
        }
        match node.shutdown().run_until_cancelled(maps.changed()).await {
            Some(Ok(())) => {}
            Some(Err(_)) | None => return,
        }
    }
}

async fn follow(node: &Arc<Node>, map: &Map) {
    let own = node.config().node();
    for running in node.shards().all() {
        let placed = map.replica_on(running.id(), own);
        if placed.map(|replica| replica.id) != Some(running.group().replica()) {
            give_up(node, &running).await;
        }
    }
    for shard in &map.shards {
        let placed = shard.replicas.iter().filter(|r| r.node == own).max_by_key(|r| r.id);
        let Some(replica) = placed else { continue };
        if node.shards().get(shard.id).is_some() || !node.may_start(replica.id) {
            continue;
        }
        if let Err(reason) = start(node, shard, *replica).await {
            error!(shard = %shard.id, replica = %replica.id, %reason, "replica not started");
        }
    }
}

async fn start(node: &Arc<Node>, shard: &MapShard, replica: Replica) -> Result<(), String> {
    let disk = node.disk();
    let log = disk.log.group(replica.id, shard.id);
    let store = open_store(node, shard, replica).await?;
    let pristine = log.state().last.is_none() && store.applied().position.is_none();
    let ids = (shard.id, replica.id);
    let group = Group::start(
        ids,
        node.timing(),
        node.health().clone(),
        node.peers().clone(),
        log,
        store,
        node.watched(ids),
    )
    .await?;
    node.groups().insert(group.clone());
    node.shards().insert(Shard::start(
        group.clone(),
        node.rules(),
        node.clock().clone(),
        Reach::new(node.directory().clone()),
    ));
    node.spawn(fence(node.clone(), group.clone()));
    info!(shard = %shard.id, replica = %replica.id, pristine, "replica runs");
    if pristine && is_founder(node, shard.id, replica.id) {
        node.spawn(found(node.clone(), group));
    }
    Ok(())
}

/// Says it once when a replica stops by a fault, and tells its peers that it is away: they would
/// be answered with that fault at every heartbeat.
async fn fence(node: Arc<Node>, group: Group) {
    let Some(fault) = group.fault().await else { return };
    let (shard, replica) = (group.shard(), group.replica());
    error!(%shard, %replica, %fault, "replica is fenced: it has to be replaced");
    node.groups().remove_replica(shard, replica);
}

/// Opens the state of a replica. What an earlier replica of the shard left on this node is removed.
async fn open_store(
    node: &Arc<Node>,
    shard: &MapShard,
    replica: Replica,
) -> Result<ShardStore, String> {
    let (store, id, slots) = (node.disk().store.clone(), shard.id, shard.slots);
    let opened = blocking(move || match store.shard(id, slots, replica.id) {
        Err(StoreError::WrongReplica { .. }) => {
            store.destroy(id, slots)?;
            store.shard(id, slots, replica.id)
        }
        opened => opened,
    });
    opened.await.map_err(|e| e.to_string())?.map_err(|e| e.to_string())
}

/// The first replica of a shard in the first map founds its group.
fn is_founder(node: &Node, shard: ShardId, replica: ReplicaId) -> bool {
    let first_map = node.first_map();
    let first = first_map.shard(shard).and_then(|shard| shard.replicas.first().copied());
    first.is_some_and(|first| first.id == replica)
}

async fn found(node: Arc<Node>, group: Group) {
    let first_map = node.first_map();
    let replicas = first_map.shard(group.shard()).map(|shard| shard.replicas.as_slice());
    let members: Vec<(ReplicaId, NodeId)> =
        replicas.unwrap_or_default().iter().map(|r| (r.id, r.node)).collect();
    while let Err(error) = group.found(&members).await {
        warn!(shard = %group.shard(), %error, "group not founded yet");
        let pause = tokio::time::sleep(FOUND_PAUSE);
        if node.shutdown().run_until_cancelled(pause).await.is_none() {
            return;
        }
    }
}

/// Stops a replica that the map no longer places here, and frees what it kept.
async fn give_up(node: &Arc<Node>, shard: &Shard) {
    let replica = shard.group().replica();
    info!(shard = %shard.id(), %replica, "replica leaves this node");
    node.shards().remove(shard.id());
    node.groups().remove(shard.id());
    shard.stop().await;
    let (store, log) = (shard.store().clone(), node.disk().log.clone());
    let freed = blocking(move || {
        // The log last: a state without its log is wiped at the next start, not the other way.
        store.destroy()?;
        log.remove_group(replica)?;
        Ok::<_, NodeError>(())
    });
    let freed = freed.await.map_err(|e| e.to_string());
    if let Err(error) = freed.and_then(|freed| freed.map_err(|e| e.to_string())) {
        error!(shard = %shard.id(), %error, "replica not freed");
    }
}

/// Purges the logs of the groups that keep the log above its size, and the effects of what is
/// purged: up to what is applied and flushed, since the rest is needed to start again.
pub(crate) async fn purge(node: &Node, held_back: &[HeldBack]) {
    for held in held_back {
        let Some(shard) = node.shards().get(held.shard) else { continue };
        let store = shard.store().clone();
        let flushed = blocking(move || store.flushed()).await;
        let flushed = match flushed {
            Ok(Ok(Some(position))) => position.index,
            Ok(Ok(None)) => continue,
            Ok(Err(error)) => {
                warn!(shard = %held.shard, %error, "flushed position cannot be read");
                continue;
            }
            Err(_) => return,
        };
        let to = flushed.min(held.purge_to.1);
        if let Err(error) = shard.group().purge(to).await {
            warn!(shard = %held.shard, %error, "log not purged");
            continue;
        }
        // What an entry changed is of no use without the entry, which has the bodies.
        let store = shard.store().clone();
        match blocking(move || store.trim_effects(to + 1)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => warn!(shard = %held.shard, %error, "effects not trimmed"),
            Err(_) => return,
        }
    }
}

/// Moves each leadership towards the first replica that the map names and that can take it, so
/// that every node leads its share.
async fn spread(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(SPREAD_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        let Some(map) = node.directory().map() else { continue };
        if node.is_draining() {
            return;
        }
        let mut willing = None;
        for shard in node.shards().all() {
            let first = map.shard(shard.id()).and_then(|s| s.replicas.first().copied());
            let Some(first) = first else { continue };
            if first.id == shard.group().replica() || !shard.group().can_lead(first.id) {
                continue;
            }
            if willing.is_none() {
                willing = Some(willing_nodes(&node, &map).await);
            }
            if willing.as_ref().is_some_and(|willing| willing.contains(&first.node)) {
                // A refusal only means that the leadership stays where it is for now.
                let _ = shard.group().hand_over(first.id).await;
            }
        }
    }
}

/// The other nodes that would lead a shard. A leader that hands over to one that would not leaves
/// its shard without a leader until the next election, so they are asked first.
async fn willing_nodes(node: &Node, map: &Map) -> Vec<NodeId> {
    let mut willing = Vec::new();
    for other in map.nodes.iter().filter(|other| other.id != node.config().node()) {
        let ask = Clock {};
        let asked =
            client::call(node.directory(), &other.address, "/rpc/clock", &ask, WILLING_TIMEOUT);
        let answer: Result<ClockAnswer, _> = asked.await;
        if answer.is_ok_and(|answer| answer.may_lead) {
            willing.push(other.id);
        }
    }
    willing
}

/// Hands every leadership to a voter elsewhere; returns how many are left, because of the deadline
/// or because nobody would take them.
pub(crate) async fn hand_all_over(node: &Node, deadline: Instant) -> usize {
    let mut asked: HashMap<ShardId, Instant> = HashMap::new();
    loop {
        let led = node.shards().all().into_iter();
        let led = led.filter(|shard| shard.group().standing().role == Role::Leader);
        // A group of one has nobody to hand over to.
        let movable: Vec<Shard> =
            led.filter(|shard| shard.group().standing().voters.len() > 1).collect();
        let Some(map) = node.directory().map() else { return movable.len() };
        if movable.is_empty() || Instant::now() >= deadline {
            return movable.len();
        }
        let willing = willing_nodes(node, &map).await;
        if willing.is_empty() {
            return movable.len();
        }
        for shard in &movable {
            let again = asked.get(&shard.id()).is_none_or(|at| at.elapsed() >= HAND_OVER_AGAIN);
            if let Some(to) = shard.group().best_successor(&willing).filter(|_| again) {
                asked.insert(shard.id(), Instant::now());
                // Asked again in a later round if it did not happen.
                let _ = shard.group().hand_over(to).await;
            }
        }
        tokio::time::sleep(HAND_OVER_POLL).await;
    }
}
