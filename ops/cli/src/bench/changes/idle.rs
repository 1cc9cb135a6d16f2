//! Many followers of everything, while nothing happens.

use std::time::Duration;

use anyhow::Context;
use platbook_client::Client;
use platbook_client::changes::{Event, Start};
use serde_json::json;
use tokio::task::JoinSet;

use super::{Bench, Figures, figures, mib};
use crate::bench::usage::Usage;

/// What the servers are given to become quiet, at most: as long as they are looked at.
const SETTLE_MAX: Duration = Duration::from_secs(10);

/// What `count` followers cost the servers for so long, compared with as long without them.
pub(super) async fn measure(
    bench: &Bench,
    count: usize,
    lasts: Duration,
) -> anyhow::Result<Figures> {
    let alone = use_for(bench, lasts).await?;
    let mut followers = JoinSet::new();
    for _ in 0..count {
        let client = Client::new(format!("http://{}", bench.router()))?;
        followers.spawn(async move {
            let mut changes = client.changes().from(Start::Now).follow()?;
            while !matches!(changes.try_next().await?, Some(Event::Resolved { .. })) {}
            Ok::<_, anyhow::Error>(changes)
        });
    }
    let mut open = Vec::new();
    while let Some(ended) = followers.join_next().await {
        open.push(ended?.context("a follower was refused")?);
    }
    let mut reading = JoinSet::new();
    for mut changes in open {
        // Until they are dropped; an error would be seen as less CPU, so it is not passed over.
        reading.spawn(async move {
            loop {
                if changes.try_next().await?.is_none() {
                    return Ok::<_, anyhow::Error>(());
                }
            }
        });
    }
    let followed = use_for(bench, lasts).await?;
    anyhow::ensure!(reading.len() == count && reading.try_join_next().is_none(), "one has ended");
    reading.shutdown().await;
    let per_cent = |used: &Used| used.cpu.as_secs_f64() * 100.0 / lasts.as_secs_f64();
    Ok(figures(json!({
        "idle_followers": count,
        "idle_cpu_percent_without": per_cent(&alone),
        "idle_cpu_percent": per_cent(&followed) - per_cent(&alone),
        "idle_mib_without": mib(alone.resident_bytes),
        "idle_mib": mib(followed.resident_bytes) - mib(alone.resident_bytes),
    })))
}

struct Used {
    cpu: Duration,
    resident_bytes: u64,
}

async fn use_for(bench: &Bench, lasts: Duration) -> anyhow::Result<Used> {
    tokio::time::sleep(lasts.min(SETTLE_MAX)).await;
    let servers = bench.store.servers(&bench.dir);
    let before: Usage = servers.usage()?;
    tokio::time::sleep(lasts).await;
    let after = servers.usage()?;
    Ok(Used { cpu: after.cpu - before.cpu, resident_bytes: after.resident_bytes })
}
