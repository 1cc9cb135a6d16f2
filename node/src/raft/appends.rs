//! The receiving end of appends.

use bytes::Bytes;
use futures_util::{Stream, StreamExt};
use openraft::Raft;
use openraft::base::BoxStream;
use openraft::raft::AppendEntriesRequest;
use platbook_engine::log::GroupLog;
use tokio::sync::mpsc;

use super::held;
use super::machine::Machine;
use super::types::Types;
use super::wire;
use crate::health::Health;

/// Takes appends in order and answers them in order; the first refusal ends the stream.
pub(crate) fn answers(
    raft: &Raft<Types, Machine>,
    log: GroupLog,
    health: Health,
    queue: mpsc::Receiver<Bytes>,
) -> BoxStream<'static, Result<Bytes, String>> {
    let answers = raft.stream_append(Box::pin(requests(log, health, queue)));
    Box::pin(answers.map(|answer| match answer {
        Ok(answer) => Ok(wire::encode_append_answer(&answer)),
        Err(fatal) => Err(fatal.to_string()),
    }))
}

/// Reads what a peer sends, until it is not to be taken.
fn requests(
    log: GroupLog,
    health: Health,
    queue: mpsc::Receiver<Bytes>,
) -> impl Stream<Item = AppendEntriesRequest<Types>> {
    futures_util::stream::unfold((log, health, queue), |(log, health, mut queue)| async move {
        let body = queue.recv().await?;
        let (request, held) = match wire::decode_append(body) {
            Ok(read) => read,
            Err(error) => {
                tracing::warn!(%error, "append from a peer is malformed, channel closed");
                return None;
            }
        };
        let own = log.state();
        if held::is_lost(&own, &request.vote, held) {
            health.on_log_lost(format!(
                "replica {} of shard {} acknowledged every entry before {held}, the last one is {:?}",
                log.replica(),
                log.shard(),
                own.last.or(own.purged).map(|(_, index)| index),
            ));
            return None;
        }
        Some((request, (log, health, queue)))
    })
}
