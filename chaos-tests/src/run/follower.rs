//! Who follows all changes while the run goes on: what they were told has no gap and nothing twice,
//! and adds up to what the store holds.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::changes::check::Judgement;
use crate::changes::consume;
use crate::changes::journal::Entry;
use crate::changes::run::{compare, missing, newest};
use crate::operator::now_ms;
use crate::{Error, wait};

/// Longest wait in the end until a follower was told everything.
const TOLD_WITHIN: Duration = Duration::from_secs(60);

/// A running follower. Dropping it ends it.
#[derive(Debug)]
pub(super) struct Follower {
    router: String,
    heard: Arc<Mutex<Heard>>,
    task: JoinHandle<Result<(), Error>>,
    /// Whether it was told the state, which can be compared then.
    has_state: bool,
}

#[derive(Debug, Default)]
struct Heard {
    judgement: Judgement,
    /// How late changes were told, at most, by the second in which they were; in milliseconds.
    lags_ms: Vec<u32>,
}

impl Follower {
    /// Follows from the beginning, state included, or from now on. `origin` is the report's time 0.
    pub(super) fn start(router: &str, has_state: bool, origin: Instant) -> Follower {
        let heard: Arc<Mutex<Heard>> = Arc::default();
        let (into, at) = (Arc::clone(&heard), router.to_string());
        let from = if has_state { "beginning" } else { "now" };
        let task = tokio::spawn(async move {
            consume::follow(&at, from, None, &mut |event| {
                let second = origin.elapsed().as_secs() as usize;
                let mut heard = lock(&into);
                let entry = Entry { token: &event.id, event: &event.data };
                let told_at = heard.judgement.on(&entry);
                if heard.lags_ms.len() <= second {
                    heard.lags_ms.resize(second + 1, 0);
                }
                // A leader's clock may be a little ahead of this one.
                let lag = told_at.map_or(0, |at| now_ms().saturating_sub(at));
                heard.lags_ms[second] =
                    heard.lags_ms[second].max(lag.try_into().unwrap_or(u32::MAX));
                Ok(())
            })
            .await
        });
        Follower { router: router.to_string(), heard, task, has_state }
    }

    /// Ends it once it was told everything; gives what it found, the lags, and what is wrong.
    pub(super) async fn end(
        mut self,
        zips: &[String],
    ) -> Result<(String, Vec<u32>, Vec<String>), Error> {
        let newest = newest(&self.router).await?;
        let told = wait::until("a follower is told everything", TOLD_WITHIN, async || {
            // Nothing more comes of one that was refused; why, is told below.
            if self.task.is_finished() {
                return Ok(());
            }
            missing(&newest, &lock(&self.heard).judgement)
        });
        let late = told.await.err();
        let mut wrong: Vec<String> = late.iter().map(ToString::to_string).collect();
        if self.task.is_finished() {
            match (&mut self.task).await {
                Ok(Err(error)) => wrong.push(format!("a follower was refused: {error}")),
                Ok(Ok(())) | Err(_) => wrong.push("a follower ended by itself".to_string()),
            }
        }
        self.task.abort();
        let Heard { judgement, lags_ms } = std::mem::take(&mut *lock(&self.heard));
        wrong.extend(judgement.violations.iter().map(|what| format!("a follower: {what}")));
        if judgement.more > 0 {
            wrong.push(format!("a follower: and {} more", judgement.more));
        }
        let mut found = format!("told {} rows and {} changes", judgement.rows, judgement.changes);
        if self.has_state {
            let mut all: Vec<String> = zips.to_vec();
            all.extend(judgement.listings.keys().map(|(zip, _)| zip.clone()));
            all.sort_unstable();
            all.dedup();
            wrong.extend(compare(&self.router, &all, &judgement).await?);
            found.push_str(&format!("; compared with the store in {} ZIPs", all.len()));
        }
        Ok((found, lags_ms, wrong))
    }
}

impl Drop for Follower {
    fn drop(&mut self) {
        self.task.abort();
    }
}

fn lock(heard: &Mutex<Heard>) -> MutexGuard<'_, Heard> {
    heard.lock().unwrap_or_else(PoisonError::into_inner)
}
