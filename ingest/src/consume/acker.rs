//! The last stage: what is done is deleted from the queue, ten at a time.
//!
//! Only the entries that failed are sent again. A delete that is given up costs one redelivery of
//! a message that then changes nothing.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{Semaphore, mpsc};
use tokio::task::JoinSet;
use tokio::time::sleep;
use tracing::warn;

use super::ingester::Ingest;
use super::message::Settled;
use super::room::Share;
use crate::queue::BATCH_ENTRIES_MAX;

/// Delete calls at a time.
const CALLS_MAX: usize = 16;
/// Attempts for one batch and what is left of it.
const ATTEMPTS_MAX: u32 = 8;
/// First pause before what failed is sent again; it doubles.
const BACKOFF_MIN: Duration = Duration::from_millis(20);
/// Longest pause.
const BACKOFF_MAX: Duration = Duration::from_secs(2);

/// Deletes until there is nothing more to delete.
pub(super) async fn run(ingest: Ingest, mut settled: mpsc::Receiver<Settled>) {
    let room = Arc::new(Semaphore::new(CALLS_MAX));
    let mut calls = JoinSet::new();
    let mut left: Option<Settled> = None;
    loop {
        let permit = Arc::clone(&room).acquire_owned().await;
        let permit = permit.expect("the semaphore is never closed");
        let first = match left.take() {
            Some(first) => first,
            None => match settled.recv().await {
                Some(first) => first,
                None => break,
            },
        };
        let mut handles = first.handles;
        let mut shares = vec![first.share];
        while handles.len() < BATCH_ENTRIES_MAX
            && let Ok(next) = settled.try_recv()
        {
            if handles.len() + next.handles.len() > BATCH_ENTRIES_MAX {
                left = Some(next);
                break;
            }
            handles.extend(next.handles);
            shares.push(next.share);
        }
        if handles.is_empty() {
            continue;
        }
        let ingest = ingest.clone();
        calls.spawn(async move {
            delete(&ingest, handles, shares).await;
            drop(permit);
        });
        while calls.try_join_next().is_some() {}
    }
    while calls.join_next().await.is_some() {}
}

async fn delete(ingest: &Ingest, mut handles: Vec<String>, shares: Vec<Share>) {
    let mut backoff = BACKOFF_MIN;
    for attempt in 1..=ATTEMPTS_MAX {
        let entries: Vec<&str> = handles.iter().map(String::as_str).collect();
        match ingest.queue.delete(&entries).await {
            Ok(failed) => {
                let mut index = 0..;
                let again = |_: &String| {
                    let index: Option<usize> = index.next();
                    // A handle that the queue calls invalid stays so.
                    failed.iter().any(|f| Some(f.index) == index && !f.is_senders_fault)
                };
                handles.retain(again);
                if handles.is_empty() {
                    break;
                }
            }
            Err(error) => warn!(%error, attempt, messages = handles.len(), "delete failed"),
        }
        ingest.stats.delete_retries.add(handles.len() as u64);
        sleep(backoff).await;
        backoff = (backoff * 2).min(BACKOFF_MAX);
    }
    ingest.stats.done.add(shares.len() as u64);
}
