//! Forming a cluster, once.
//!
//! Only when *all* peers answer and all are pristine does the one with the smallest number draw a
//! cluster id and a first map. It adopts them durably before it tells anybody, and tells until
//! everybody has adopted them, also after a restart: a crash anywhere leaves either nothing or
//! something that the next start completes. A wiped node that comes back with its old flags meets
//! peers that already belong to a cluster and gives up.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::NodeId;
use platbook_protocol::map::{self, ClusterId, Map};
use platbook_protocol::rpc::{Form, GetMap, Hello, HelloAnswer, MapAnswer};
use tracing::{debug, info};

use crate::config::Peer;
use crate::error::NodeError;
use crate::node::Node;
use crate::rpc::client;

const CALL_TIMEOUT: Duration = Duration::from_secs(1);
const RETRY_PAUSE: Duration = Duration::from_millis(100);
/// Every so many unanswered rounds one line says who is missing.
const ROUNDS_PER_LINE: u32 = 50;

/// Asks the peers until a cluster is formed, by us or by one of them.
pub(crate) async fn form(node: &Arc<Node>) -> Result<(), NodeError> {
    let config = node.config();
    if config.peers.is_empty() {
        return Err(NodeError::NoPeers);
    }
    let others: Vec<&Peer> = config.peers.iter().filter(|p| p.id != config.node()).collect();
    let hello = Hello {
        from: config.node(),
        peers: config.peers.iter().map(|p| (p.id, p.address.clone())).collect(),
        shards: config.shards,
    };
    let mut round = 0;
    while node.directory().cluster().is_none() {
        let mut answers = Vec::new();
        let mut missing = Vec::new();
        for peer in &others {
            match ask(node, peer, &hello).await {
                Ok(answer) => answers.push(answer),
                Err(error) => {
                    debug!(peer = %peer.id, %error, "peer does not answer");
                    missing.push(peer.id.0);
                }
            }
        }
        if node.directory().cluster().is_some() {
            break;
        }
        match verdict(config.node(), &others, &answers)? {
            Verdict::Found => return found(node, &answers).await,
            Verdict::Wait => {}
        }
        if round % ROUNDS_PER_LINE == 0 {
            info!(?missing, "waiting for the other nodes of the new cluster");
        }
        round += 1;
        tokio::time::sleep(RETRY_PAUSE).await;
    }
    Ok(())
}

async fn ask(node: &Node, peer: &Peer, hello: &Hello) -> Result<HelloAnswer, client::CallError> {
    client::call(node.directory(), &peer.address, "/rpc/hello", hello, CALL_TIMEOUT).await
}

/// What to do with one round of answers.
#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    /// All are there, all are pristine, and it is up to us.
    Found,
    /// Not all are there, or somebody else will do it.
    Wait,
}

/// Decides without I/O.
fn verdict(own: NodeId, peers: &[&Peer], answers: &[HelloAnswer]) -> Result<Verdict, NodeError> {
    for answer in answers {
        let peer = answer.node;
        if let Some(reason) = answer.objection.clone() {
            return Err(NodeError::Objection { peer, reason });
        }
    }
    // Only the founder knows whether it is still about to tell us; the others may know of the
    // cluster before we do.
    let founder = peers.iter().map(|peer| peer.id).min().filter(|first| *first < own);
    let decisive = |answer: &&HelloAnswer| founder.is_none_or(|founder| answer.node == founder);
    for answer in answers.iter().filter(decisive).filter(|answer| !answer.invites) {
        if let Some(cluster) = answer.cluster {
            return Err(NodeError::Wiped { peer: answer.node, cluster });
        }
    }
    for peer in peers {
        if let Some(wrong) = answers.iter().find(|a| a.node == own) {
            let reason = format!("{} answers under this node's own number", wrong.address);
            return Err(NodeError::Objection { peer: peer.id, reason });
        }
    }
    let all_here = peers.iter().all(|peer| answers.iter().any(|a| a.node == peer.id));
    let nobody_formed = answers.iter().all(|a| a.cluster.is_none());
    let first = peers.iter().all(|peer| own < peer.id);
    Ok(if all_here && nobody_formed && first { Verdict::Found } else { Verdict::Wait })
}

async fn found(node: &Arc<Node>, answers: &[HelloAnswer]) -> Result<(), NodeError> {
    let config = node.config();
    let own =
        map::Node { id: config.node(), address: config.advertised(), zone: config.zone.clone() };
    let others = answers.iter().map(|answer| map::Node {
        id: answer.node,
        address: answer.address.clone(),
        zone: answer.zone.clone(),
    });
    let mut nodes: Vec<map::Node> = std::iter::once(own).chain(others).collect();
    nodes.sort_by_key(|node| node.id);
    let first_map = Map::initial(ClusterId(rand::random()), nodes, config.shards);
    info!(cluster = %first_map.cluster, nodes = first_map.nodes.len(), "forming a cluster");
    node.adopt(first_map)
}

/// Comes back with an empty disk: takes the map from whoever has it. None of the lost replicas is
/// started again, since each may have voted.
pub(crate) async fn rejoin(node: &Arc<Node>) -> Result<(), NodeError> {
    let config = node.config();
    let others: Vec<&Peer> = config.peers.iter().filter(|p| p.id != config.node()).collect();
    if others.is_empty() {
        return Err(NodeError::NoPeers);
    }
    let ask = GetMap { known_epoch: 0, wait_ms: 0 };
    loop {
        for peer in &others {
            let asked =
                client::call(node.directory(), &peer.address, "/rpc/map", &ask, CALL_TIMEOUT);
            match asked.await {
                Ok(MapAnswer { map: Some(map), .. }) if map.node(config.node()).is_some() => {
                    return node.come_back(map);
                }
                Ok(MapAnswer { map: Some(_), .. }) => {
                    let reason = "its map does not name this node".to_string();
                    return Err(NodeError::Objection { peer: peer.id, reason });
                }
                Ok(MapAnswer { map: None, .. }) => {}
                Err(error) => debug!(peer = %peer.id, %error, "peer does not answer"),
            }
        }
        tokio::time::sleep(RETRY_PAUSE).await;
    }
}

/// Tells the first map to every member until all have adopted it.
pub(crate) async fn announce(node: Arc<Node>, first_map: Map) {
    let form = Form { map: first_map.clone() };
    for member in first_map.nodes.iter().filter(|member| member.id != node.config().node()) {
        loop {
            let told: Result<(), _> =
                client::call(node.directory(), &member.address, "/rpc/form", &form, CALL_TIMEOUT)
                    .await;
            match told {
                Ok(()) => break,
                Err(error) => debug!(member = %member.id, %error, "member not yet told"),
            }
            let pause = tokio::time::sleep(RETRY_PAUSE);
            if node.shutdown().run_until_cancelled(pause).await.is_none() {
                return;
            }
        }
        node.uninvite(member.id);
    }
    if let Err(error) = node.mark_announced() {
        tracing::error!(%error, "formation is complete but could not be noted");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer(id: u64) -> Peer {
        Peer { id: NodeId(id), address: format!("127.0.0.1:{}", 7000 + id) }
    }

    fn answer(id: u64) -> HelloAnswer {
        HelloAnswer {
            node: NodeId(id),
            zone: String::new(),
            address: format!("127.0.0.1:{}", 7000 + id),
            cluster: None,
            invites: false,
            objection: None,
        }
    }

    #[test]
    fn only_the_smallest_number_forms_and_only_when_all_answer() {
        let (two, three) = (peer(2), peer(3));
        let peers = [&two, &three];
        let all = [answer(2), answer(3)];
        assert_eq!(verdict(NodeId(1), &peers, &all).expect("no objection"), Verdict::Found);
        assert_eq!(verdict(NodeId(1), &peers, &all[..1]).expect("no objection"), Verdict::Wait);
        let (one, three) = (peer(1), peer(3));
        let all = [answer(1), answer(3)];
        assert_eq!(verdict(NodeId(2), &[&one, &three], &all).expect("none"), Verdict::Wait);
    }

    #[test]
    fn a_wiped_node_gives_up_but_an_invited_one_waits() {
        let two = peer(2);
        let mut formed = answer(2);
        formed.cluster = Some(ClusterId(9));
        let refused = verdict(NodeId(1), &[&two], std::slice::from_ref(&formed));
        assert!(matches!(refused, Err(NodeError::Wiped { .. })));
        let (one, mut founder) = (peer(1), answer(1));
        founder.cluster = Some(ClusterId(9));
        let refused = verdict(NodeId(3), &[&one, &two], &[founder.clone(), formed.clone()]);
        assert!(matches!(refused, Err(NodeError::Wiped { peer: NodeId(1), .. })));
        founder.invites = true;
        let waits = verdict(NodeId(3), &[&one, &two], &[founder, formed.clone()]);
        assert_eq!(waits.expect("invited"), Verdict::Wait);
    }

    #[test]
    fn a_member_that_was_told_earlier_does_not_make_us_give_up() {
        let (one, two) = (peer(1), peer(2));
        let mut told = answer(2);
        told.cluster = Some(ClusterId(9));
        let waits = verdict(NodeId(3), &[&one, &two], &[told]);
        assert_eq!(waits.expect("the founder is silent"), Verdict::Wait);
    }

    #[test]
    fn other_flags_are_named() {
        let two = peer(2);
        let mut objecting = answer(2);
        objecting.objection = Some("it was started with 8 shards, this node with 16".into());
        let refused = verdict(NodeId(1), &[&two], &[objecting]).expect_err("objection");
        assert!(refused.to_string().contains("8 shards"), "{refused}");
    }
}
