//! The task of one shard and kind: a few calls in flight while the next one gathers. No linger:
//! what arrives while nothing is in flight leaves at once.

use std::sync::Arc;
use std::time::Duration;

use platbook_protocol::ShardId;
use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::fair_queue::{BatchLimits, FairQueue, Source};
use super::submission::Submission;
use crate::error::Failure;
use crate::metrics::{BatchMetrics, Metrics};
use crate::nodes::OnTheWire;

/// Submissions handed over but not yet looked at by the task.
const INBOX_MAX: usize = 256;
/// What an item weighs in the queue on top of its bytes.
const ITEM_OVERHEAD_BYTES: usize = 256;
/// What a client is told to wait when a queue is full.
const RETRY_AFTER_MS: u32 = 1_000;

/// What belongs to one call.
#[derive(Clone, Copy)]
pub(crate) struct Call<'a> {
    /// Who is asked.
    pub(crate) shard: ShardId,
    /// Until when somebody waits.
    pub(crate) deadline: Instant,
    /// What may be concluded meanwhile.
    pub(crate) wire: &'a OnTheWire,
    /// Whether somebody still waits for the item at this place. Whoever does not was told what may
    /// be concluded, so no attempt that begins later may carry the item.
    pub(crate) is_waiting: &'a (dyn Fn(usize) -> bool + Sync),
}

/// What is gathered, and how a batch of it is asked.
pub(crate) trait Kind: Sized + Send + Sync + 'static {
    /// One question.
    type Item: Send + 'static;
    /// Its answer.
    type Answer: Send + 'static;
    /// What one call may hold.
    const LIMITS: BatchLimits;
    /// Calls in flight for one shard.
    const IN_FLIGHT_MAX: usize;

    /// Bytes of a question, or of the answer where that is what counts.
    fn bytes(item: &Self::Item) -> usize;

    /// Asks `items` in one call; answers are in the same order.
    fn ask(
        &self,
        items: Vec<Self::Item>,
        call: Call<'_>,
    ) -> impl Future<Output = Result<Vec<Self::Answer>, Failure>> + Send;

    /// The metrics of the kind.
    fn metrics(metrics: &Metrics) -> &BatchMetrics;
}

type Handed<K> = (Source, Arc<Submission<<K as Kind>::Item, <K as Kind>::Answer>>, Vec<usize>);

/// How much may wait for one shard, and for how long a request waits for room.
#[derive(Clone, Copy, Debug)]
pub(crate) struct QueueLimits {
    /// Bytes, with an overhead for each item.
    pub(crate) bytes_max: usize,
    /// How long to wait for room.
    pub(crate) wait: Duration,
}

/// A cheap handle to the gatherer of one shard. Its task ends with the last handle.
pub(crate) struct Gatherer<K: Kind> {
    shard: ShardId,
    inbox: mpsc::Sender<Handed<K>>,
    room: Arc<Semaphore>,
    limits: QueueLimits,
}

impl<K: Kind> Clone for Gatherer<K> {
    fn clone(&self) -> Gatherer<K> {
        Gatherer {
            shard: self.shard,
            inbox: self.inbox.clone(),
            room: self.room.clone(),
            limits: self.limits,
        }
    }
}

impl<K: Kind> Gatherer<K> {
    /// Starts gathering for `shard`.
    pub(crate) fn start(
        kind: Arc<K>,
        shard: ShardId,
        limits: QueueLimits,
        metrics: Arc<Metrics>,
    ) -> Gatherer<K> {
        let (inbox, handed) = mpsc::channel(INBOX_MAX);
        let room = Arc::new(Semaphore::new(limits.bytes_max));
        let task =
            Task { kind, shard, queue: FairQueue::new(), in_flight: JoinSet::new(), metrics };
        tokio::spawn(task.run(handed));
        Gatherer { shard, inbox, room, limits }
    }

    /// Hands `items` in and waits for their answers, in the same order, until `deadline`.
    pub(crate) async fn submit(
        &self,
        source: Source,
        items: Vec<K::Item>,
        deadline: Instant,
    ) -> Vec<Result<K::Answer, Failure>> {
        let count = items.len();
        let shard = self.shard;
        let all = |failure: Failure| (0..count).map(|_| Err(failure.clone())).collect();
        let sizes: Vec<usize> = items.iter().map(|i| K::bytes(i) + ITEM_OVERHEAD_BYTES).collect();
        // What is larger than the whole queue waits for the whole queue.
        let weight = sizes.iter().sum::<usize>().min(self.limits.bytes_max);
        let weight = u32::try_from(weight).unwrap_or(u32::MAX);
        let patience = deadline.min(Instant::now() + self.limits.wait);
        let room = self.room.clone().acquire_many_owned(weight);
        let Ok(Ok(room)) = tokio::time::timeout_at(patience, room).await else {
            return all(Failure::Overloaded { shard, retry_after_ms: RETRY_AFTER_MS });
        };
        let submission = Arc::new(Submission::new(shard, items, deadline, room));
        if self.inbox.send((source, submission.clone(), sizes)).await.is_err() {
            return all(Failure::Unavailable { shard, reason: "the router is stopping".into() });
        }
        submission.wait().await
    }
}

/// One item in the queue.
struct Waiting<K: Kind> {
    submission: Arc<Submission<K::Item, K::Answer>>,
    index: usize,
}

struct Task<K: Kind> {
    kind: Arc<K>,
    shard: ShardId,
    queue: FairQueue<Waiting<K>>,
    in_flight: JoinSet<()>,
    metrics: Arc<Metrics>,
}

impl<K: Kind> Task<K> {
    async fn run(mut self, mut handed: mpsc::Receiver<Handed<K>>) {
        loop {
            while self.in_flight.len() < K::IN_FLIGHT_MAX && !self.queue.is_empty() {
                self.send();
            }
            tokio::select! {
                // First what is there to be gathered, so that the next call takes it along.
                biased;
                handed = handed.recv() => match handed {
                    Some((source, submission, sizes)) => {
                        for (index, bytes) in sizes.into_iter().enumerate() {
                            let submission = submission.clone();
                            self.queue.push(source, Waiting { submission, index }, bytes);
                        }
                    }
                    None => return,
                },
                Some(_ended) = self.in_flight.join_next() => {}
            }
        }
    }

    fn send(&mut self) {
        let batch = self.queue.take(&K::LIMITS);
        let wire = Arc::new(OnTheWire::default());
        let mut items = Vec::with_capacity(batch.len());
        let mut asked = Vec::with_capacity(batch.len());
        let mut deadline = Instant::now();
        for waiting in batch {
            if let Some(item) = waiting.submission.start(waiting.index, &wire) {
                // The call lasts as long as anybody still waits for it.
                deadline = deadline.max(waiting.submission.deadline());
                items.push(item);
                asked.push(waiting);
            }
        }
        if items.is_empty() {
            return;
        }
        let (kind, shard, metrics) = (self.kind.clone(), self.shard, self.metrics.clone());
        self.in_flight.spawn(async move {
            let started = Instant::now();
            let is_waiting = |at: usize| {
                asked.get(at).is_some_and(|waiting| waiting.submission.is_waiting(waiting.index))
            };
            let call = Call { shard, deadline, wire: &wire, is_waiting: &is_waiting };
            let result = kind.ask(items, call).await;
            K::metrics(&metrics).on_batch(asked.len(), started.elapsed(), result.is_ok());
            deliver(shard, &asked, result, wire.maybe());
        });
    }
}

fn deliver<K: Kind>(
    shard: ShardId,
    asked: &[Waiting<K>],
    result: Result<Vec<K::Answer>, Failure>,
    was_sent: bool,
) {
    let count = match &result {
        Ok(answers) => answers.len(),
        Err(_) => asked.len(),
    };
    let failure = match result {
        Ok(answers) if count == asked.len() => {
            for (waiting, answer) in asked.iter().zip(answers) {
                waiting.submission.finish(waiting.index, Ok(answer));
            }
            return;
        }
        Ok(_) => {
            let reason = format!("{count} answers to {} questions", asked.len());
            match was_sent {
                true => Failure::Unknown { shard, reason: reason.into() },
                false => Failure::Refused { shard, reason: reason.into() },
            }
        }
        Err(failure) => failure,
    };
    for waiting in asked {
        waiting.submission.finish(waiting.index, Err(failure.clone()));
    }
}
