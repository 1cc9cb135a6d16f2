//! Read, change, write back, and never over what somebody else has written in between:
//! `cargo run -p platbook-client --example edit_price -- L00001 425000`
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use anyhow::{Context, bail};
use platbook_client::{Client, WriteError};
use platbook_protocol::problem::Code;
use serde_json::Value;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let router = std::env::var("PLATBOOK_ROUTER").unwrap_or("http://127.0.0.1:8080".into());
    let mut args = std::env::args().skip(1);
    let (id, price) = args.next().zip(args.next()).context("give an id and a price")?;
    let price: u64 = price.parse().context("a price is a whole number")?;
    let client = Client::new(router)?;

    for _ in 0..10 {
        let Some(seen) = client.get(&id).await? else { bail!("there is no listing {id}") };
        let mut listing: Value = seen.json()?;
        listing["ListPrice"] = price.into();
        let mut ended = client.put_json(&id, &listing).if_match(seen.revision).await;
        // Nobody knows whether it happened: the very same write, sent again, finds out.
        if let Err(WriteError::Unknown(unknown)) = ended {
            let write = unknown.into_write().context("a put gives its write back")?;
            ended = client.send(&write).await;
        }
        match ended {
            Ok(written) => {
                println!("{id}: {:?}, now at {price}", written.outcome);
                return Ok(());
            }
            Err(error) if error.problem().is_some_and(|p| p.is(Code::PreconditionFailed)) => {
                println!("{id}: somebody else was faster, once more");
            }
            Err(error) => return Err(error.into()),
        }
    }
    bail!("{id} changes too often")
}
