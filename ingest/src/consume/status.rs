//! Health and metrics over HTTP, and the look at how full the queue is.

use std::time::Duration;

use http::{Method, Request};
use hyper::body::Incoming;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

use super::ingester::Ingest;
use super::stats::IN_FLIGHT_ALARM;
use crate::listen::{self, Answer};

/// How often the queue is asked how full it is.
const DEPTH_EVERY: Duration = Duration::from_secs(10);

/// Asks the queue from time to time, until it is dropped.
pub(super) async fn watch_depth(ingest: Ingest) {
    let mut ticks = interval(DEPTH_EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match ingest.queue.depth().await {
            Ok(depth) => {
                ingest.stats.on_depth(depth);
                if depth.in_flight >= IN_FLIGHT_ALARM {
                    warn!(in_flight = depth.in_flight, "queue is about to go silent");
                }
            }
            Err(error) => warn!(%error, "cannot tell how full the queue is"),
        }
    }
}

/// Answers `GET /healthz`, `/readyz` and `/metrics`.
pub(super) async fn answer(ingest: Ingest, request: Request<Incoming>) -> Answer {
    match (request.method(), request.uri().path()) {
        (&Method::GET, "/healthz") => listen::text(200, "ok\n"),
        (&Method::GET, "/readyz") if ingest.stopping.is_cancelled() => {
            listen::text(503, "stopping\n")
        }
        (&Method::GET, "/readyz") if ingest.stats.is_ready() => listen::text(200, "ready\n"),
        (&Method::GET, "/readyz") => listen::text(503, "queue or router does not answer\n"),
        (&Method::GET, "/metrics") => {
            listen::text(200, ingest.stats.page(&ingest.held, ingest.clock.now()))
        }
        (_, _) => listen::text(404, "there is /healthz, /readyz and /metrics\n"),
    }
}
