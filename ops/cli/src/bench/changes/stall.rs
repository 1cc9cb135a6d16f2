//! A reader that does not read while changes pass, and then does.

use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use serde_json::json;
use tokio::time::MissedTickBehavior;

use super::raw::{Form, Reader};
use super::{Bench, Figures, LONGEST, figures, mib};
use crate::bench::drive::Sink;
use crate::bench::usage;

/// Listings of one request.
const BATCH: usize = 100;

/// Lets `changes` pass in so long while a reader stops reading, and lets it catch up.
pub(super) async fn measure(
    bench: &mut Bench,
    changes: usize,
    lasts: Duration,
) -> anyhow::Result<Figures> {
    let router = bench.router();
    // From the beginning, so that there is plenty to be told at once.
    let mut reader = Reader::open(&router, Form::Binary, "from=beginning&mode=history").await?;
    while reader.token.is_none() {
        ensure!(reader.read().await?, "the response has ended");
    }
    let router_pid = bench.store.cluster.router.pid();
    let before = usage::of(router_pid)?.resident_bytes;
    let mut peak = before;
    let batches = changes.div_ceil(BATCH);
    let mut ticks = tokio::time::interval(lasts / batches as u32);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let began = Instant::now();
    for at in 0..batches {
        ticks.tick().await;
        let listings = bench.listings(BATCH);
        let sink = bench.store.sink();
        sink.send(at, sink.request(&listings)).await?;
        peak = peak.max(usage::of(router_pid)?.resident_bytes);
    }
    let stalled = began.elapsed();
    let after = usage::of(router_pid)?.resident_bytes;
    let (already, began) = (reader.count.changes, Instant::now());
    let everything = bench.made as u64;
    // What was on its way is read; then the connection may be found to be cut.
    let is_cut = loop {
        if reader.count.changes >= everything {
            break false;
        }
        match tokio::time::timeout(LONGEST, reader.read()).await.context("it hangs")? {
            Ok(true) => {}
            Ok(false) | Err(_) => break true,
        }
    };
    let mut told = reader.count.changes;
    if is_cut {
        let token = reader.token.take().context("it was told where it stands")?;
        let query = format!("from={token}&mode=history&live=false");
        let mut reader = Reader::open(&router, Form::Binary, &query).await?;
        while reader.read().await? {}
        // Those behind its last token are told again.
        told += reader.count.changes;
    }
    let took = began.elapsed();
    ensure!(told >= everything, "only {told} of {everything} changes were told");
    let told = told - already;
    Ok(figures(json!({
        "stall_s": stalled.as_secs_f64(),
        "stall_changes": batches * BATCH,
        "stall_reader_was_cut_off": is_cut,
        "stall_router_mib_before": mib(before),
        "stall_router_mib_peak": mib(peak),
        "stall_router_mib_after": mib(after),
        "stall_caught_up_changes": told,
        "stall_caught_up_per_s": told as f64 / took.as_secs_f64(),
    })))
}
