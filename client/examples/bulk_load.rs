//! Writes a file of listings, one a line, as fast as the store takes them and no faster:
//! `cargo run -p platbook-client --example bulk_load -- listings.ndjson`
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::fs::File;
use std::io::{BufRead, BufReader};

use anyhow::{Context, ensure};
use platbook_client::{Client, error::chain};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let router = std::env::var("PLATBOOK_ROUTER").unwrap_or("http://127.0.0.1:8080".into());
    let path = std::env::args().nth(1).context("give a file")?;
    let file = BufReader::new(File::open(&path).with_context(|| path.clone())?);
    let client = Client::new(router)?;

    let bulk = client.bulk().in_flight(8).start();
    for (at, line) in file.lines().enumerate() {
        // Waits while too much is under way. What it gives can be awaited, or left to the report.
        bulk.put(line?).await.with_context(|| format!("{path}:{}", at + 1))?;
    }
    let report = bulk.finish().await;
    println!("{} done, {} of them new or changed", report.done(), report.applied);
    for (line, error) in &report.failures {
        println!("{path}:{line}: {}", chain(error));
    }
    ensure!(report.is_complete(), "{} failed, {} unknown", report.not_done, report.unknown);
    Ok(())
}
