//! An open loop: operations begin when their time has come, whether or not earlier ones have ended,
//! and what they take is counted from there. So a server that stalls is not spared the requests
//! that would have come meanwhile.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use tokio::task::JoinSet;
use tokio::time::Instant;

/// How much longer than planned a system that cannot keep up is asked.
const OVERRUN_MAX: u32 = 3;

/// Begins `rate` operations a second for `time`, by at most `clients` at once, and gives what each
/// took since it should have begun, ascending. `work` is told which client it is, and which
/// operation. Of a system that cannot keep up, what is not begun after three times as long is not
/// begun at all.
pub(super) async fn pace<F, R>(
    rate: f64,
    clients: usize,
    time: Duration,
    work: F,
) -> anyhow::Result<Vec<Duration>>
where
    F: Fn(usize, usize) -> R + Clone + Send + 'static,
    R: Future<Output = anyhow::Result<()>> + Send,
{
    let count = (rate * time.as_secs_f64()) as usize;
    let next = Arc::new(AtomicUsize::new(0));
    let began = Instant::now();
    let mut running = JoinSet::new();
    for client in 0..clients {
        let (next, work) = (next.clone(), work.clone());
        running.spawn(async move {
            let mut took = Vec::new();
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= count || began.elapsed() > time * OVERRUN_MAX {
                    return Ok::<_, anyhow::Error>(took);
                }
                let due = began + Duration::from_secs_f64(number as f64 / rate);
                tokio::time::sleep_until(due).await;
                work(client, number).await?;
                took.push(due.elapsed());
            }
        });
    }
    let mut all = Vec::new();
    while let Some(ended) = running.join_next().await {
        all.extend(ended??);
    }
    all.sort_unstable();
    Ok(all)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_waits_behind_a_stall_is_counted_from_when_it_was_due() {
        let work = |_, number| async move {
            if number == 0 {
                let stall = std::future::pending::<()>();
                assert!(tokio::time::timeout(Duration::from_secs(1), stall).await.is_err());
            }
            Ok(())
        };
        let took = pace(10.0, 1, Duration::from_secs(1), work).await.unwrap();
        assert_eq!(took.len(), 10);
        assert!(took[9] >= Duration::from_secs(1), "{took:?}");
        // Due after a tenth of a second, it began after a whole one.
        assert!(took[8] >= Duration::from_millis(890), "{took:?}");
    }
}
