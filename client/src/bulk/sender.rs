//! Gathers messages into batches and sends each until every line of it is settled.
//!
//! Nothing lingers: an idle sender sends what comes at once, and a busy one gathers while its
//! requests are under way. Only the lines that are not settled are sent again.

use std::sync::Arc;

use bytes::Bytes;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tracing::Instrument;

use super::BulkBuilder;
use super::report::{BulkReport, Reporting};
use super::verdict::{Verdict, verdicts};
use crate::answer::BulkAnswer;
use crate::error::{AttemptError, WriteError, source};
use crate::post;
use crate::transport::{Failure, Retry, Stopped, span};

/// A message on its way.
#[derive(Debug)]
pub(super) struct Entry {
    /// In the order of pushing, from 1.
    pub(super) number: u64,
    pub(super) line: Bytes,
    /// Told how it ended, where somebody waits.
    pub(super) ended: oneshot::Sender<Result<(), WriteError>>,
    /// Its share of the bytes held.
    pub(super) room: OwnedSemaphorePermit,
}

/// An entry that some attempt may have carried out, or not.
struct Line {
    entry: Entry,
    maybe_done: bool,
}

/// Sends until there are no more entries; gives how it went.
pub(super) async fn run(bulk: BulkBuilder, mut entries: mpsc::Receiver<Entry>) -> BulkReport {
    let report = Arc::new(Reporting::default());
    let places = Arc::new(Semaphore::new(bulk.in_flight));
    let mut batches = JoinSet::new();
    loop {
        let place = places.clone().acquire_owned().await.expect("the semaphore is never closed");
        let Some(first) = entries.recv().await else { break };
        let mut bytes = first.line.len();
        let mut batch = vec![first];
        while batch.len() < bulk.batch_lines
            && bytes < bulk.batch_bytes
            && let Ok(next) = entries.try_recv()
        {
            bytes += next.line.len();
            batch.push(next);
        }
        let (bulk, report) = (bulk.clone(), report.clone());
        let sending = async move {
            send(&bulk, &report, batch).await;
            drop(place);
        };
        batches.spawn(sending.in_current_span());
        while batches.try_join_next().is_some() {}
    }
    while batches.join_next().await.is_some() {}
    report.take()
}

async fn send(bulk: &BulkBuilder, report: &Reporting, batch: Vec<Entry>) {
    let unsent = |entry| Line { entry, maybe_done: false };
    let mut lines: Vec<Line> = batch.into_iter().map(unsent).collect();
    let mut retry = Retry::new(bulk.deadline);
    loop {
        let failure = match attempt(bulk, &lines, &retry).await {
            Ok(answer) => {
                report.on_answer(&answer);
                lines = settle(report, lines, &answer);
                if lines.is_empty() {
                    return;
                }
                Failure::again(AttemptError::Unfinished { lines: lines.len() })
            }
            Err(failure) => {
                lines.iter_mut().for_each(|line| line.maybe_done |= failure.maybe_done());
                failure
            }
        };
        if let Err(stopped) = retry.pause(failure).await {
            return give_up(report, lines, &stopped);
        }
    }
}

async fn attempt(bulk: &BulkBuilder, lines: &[Line], retry: &Retry) -> Result<BulkAnswer, Failure> {
    let parts: Vec<&[u8]> = lines.iter().map(|line| &line.entry.line[..]).collect();
    let call = post::call(Bytes::from(parts.concat()), None, bulk.is_resent);
    let attempts = bulk.client.transport.attempts();
    let answer = attempts.whole(&call, retry.until()).instrument(span(&call)).await?;
    serde_json::from_slice(&answer.body)
        .map_err(|error| Failure::in_doubt(AttemptError::BadAnswer { source: source(error) }))
}

/// Tells of the lines that are settled; gives the others.
fn settle(report: &Reporting, lines: Vec<Line>, answer: &BulkAnswer) -> Vec<Line> {
    let verdicts = verdicts(answer, lines.len());
    let mut left = Vec::new();
    for (mut line, verdict) in lines.into_iter().zip(verdicts) {
        match verdict {
            // Whoever does not wait for it reads the report.
            Verdict::Done => drop(line.entry.ended.send(Ok(()))),
            Verdict::Again { maybe_done } => {
                line.maybe_done |= maybe_done;
                left.push(line);
            }
            Verdict::Refused(problem) => {
                fail(report, line, &Stopped::by_refusal(problem));
            }
        }
    }
    left
}

fn give_up(report: &Reporting, lines: Vec<Line>, stopped: &Stopped) {
    lines.into_iter().for_each(|line| fail(report, line, stopped));
}

fn fail(report: &Reporting, line: Line, stopped: &Stopped) {
    let error = stopped.of_one(line.maybe_done);
    report.on_failure(error.is_unknown());
    let Entry { number, ended, room, .. } = line.entry;
    if let Err(Err(error)) = ended.send(Err(error)) {
        report.on_unawaited(number, error);
    }
    drop(room);
}
