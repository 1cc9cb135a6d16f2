//! Every listing of a ZIP in one read, cheapest first:
//! `cargo run -p platbook-client --example zip_cards -- 98103`
#![allow(clippy::print_stdout, reason = "an example shows what it found")]

use platbook_client::Client;
use serde::Deserialize;

#[derive(Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Card {
    listing_key: String,
    #[serde(default)]
    list_price: f64,
}

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let router = std::env::var("PLATBOOK_ROUTER").unwrap_or("http://127.0.0.1:8080".into());
    let zip = std::env::args().nth(1).unwrap_or("98103".into());
    let client = Client::new(router)?;

    let fields = ["ListingKey", "ListPrice"];
    let mut listings = client.zip(&zip).fields(fields).stream().await?;
    let (count, token) = (listings.count().unwrap_or_default(), listings.token());
    let mut cards = Vec::new();
    while let Some(listing) = listings.try_next().await? {
        cards.push(listing.json::<Card>()?);
    }
    cards.sort_by(|a, b| a.list_price.total_cmp(&b.list_price));
    for card in &cards {
        println!("{:>12}  {}", card.list_price, card.listing_key);
    }
    println!("{count} listings in {zip}");
    if let Some(token) = token {
        println!("changes after this go on behind {token}");
    }
    Ok(())
}
