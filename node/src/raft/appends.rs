//! The receiving end of appends.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::Raft;
use openraft::base::BoxStream;
use openraft::raft::AppendEntriesRequest;
use platbook_engine::log::GroupLog;
use platbook_engine::store::ShardStore;
use tokio::sync::mpsc;

use super::held::{self, End};
use super::machine::Machine;
use super::types::Types;
use super::wire;
use crate::health::Health;

/// What this replica has.
pub(crate) struct Own {
    pub(crate) log: GroupLog,
    pub(crate) store: ShardStore,
    pub(crate) health: Health,
}

/// Takes appends in order and answers them in order; the first refusal ends the stream.
pub(crate) fn answers(
    raft: &Raft<Types, Machine>,
    own: Own,
    queue: mpsc::Receiver<Bytes>,
) -> BoxStream<'static, Result<Bytes, String>> {
    let answers = raft.stream_append(Box::pin(requests(own, queue)));
    Box::pin(answers.map(|answer| match answer {
        Ok(answer) => Ok(wire::encode_append_answer(&answer)),
        Err(fatal) => Err(fatal.to_string()),
    }))
}

impl Own {
    /// Whether the state has everything before `end`. It does, for a moment, before the log says
    /// so: a snapshot was installed, and the log that it replaces is not yet given up.
    fn is_applied(&self, end: End) -> bool {
        self.store.applied().position.is_some_and(|applied| applied.index + 1 >= end)
    }
}

/// Reads what a peer sends, until it is not to be taken.
pub(super) fn requests(
    own: Own,
    queue: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> {
    futures_util::stream::unfold((own, queue), |(own, mut queue)| async move {
        let body = queue.recv().await?;
        let (request, held) = match wire::decode_append(body) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "append from a peer is malformed, channel closed");
                return None;
            }
        };
        let state = own.log.state();
        if held::is_lost(&state, &request.vote, held) && !own.is_applied(held) {
            own.health.on_log_lost(format!(
                "replica {} of shard {} acknowledged all entries before {held}, its last is {:?}",
                own.log.replica(),
                own.log.shard(),
                state.last.or(state.purged).map(|(_, index)| index),
            ));
            return None;
        }
        Some((request, (own, queue)))
    })
}
