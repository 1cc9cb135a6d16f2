//! How long after its acknowledgement a change arrives at who follows.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use platbook_chaos_tests::quantiles::Quantiles;
use platbook_client::Client;
use platbook_client::changes::{Event, Start};
use serde_json::json;
use tokio::task::JoinSet;
use tokio::time::MissedTickBehavior;

use super::{Bench, Figures, figures};
use crate::bench::drive::{Listing, Sink};

/// Listings of one request.
const BATCH: usize = 50;
/// Longest wait for what was acknowledged last.
const WITHIN: Duration = Duration::from_secs(60);

/// Writes `per_second` for so long, in requests at even distances, whatever the answers take.
pub(super) async fn measure(
    bench: &mut Bench,
    per_second: f64,
    lasts: Duration,
) -> anyhow::Result<Figures> {
    let count = (per_second * lasts.as_secs_f64()) as usize / BATCH * BATCH;
    ensure!(count > 0, "{per_second} listings a second are too few");
    let listings = bench.listings(count);
    let client = Client::new(format!("http://{}", bench.router()))?;
    let mut changes = client.changes().from(Start::Now).follow()?;
    while !matches!(changes.try_next().await?, Some(Event::Resolved { .. })) {}
    let following = tokio::spawn(async move {
        let mut received = HashMap::new();
        while received.len() < count {
            let event = changes.try_next().await?.context("the stream has ended")?;
            if let Event::Change(change) = event {
                received.insert(change.id.to_string(), Instant::now());
            }
        }
        Ok::<_, anyhow::Error>(received)
    });
    let began = Instant::now();
    let acknowledged = write(bench, &listings, per_second).await?;
    let took = began.elapsed();
    let received = tokio::time::timeout(WITHIN, following).await.context("changes are late")??;
    let received = received?;
    let lags = acknowledged.iter().map(|(id, at)| {
        // A change may be told before its writer has been answered.
        received.get(id).map_or(WITHIN, |received| received.saturating_duration_since(*at))
    });
    let lags = Quantiles::of(lags);
    ensure!(lags.max() < WITHIN, "an acknowledged listing was not told");
    let ms = |lag: Duration| lag.as_secs_f64() * 1e3;
    Ok(figures(json!({
        "lag_writes_per_s": count as f64 / took.as_secs_f64(),
        "lag_ms_p50": ms(lags.at(50)),
        "lag_ms_p99": ms(lags.at(99)),
        "lag_ms_max": ms(lags.max()),
    })))
}

/// When each listing was acknowledged.
async fn write(
    bench: &Bench,
    listings: &[Listing],
    per_second: f64,
) -> anyhow::Result<Vec<(String, Instant)>> {
    let mut ticks = tokio::time::interval(Duration::from_secs_f64(BATCH as f64 / per_second));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Burst);
    let (mut writing, mut acknowledged) = (JoinSet::new(), Vec::new());
    for (at, batch) in listings.chunks(BATCH).enumerate() {
        ticks.tick().await;
        let sink = bench.store.sink().clone();
        let request = sink.request(batch);
        let ids: Vec<String> = batch.iter().map(|listing| listing.id.clone()).collect();
        writing.spawn(async move {
            sink.send(at, request).await?;
            Ok::<_, anyhow::Error>((ids, Instant::now()))
        });
        while let Some(ended) = writing.try_join_next() {
            let (ids, at) = ended??;
            acknowledged.extend(ids.into_iter().map(|id| (id, at)));
        }
    }
    while let Some(ended) = writing.join_next().await {
        let (ids, at) = ended??;
        acknowledged.extend(ids.into_iter().map(|id| (id, at)));
    }
    Ok(acknowledged)
}
