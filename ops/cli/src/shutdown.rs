//! How a server ends: on SIGTERM or SIGINT it drains, and within ten seconds it is gone.

use std::future::Future;
use std::pin::pin;
use std::time::Duration;

use anyhow::Context;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

use crate::ending;

/// Longest time between the signal and the end of the process.
const HARD_STOP_AFTER: Duration = Duration::from_secs(10);
/// Longest drain: leaves a moment to close what is still open.
const DRAIN_MAX: Duration = Duration::from_secs(9);
/// Longest wait for threads of the runtime at the end.
const THREADS_MAX: Duration = Duration::from_millis(500);

/// Runs `serve` until it ends by itself or a signal comes, which cancels the token it was given.
pub(crate) fn serve<F>(serve: impl FnOnce(CancellationToken) -> F) -> anyhow::Result<()>
where
    F: Future<Output = anyhow::Result<()>>,
{
    let runtime = runtime()?;
    let ended = runtime.block_on(async {
        let mut signals = Signals::watch()?;
        let stop = CancellationToken::new();
        let mut serving = pin!(serve(stop.clone()));
        let name = tokio::select! {
            biased;
            ended = &mut serving => return ended,
            name = signals.next() => name,
        };
        info!(signal = name, "draining");
        stop.cancel();
        hard_stop_later();
        tokio::select! {
            biased;
            ended = &mut serving => ended,
            name = signals.next() => {
                warn!(signal = name, "second signal: stopping without a drain");
                Ok(())
            }
            () = tokio::time::sleep(DRAIN_MAX) => {
                error!(seconds = DRAIN_MAX.as_secs(), "still busy: stopping without a drain");
                Ok(())
            }
        }
    });
    runtime.shutdown_timeout(THREADS_MAX);
    ended
}

/// A runtime for one command.
pub(crate) fn runtime() -> anyhow::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
        .context("starting the async runtime")
}

/// Ends the process even where a thread hangs in the kernel or in a destructor.
fn hard_stop_later() {
    std::thread::spawn(|| {
        std::thread::sleep(HARD_STOP_AFTER);
        error!(seconds = HARD_STOP_AFTER.as_secs(), "hard stop");
        ending::end(0);
    });
}

struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn watch() -> anyhow::Result<Signals> {
        let watch = |kind| signal(kind).context("watching for signals");
        Ok(Signals {
            terminate: watch(SignalKind::terminate())?,
            interrupt: watch(SignalKind::interrupt())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        tokio::select! {
            biased;
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }
}
