//! Deletes that happen exactly once, whenever this process is killed: each is written down with the
//! time it was meant before it is sent, and struck out only when the store has it.
//! `cargo run -p platbook-client --example outbox -- outbox.txt L00001 L00002`
#![allow(clippy::print_stdout, reason = "an example shows what it did")]

use std::fs::{self, File};
use std::io::{ErrorKind, Write as _};
use std::time::SystemTime;

use anyhow::Context;
use platbook_client::{Client, TimeMs, Write};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let router = std::env::var("PLATBOOK_ROUTER").unwrap_or("http://127.0.0.1:8080".into());
    let mut args = std::env::args().skip(1);
    let path = args.next().context("give the file of the outbox")?;
    let client = Client::new(router)?;

    // What is in the outbox was meant before, and may have happened: it keeps its time.
    let mut outbox = match fs::read_to_string(&path) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        text => text?,
    };
    for id in args {
        outbox.push_str(&format!("{} {id}\n", now_ms()?));
    }
    keep(&path, &outbox)?;
    while let Some((line, rest)) = outbox.split_once('\n') {
        let (sent, id) = line.split_once(' ').context("a line is a time and an id")?;
        let write = Write::delete(id)?.at(TimeMs(sent.parse()?));
        let written = client.send(&write).await?;
        println!("{id}: {:?}", written.outcome);
        outbox = rest.to_string();
        keep(&path, &outbox)?;
    }
    Ok(())
}

/// Replaces the file as a whole: a crash leaves the old one or the new one.
fn keep(path: &str, text: &str) -> anyhow::Result<()> {
    let next = format!("{path}.next");
    let mut file = File::create(&next)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    Ok(fs::rename(&next, path)?)
}

#[allow(clippy::disallowed_methods, reason = "when a deletion was meant")]
fn now_ms() -> anyhow::Result<u128> {
    Ok(SystemTime::now().duration_since(SystemTime::UNIX_EPOCH)?.as_millis())
}
