//! Shares one confirmation of leadership between all readers that wait for it.

use platbook_protocol::rpc::{Consistency, Refusal};
use tokio::sync::{mpsc, oneshot};

use crate::raft::Group;

/// Readers that wait for the next confirmation.
pub(super) const QUEUE_MAX: usize = 4096;

/// One reader.
pub(crate) struct Waiting {
    pub(super) answer: oneshot::Sender<Result<(), Refusal>>,
}

/// Runs until every handle of the shard is gone. A confirmation serves those who came before it
/// started; who comes later waits for the next.
pub(super) async fn run(group: Group, mut queue: mpsc::Receiver<Waiting>) {
    let mut readers = Vec::new();
    while queue.recv_many(&mut readers, QUEUE_MAX).await > 0 {
        let confirmed = group.barrier(Consistency::Linearizable).await;
        for reader in readers.drain(..) {
            // A reader that left is no error.
            let _ = reader.answer.send(confirmed.clone());
        }
    }
}
