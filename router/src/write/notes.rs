//! Operations that are one step each: quarantine and suspects.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use platbook_protocol::op::{Op, OpList, OpOutcome};
use platbook_protocol::problem::Code;
use platbook_protocol::{ShardId, Slot};
use tokio::time::Instant;

use crate::batch::{Shards, Source};
use crate::error::Failure;
use crate::http::problem::ApiError;

/// One encoded operation and the slot that it belongs to.
pub(crate) struct Note {
    slot: Slot,
    op: Bytes,
}

impl Note {
    /// Encodes `op`, which belongs to the slot of `key`.
    pub(crate) fn new(key: &str, op: &Op<'_>) -> Note {
        let mut list = OpList::default();
        list.push(op);
        Note { slot: Slot::of(key.as_bytes()), op: list.into_bytes().into() }
    }
}

/// Proposes `notes`; results are in the same order.
pub(crate) async fn note(
    shards: Arc<Shards>,
    source: Source,
    notes: Vec<Note>,
    deadline: Instant,
) -> Vec<Result<(), ApiError>> {
    let count = notes.len();
    let mut by_shard: BTreeMap<Option<ShardId>, (Vec<usize>, Vec<Bytes>)> = BTreeMap::new();
    for (index, Note { slot, op }) in notes.into_iter().enumerate() {
        let shard = shards.leaders().directory().shard_of(slot);
        let (indices, ops) = by_shard.entry(shard).or_default();
        indices.push(index);
        ops.push(op);
    }
    let calls = by_shard.into_iter().map(|(shard, (indices, ops))| {
        let shards = &shards;
        async move {
            let results = match shard {
                Some(shard) => shards.propose(shard, source, ops, deadline).await,
                None => {
                    let reason = "no shard owns the slot".into();
                    let failure = Failure::Unavailable { shard: ShardId::SYSTEM, reason };
                    vec![Err(failure); ops.len()]
                }
            };
            indices.into_iter().zip(results)
        }
    });
    let mut noted: Vec<Result<(), ApiError>> = (0..count).map(|_| Ok(())).collect();
    for (index, result) in join_all(calls).await.into_iter().flatten() {
        noted[index] = conclude(result);
    }
    noted
}

fn conclude(result: Result<OpOutcome, Failure>) -> Result<(), ApiError> {
    match result? {
        OpOutcome::Noted => Ok(()),
        OpOutcome::QuarantineFull => {
            Err(ApiError::new(Code::QuarantineFull, "the quarantine of the shard is full"))
        }
        OpOutcome::WrongShard => {
            Err(ApiError::new(Code::ShardUnavailable, "the slot moved to another shard"))
        }
        OpOutcome::Admitted(_)
        | OpOutcome::Written(_)
        | OpOutcome::Erased
        | OpOutcome::Settled(_)
        | OpOutcome::Swept { .. } => {
            Err(ApiError::new(Code::OutcomeUnknown, "the answer does not belong to the operation"))
        }
    }
}
