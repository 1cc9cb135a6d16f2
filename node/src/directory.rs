//! Who we are and where the others are: the newest map this process knows.

use std::sync::Arc;

use http::HeaderMap;
use platbook_protocol::codec::PROTOCOL_VERSION;
use platbook_protocol::map::{ClusterId, Map};
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use tokio::sync::watch;

use crate::objections::Kind;

/// Header that names the cluster of the caller, in hexadecimal.
pub(crate) const CLUSTER_HEADER: &str = "platbook-cluster";
/// Header that names the protocol version of the caller.
pub(crate) const PROTOCOL_HEADER: &str = "platbook-protocol";
/// Header that names the calling node.
pub(crate) const NODE_HEADER: &str = "platbook-node";

/// The map and this node's place in it. Clones share it.
#[derive(Clone)]
pub(crate) struct Directory {
    own: NodeId,
    map: Arc<watch::Sender<Option<Arc<Map>>>>,
}

impl Directory {
    pub(crate) fn new(own: NodeId) -> Directory {
        Directory { own, map: Arc::new(watch::Sender::new(None)) }
    }

    /// Takes a map if it is newer than the one known.
    pub(crate) fn learn(&self, map: Map) -> bool {
        self.map.send_if_modified(|known| {
            let newer = known.as_ref().is_none_or(|known| known.epoch < map.epoch);
            if newer {
                *known = Some(Arc::new(map));
            }
            newer
        })
    }

    pub(crate) fn map(&self) -> Option<Arc<Map>> {
        self.map.borrow().clone()
    }

    pub(crate) fn watch(&self) -> watch::Receiver<Option<Arc<Map>>> {
        self.map.subscribe()
    }

    pub(crate) fn cluster(&self) -> Option<ClusterId> {
        self.map.borrow().as_ref().map(|map| map.cluster)
    }

    pub(crate) fn address(&self, node: NodeId) -> Option<String> {
        self.map.borrow().as_ref()?.node(node).map(|node| node.address.clone())
    }

    /// Which node a replica lives on.
    pub(crate) fn node_of(&self, shard: ShardId, replica: ReplicaId) -> Option<NodeId> {
        self.map.borrow().as_ref()?.node_of(shard, replica).map(|node| node.id)
    }

    /// A `POST` to another node, signed with who we are.
    pub(crate) fn request(&self, address: &str, path: &str) -> http::request::Builder {
        let request = http::Request::post(format!("http://{address}{path}"))
            .header(PROTOCOL_HEADER, PROTOCOL_VERSION.to_string())
            .header(NODE_HEADER, self.own.to_string());
        match self.cluster() {
            Some(cluster) => request.header(CLUSTER_HEADER, cluster.to_string()),
            None => request,
        }
    }

    /// Why a request with these headers is not for us, if so.
    pub(crate) fn objection(&self, path: &str, headers: &HeaderMap) -> Option<(Kind, String)> {
        let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
        let version = PROTOCOL_VERSION.to_string();
        match text(PROTOCOL_HEADER) {
            Some(found) if found == version => {}
            Some(found) => {
                let objection = format!("caller speaks protocol {found}, this node {version}");
                return Some((Kind::Protocol, objection));
            }
            None => {
                return Some((Kind::Protocol, format!("header {PROTOCOL_HEADER} is missing")));
            }
        }
        // Only members of a cluster have something to say to its replicas.
        let is_raft = path.starts_with("/raft/");
        let objection = match (text(CLUSTER_HEADER), self.cluster()) {
            (Some(found), Some(own)) if found != own.to_string() => {
                format!("caller belongs to cluster {found}, this node to {own}")
            }
            (None, Some(own)) if is_raft => {
                format!("caller names no cluster, this node belongs to {own}")
            }
            (Some(_), Some(_)) if is_raft && text(NODE_HEADER) == Some(&self.own.to_string()) => {
                format!("caller says it is node {}, which is this node", self.own)
            }
            // Before a cluster is formed anybody may tell us of one.
            (Some(_) | None, _) => return None,
        };
        Some((Kind::Cluster, objection))
    }
}
