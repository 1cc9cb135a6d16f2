//! One reader, from the oldest change that is kept to the last, as fast as it is told.

use std::time::{Duration, Instant};

use anyhow::ensure;
use platbook_client::Client;
use platbook_client::changes::{Event, Start};
use serde_json::json;

use super::raw::{Count, Form, Reader};
use super::{Bench, Figures, figures, mib};
use crate::bench::usage;

const QUERY: &str = "from=beginning&mode=history&live=false";
/// The median of so many counts.
const ROUNDS: usize = 3;

/// Reads everything in each form, and by the client library, which opens every listing.
pub(super) async fn measure(bench: &Bench) -> anyhow::Result<Figures> {
    let router = bench.router();
    let servers = bench.store.servers(&bench.dir);
    let before = servers.usage()?.cpu;
    let (binary, told) = median(|| raw(&router, Form::Binary)).await?;
    ensure!(told.changes >= bench.made as u64, "{} changes told", told.changes);
    let between = servers.usage()?.cpu;
    let (lines, in_lines) = median(|| raw(&router, Form::Lines)).await?;
    ensure!(in_lines.changes == told.changes, "{} changes in lines", in_lines.changes);
    let lines_cpu = (servers.usage()?.cpu - between) / ROUNDS as u32;
    let binary_cpu = (between - before) / ROUNDS as u32;
    let own = usage::of(std::process::id())?.cpu;
    let (library, by_library) = median(|| by_library(&router)).await?;
    let own = (usage::of(std::process::id())?.cpu - own) / ROUNDS as u32;
    ensure!(by_library.changes == told.changes, "{} changes by the library", by_library.changes);
    let rate = |took: Duration| told.changes as f64 / took.as_secs_f64();
    Ok(figures(json!({
        "catch_up_changes": told.changes,
        "catch_up_binary_mib": mib(told.bytes),
        "catch_up_lines_mib": mib(in_lines.bytes),
        "catch_up_binary_per_s": rate(binary),
        "catch_up_lines_per_s": rate(lines),
        "catch_up_binary_server_cpu_us": binary_cpu.as_secs_f64() * 1e6 / told.changes as f64,
        "catch_up_lines_server_cpu_us": lines_cpu.as_secs_f64() * 1e6 / told.changes as f64,
        "catch_up_client_library_per_s": rate(library),
        "catch_up_client_library_cpu_us": own.as_secs_f64() * 1e6 / told.changes as f64,
    })))
}

async fn median<F>(read: impl Fn() -> F) -> anyhow::Result<(Duration, Count)>
where
    F: Future<Output = anyhow::Result<Count>>,
{
    let (mut times, mut last) = (Vec::new(), Count::default());
    for _ in 0..ROUNDS {
        let began = Instant::now();
        last = read().await?;
        times.push(began.elapsed());
    }
    times.sort_unstable();
    Ok((times[ROUNDS / 2], last))
}

async fn raw(router: &str, form: Form) -> anyhow::Result<Count> {
    let mut reader = Reader::open(router, form, QUERY).await?;
    while reader.read().await? {}
    Ok(reader.count)
}

async fn by_library(router: &str) -> anyhow::Result<Count> {
    let client = Client::new(format!("http://{router}"))?;
    let changes = client.changes().from(Start::Beginning).history().until_now();
    let (mut changes, mut count) = (changes.follow()?, Count::default());
    while let Some(event) = changes.try_next().await? {
        if let Event::Change(_) = event {
            count.changes += 1;
        }
    }
    Ok(count)
}
