//! `/v1/cluster`: nodes, shards, leaders, positions; and what an operator does about them.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use futures_util::future::join_all;
use http::{HeaderMap, Uri};
use platbook_protocol::map::{Map, Node, Shard};
use platbook_protocol::problem::Code;
use platbook_protocol::rpc::{GetStatus, NodeStatus, ReplaceReplica, ReplicaStatus, Transfer};
use platbook_protocol::{NodeId, ReplicaId, ShardId, codec};
use serde::Deserialize;
use serde_json::{Value, json};

use super::params;
use super::problem::ApiError;
use crate::app::App;
use crate::nodes::call::call;
use crate::read::query::number;

/// What each node said of itself, or why it did not.
type Told = BTreeMap<NodeId, Result<NodeStatus, String>>;

/// `GET /v1/cluster`; `?hashes=true` asks for content hashes, which read everything.
pub(crate) async fn status(
    State(app): State<Arc<App>>,
    uri: Uri,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let mut with_hashes = false;
    for (name, value) in params::query(&uri)? {
        match name.as_str() {
            "hashes" => with_hashes = number(&name, &value)?,
            other => {
                let detail = format!("there is no parameter `{other}`");
                return Err(ApiError::new(Code::BadQuery, detail));
            }
        }
    }
    let map = app.map(deadline).await?;
    let request: Bytes = codec::encode(&GetStatus { with_hashes }).into();
    let asked = map.nodes.iter().map(|node| {
        let (app, cluster, request) = (&app, map.cluster, request.clone());
        async move {
            let told = match app.directory.link(node.id) {
                Some(link) => call::<NodeStatus>(&link, "status", Some(cluster), request, deadline)
                    .await
                    .map_err(|error| error.to_string()),
                None => Err("no connection yet".to_string()),
            };
            (node.id, told)
        }
    });
    let told: Told = join_all(asked).await.into_iter().collect();
    let nodes: Vec<Value> = map.nodes.iter().map(|node| of_node(node, &told)).collect();
    let shards: Vec<Value> = map.shards.iter().map(|s| of_shard(&app, &map, s, &told)).collect();
    let answer = json!({
        "cluster": map.cluster.to_string(),
        "incarnation": map.incarnation,
        "epoch": map.epoch,
        "dictionary": app.directory.dictionary(),
        "nodes": nodes,
        "shards": shards,
    });
    Ok(axum::Json(answer).into_response())
}

fn of_node(node: &Node, told: &Told) -> Value {
    let mut shown = json!({
        "id": node.id.0,
        "address": node.address,
        "zone": node.zone,
    });
    match told.get(&node.id) {
        Some(Ok(status)) => {
            shown["reachable"] = true.into();
            shown["clock_offset_ms"] = status.clock_offset_ms.into();
            shown["read_only"] = status.read_only.into();
            shown["fsyncs"] = status.fsyncs.into();
            shown["scrubbed"] = status.scrubbed.map(|at| at.0).into();
            shown["damage"] = status.damage.clone().into();
        }
        Some(Err(error)) => {
            shown["reachable"] = false.into();
            shown["error"] = error.as_str().into();
        }
        None => shown["reachable"] = false.into(),
    }
    shown
}

fn of_shard(app: &App, map: &Map, shard: &Shard, told: &Told) -> Value {
    let status_of = |replica: ReplicaId, node: NodeId| -> Option<&ReplicaStatus> {
        let status = told.get(&node)?.as_ref().ok()?;
        status.replicas.iter().find(|s| s.shard == shard.id && s.replica == replica)
    };
    let found: Vec<_> = shard.replicas.iter().map(|r| (r, status_of(r.id, r.node))).collect();
    // Who says so of itself in the greatest term leads; else whoever last answered as leader.
    let leads = |status: &&ReplicaStatus| status.role == "leader";
    let leader = found
        .iter()
        .filter_map(|(replica, status)| Some((status.filter(leads)?.term, replica.node)))
        .max()
        .map(|(_, node)| node)
        .or_else(|| app.directory.leader(shard.id));
    let replicas: Vec<Value> = found
        .into_iter()
        .map(|(replica, status)| of_replica(replica.id, replica.node, status))
        .collect();
    json!({
        "id": shard.id.0,
        "slots": shard.slots.map(|range| json!({"first": range.first.0, "last": range.last.0})),
        "leader": leader.filter(|node| map.node(*node).is_some()).map(|node| node.0),
        "replicas": replicas,
    })
}

fn of_replica(replica: ReplicaId, node: NodeId, status: Option<&ReplicaStatus>) -> Value {
    let Some(status) = status else {
        return json!({"replica": replica.0, "node": node.0, "role": "unknown"});
    };
    json!({
        "replica": replica.0,
        "node": node.0,
        "role": status.role,
        "term": status.term,
        "leader": status.leader.map(|leader| leader.0),
        "last_log": status.last_log,
        "applied": status.applied,
        "seq": status.seq.to_string(),
        "fault": status.fault,
        "content": status.content.map(|(at, hash)| {
            json!({"applied": at, "hash": format!("{hash:032x}")})
        }),
    })
}

/// Body of `POST /v1/cluster/transfer-leader`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct TransferBody {
    shard: u32,
    to: u64,
}

/// `POST /v1/cluster/transfer-leader`: `{"shard":n,"to":node}`.
pub(crate) async fn transfer_leader(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let TransferBody { shard, to } = parse(&body)?;
    let (shard, to) = (ShardId(shard), NodeId(to));
    let map = app.map(deadline).await?;
    if map.replica_on(shard, to).is_none() {
        let detail = format!("node {to} has no replica of shard {shard}");
        return Err(ApiError::new(Code::BadField, detail));
    }
    let encode = || codec::encode(&Transfer { shard, to }).into();
    let leaders = app.shards.leaders();
    leaders.once::<()>(shard, "transfer", deadline, encode).await?;
    Ok(axum::Json(json!({"shard": shard.0, "leader": to.0})).into_response())
}

/// Body of `POST /v1/cluster/replace-replica`.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct ReplaceBody {
    shard: u32,
    replica: u64,
    on: u64,
}

/// `POST /v1/cluster/replace-replica`: `{"shard":n,"replica":n,"on":node}`.
pub(crate) async fn replace_replica(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
    body: Bytes,
) -> Result<Response, ApiError> {
    let deadline = params::deadline(&headers, &app.limits)?;
    let ReplaceBody { shard, replica, on } = parse(&body)?;
    let (shard, replica, on) = (ShardId(shard), ReplicaId(replica), NodeId(on));
    app.map(deadline).await?;
    let encode = || codec::encode(&ReplaceReplica { shard, replica, on }).into();
    let leaders = app.shards.leaders();
    let fresh: ReplicaId = leaders.once(shard, "replace-replica", deadline, encode).await?;
    let answer = json!({"shard": shard.0, "replaced": replica.0, "replica": fresh.0});
    Ok(axum::Json(answer).into_response())
}

fn parse<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, ApiError> {
    serde_json::from_slice(body).map_err(|error| ApiError::new(Code::BadJson, error.to_string()))
}
