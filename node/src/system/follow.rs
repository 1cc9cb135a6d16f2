//! Following the map: from our own replica of the system shard, or from a node that has one.

use std::sync::Arc;
use std::time::Duration;

use platbook_engine::system::SystemCommand;
use platbook_protocol::ShardId;
use platbook_protocol::rpc::{GetMap, MapAnswer};
use tracing::{debug, info, warn};

use crate::node::Node;
use crate::rpc::client;
use crate::shard::Shard;

const LOOK_INTERVAL: Duration = Duration::from_millis(200);
const REMOTE_WAIT_MS: u32 = 5_000;
const CALL_TIMEOUT: Duration = Duration::from_secs(8);
const PROPOSE_TIMEOUT: Duration = Duration::from_secs(5);

/// Runs until the node stops.
pub(crate) async fn run(node: Arc<Node>) {
    let mut ticks = tokio::time::interval(LOOK_INTERVAL);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    while node.shutdown().run_until_cancelled(ticks.tick()).await.is_some() {
        match node.shards().get(ShardId::SYSTEM) {
            Some(system) => follow_own(&node, &system).await,
            // Asking others takes as long as they know nothing newer: not where the own replica is
            // just about to run.
            None if node.is_placed_here(ShardId::SYSTEM) => {}
            None => follow_remote(&node).await,
        }
    }
}

async fn follow_own(node: &Node, system: &Shard) {
    match system.store().map() {
        Ok(Some(map)) => learn(node, map),
        Ok(None) if system.group().is_leader() => {
            let command = SystemCommand::Form { map: node.first_map() };
            match system.propose_system(&command, PROPOSE_TIMEOUT).await {
                Ok(_) => info!("first map is kept by the system shard"),
                Err(error) => debug!(%error, "first map not kept yet"),
            }
        }
        Ok(None) => {}
        Err(error) => warn!(%error, "map cannot be read"),
    }
}

async fn follow_remote(node: &Node) {
    let Some(map) = node.directory().map() else { return };
    let Some(system) = map.shard(ShardId::SYSTEM) else { return };
    let ask = GetMap { known_epoch: map.epoch, wait_ms: REMOTE_WAIT_MS };
    // Itself it knows: an own replica in the map may be one that was lost with an earlier disk.
    let others = system.replicas.iter().filter(|replica| replica.node != node.config().node());
    for replica in others {
        let Some(address) = node.directory().address(replica.node) else { continue };
        let asked = client::call(node.directory(), &address, "/rpc/map", &ask, CALL_TIMEOUT);
        let Some(answer) = node.shutdown().run_until_cancelled(asked).await else { return };
        let answer: Result<MapAnswer, _> = answer;
        match answer {
            Ok(MapAnswer { map: Some(found), .. }) if found.epoch > map.epoch => {
                return learn(node, found);
            }
            Ok(MapAnswer { .. }) => {}
            Err(error) => debug!(%error, "map not fetched"),
        }
    }
}

fn learn(node: &Node, map: platbook_protocol::map::Map) {
    let epoch = map.epoch;
    if node.directory().learn(map) {
        info!(epoch, "new map");
    }
}
