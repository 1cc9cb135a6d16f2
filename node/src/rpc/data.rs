//! Calls about listings: proposals and point reads.

use std::sync::Arc;

use bytes::Bytes;
use platbook_engine::error::StoreError;
use platbook_protocol::ShardId;
use platbook_protocol::codec;
use platbook_protocol::op::{BATCH_OPS_MAX, PROPOSAL_BYTES_MAX};
use platbook_protocol::register::Register;
use platbook_protocol::rpc::{
    List, ListKind, Listed, Propose, Proposed, ReadRegisters, ReadRows, ReadZipState, Refusal,
    RegisterView, RowView, ZipState,
};

use super::service::{bad_request, deadline};
use crate::blocking::blocking;
use crate::node::Node;
use crate::shard::Shard;

/// Most keys that one point read may name.
const READ_KEYS_MAX: usize = 4096;
/// Why a leader takes no writes for a moment.
const HANDING_OVER: &str = "disk is nearly full: leadership is being handed over";
/// Most entries of one list answer.
const LIST_ENTRIES_MAX: u32 = 1000;

/// The shard, if it lives here.
pub(super) fn shard_of(node: &Node, id: ShardId) -> Result<Shard, Refusal> {
    let epoch = node.directory().map().map_or(0, |map| map.epoch);
    node.shards().get(id).ok_or(Refusal::WrongShard { shard: id, epoch })
}

/// Runs a read of the store where blocking is allowed.
async fn read<T: Send + 'static>(
    shard: &Shard,
    work: impl FnOnce(&Shard) -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Refusal> {
    let own = shard.clone();
    let done = blocking(move || work(&own)).await;
    let failed = |reason: String| {
        tracing::error!(shard = %shard.id(), %reason, "read failed");
        Refusal::Unavailable { shard: shard.id(), reason }
    };
    let read = done.map_err(|e| failed(e.to_string()))?;
    read.inspect_err(|e| shard.group().on_read_error(e)).map_err(|e| failed(e.to_string()))
}

pub(super) async fn propose(node: &Arc<Node>, body: Bytes) -> Result<Proposed, Refusal> {
    let request: Propose<'_> = codec::decode_versioned_borrowed(&body).map_err(bad_request)?;
    let count = request.count as usize;
    if count > BATCH_OPS_MAX {
        let reason = format!("{count} operations in one proposal, the limit is {BATCH_OPS_MAX}");
        return Err(Refusal::BadRequest { reason });
    }
    let bytes = request.ops.len();
    if bytes > PROPOSAL_BYTES_MAX {
        // A record that no log takes would fence one leader after the other.
        let reason = format!(
            "{bytes} bytes of operations in one proposal, the limit is {PROPOSAL_BYTES_MAX}"
        );
        return Err(Refusal::BadRequest { reason });
    }
    // What is in the log must be readable for ever, so nothing malformed gets in.
    let found = platbook_engine::command::check_ops(request.ops)
        .map_err(|e| Refusal::BadRequest { reason: e.to_string() })? as usize;
    if found != count {
        let reason = format!("{found} operations where {count} were announced");
        return Err(Refusal::BadRequest { reason });
    }
    let shard = shard_of(node, request.shard)?;
    // Of another leader's disk this node knows nothing: then the caller is sent there.
    if node.is_read_only() && shard.group().is_leader() {
        return Err(match node.health().nobody_takes_over() {
            true => Refusal::DiskFull { shard: request.shard },
            // Another node is about to lead: to be asked again, not to be told to the user.
            false => Refusal::Unavailable { shard: request.shard, reason: HANDING_OVER.into() },
        });
    }
    let ops = body.slice_ref(request.ops);
    let outcomes = shard.propose(ops, count, deadline(request.deadline_ms)).await?;
    Ok(Proposed { outcomes })
}

fn check_keys(count: usize) -> Result<(), Refusal> {
    match count <= READ_KEYS_MAX {
        true => Ok(()),
        false => {
            let reason = format!("{count} keys in one read, the limit is {READ_KEYS_MAX}");
            Err(Refusal::BadRequest { reason })
        }
    }
}

fn view_of(register: Register) -> RegisterView {
    RegisterView {
        alive: register.alive,
        zip: register.zip,
        revision: register.revision,
        died: register.died,
        old: register.old.into_iter().collect(),
    }
}

pub(super) async fn registers(
    node: &Arc<Node>,
    body: Bytes,
) -> Result<Vec<Option<RegisterView>>, Refusal> {
    let request: ReadRegisters<'_> =
        codec::decode_versioned_borrowed(&body).map_err(bad_request)?;
    check_keys(request.ids.len())?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(request.consistency, deadline(request.deadline_ms)).await?;
    let ids: Vec<String> = request.ids.iter().map(|id| (*id).to_string()).collect();
    read(&shard, move |shard| {
        let registers = ids.iter().map(|id| shard.store().register(id));
        registers.map(|found| Ok(found?.map(view_of))).collect()
    })
    .await
}

pub(super) async fn rows(node: &Arc<Node>, body: Bytes) -> Result<Vec<Option<RowView>>, Refusal> {
    let request: ReadRows<'_> = codec::decode_versioned_borrowed(&body).map_err(bad_request)?;
    check_keys(request.rows.len())?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(request.consistency, deadline(request.deadline_ms)).await?;
    let with_bodies = request.with_bodies;
    let keys: Vec<(platbook_protocol::Zip, String)> =
        request.rows.iter().map(|(zip, id)| (*zip, (*id).to_string())).collect();
    read(&shard, move |shard| {
        keys.iter().map(|(zip, id)| shard.store().row(*zip, id, with_bodies)).collect()
    })
    .await
    .map(|rows: Vec<Option<RowView>>| rows)
}

pub(super) async fn zip_state(node: &Arc<Node>, body: Bytes) -> Result<ZipState, Refusal> {
    let request: ReadZipState = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    shard.barrier(request.consistency, deadline(request.deadline_ms)).await?;
    read(&shard, move |shard| shard.store().zip_state(request.zip)).await
}

pub(super) async fn list(node: &Arc<Node>, body: Bytes) -> Result<Listed, Refusal> {
    let request: List = codec::decode(&body).map_err(bad_request)?;
    let shard = shard_of(node, request.shard)?;
    let deadline = deadline(request.deadline_ms);
    shard.barrier(platbook_protocol::rpc::Consistency::Linearizable, deadline).await?;
    let limit = request.limit.min(LIST_ENTRIES_MAX) as usize;
    read(&shard, move |shard| {
        let after = request.after.as_deref();
        match request.kind {
            ListKind::Quarantine => shard.store().quarantined(after, limit).map(Listed::Quarantine),
            ListKind::Suspects => shard.store().suspects(after, limit).map(Listed::Suspects),
        }
    })
    .await
}
