//! A service that knows the median price of every ZIP, live:
//! `cargo run -p platbook-client --example zip_median`
#![allow(clippy::print_stdout, reason = "an example shows what it knows")]

use std::collections::BTreeSet;

use platbook_client::changes::Mirror;
use platbook_client::{Client, Event};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let router = std::env::var("PLATBOOK_ROUTER").unwrap_or("http://127.0.0.1:8080".into());
    let mut changes = Client::new(router)?.changes().follow()?;
    let (mut prices, mut touched, mut is_live) = (Mirror::new(), BTreeSet::new(), false);

    while let Some(event) = changes.try_next().await? {
        touched.extend(prices.apply(&event, |listing| {
            let listing: serde_json::Value = listing.json().unwrap_or_default();
            listing["ListPrice"].as_f64().unwrap_or_default() as u64
        }));
        is_live |= matches!(event, Event::StateEnd { .. });
        while is_live && let Some(zip) = touched.pop_first() {
            let mut prices: Vec<u64> = prices.zip(zip).map(|(_, price)| *price).collect();
            prices.sort_unstable();
            match prices.get(prices.len() / 2) {
                Some(median) => println!("{zip} {median} of {}", prices.len()),
                None => println!("{zip} has no listings"),
            }
        }
    }
    Ok(())
}
