//! A reconciliation from start to end.

use std::collections::HashSet;
use std::io::Write;
use std::path::PathBuf;
use std::sync::Arc;

use anyhow::{Context, ensure};
use bytes::Bytes;
use platbook_client::{Client, ClientConfig};
use platbook_ingest::lines::Lines;
use platbook_protocol::listing::{Parsed, Parser};
use platbook_protocol::{Digest, ListingId, TimeMs};
use serde_json::json;

use super::differ::{Difference, Part};
use super::spill::{PARTS, Spill, Spilled};
use crate::export::Listings;
use crate::load::{Batch, Loaded, load_batch, now};
use crate::output::{self, Format, OutputArgs};
use crate::screen::Screen;
use crate::settings::File;

/// Listings that are repaired in one request.
const REPAIR_BATCH: usize = 500;
/// How long one request of the repair is tried.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);
/// Lines that cannot be read and are named on the screen.
const UNREADABLE_SHOWN: u64 = 10;

/// Compare a full copy of the operator's listings with the store: what is missing, extra or
/// different. Nothing is changed without --apply. Needs room for about 50 bytes a listing and side
/// in the directory for temporary files, and little memory, whatever the size of the copy
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct ReconcileArgs {
    /// The copy: NDJSON, packed (`.gz`, `.zst`) or not, one listing a line
    #[arg(required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Write what is missing or different, delete what is extra; counts as sent when this command
    /// was started, so that changes which the feed brings meanwhile win
    #[arg(long)]
    apply: bool,
    /// Write each difference into this file, as NDJSON
    #[arg(long, value_name = "FILE")]
    list: Option<PathBuf>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// What was found.
#[derive(Default)]
struct Found {
    equal: u64,
    missing: u64,
    extra: u64,
    different: u64,
    unreadable: u64,
    /// Hashes of the ids to be written again.
    write: HashSet<u64>,
    delete: Vec<String>,
}

/// `platbook reconcile`.
pub(crate) async fn run(args: ReconcileArgs, file: File) -> anyhow::Result<()> {
    // Before anything is read: what the feed brings from now on is newer.
    let sent = now();
    ensure!(
        !args.files.iter().any(|file| file == std::path::Path::new("-")),
        "the copy is read twice: give files, not standard input"
    );
    let parser = Arc::new(Parser::try_new(file.table("router.fields")?)?);
    let client = args.client.connect()?;
    let scratch = tempfile::Builder::new().prefix("platbook-reconcile-").tempdir();
    let scratch = scratch.context("making a temporary directory")?;
    let mut screen = Screen::new();

    screen.say("reading the copy");
    let (mut found, copy) = tokio::task::block_in_place(|| {
        read_copy(&args.files, &parser, Spill::try_new(&scratch.path().join("copy"))?, &mut screen)
    })?;
    screen.say("reading the store");
    let store = Spill::try_new(&scratch.path().join("store"))?;
    let store = read_store(&client, &parser, store, &mut found, &mut screen).await?;
    tokio::task::block_in_place(|| compare(&args, &copy, &store, &mut found))?;

    let repaired = match args.apply {
        true => Some(repair(&args, &client, &parser, &found, sent, &mut screen).await?),
        false => None,
    };
    screen.end();
    tell(&args, &found, repaired.as_ref())
}

fn read_copy(
    files: &[PathBuf],
    parser: &Parser,
    mut spill: Spill,
    screen: &mut Screen,
) -> anyhow::Result<(Found, Spilled)> {
    let mut found = Found::default();
    let mut lines = Lines::new(files.to_vec(), Arc::default());
    while let Some(line) = lines.try_next()? {
        match listing(parser, line.text.as_bytes()) {
            Ok((id, digest)) => spill.put(&id, digest)?,
            Err(reason) => {
                found.unreadable += 1;
                if found.unreadable <= UNREADABLE_SHOWN {
                    let file = files[line.file].display();
                    screen.say(&format!("{file}:{}: {reason}", line.number));
                }
            }
        }
    }
    Ok((found, spill.finish()?.1))
}

async fn read_store(
    client: &Client,
    parser: &Parser,
    mut spill: Spill,
    found: &mut Found,
    screen: &mut Screen,
) -> anyhow::Result<Spilled> {
    let mut listings = Listings::open(client).await?;
    let mut count = 0_u64;
    while let Some(lines) = listings.try_next().await? {
        count += lines.len() as u64;
        tokio::task::block_in_place(|| {
            for line in &lines {
                match listing(parser, line) {
                    Ok((id, digest)) => spill.put(&id, digest)?,
                    Err(_) => found.unreadable += 1,
                }
            }
            Ok::<_, anyhow::Error>(())
        })?;
        screen.progress(count, 0, &format!("{count} listings of the store"));
    }
    Ok(spill.finish()?.1)
}

fn listing(parser: &Parser, line: &[u8]) -> Result<(ListingId, Digest), String> {
    match parser.message(line) {
        Ok(Parsed::Upsert(listing)) => Ok((listing.id, listing.digest)),
        Ok(Parsed::Delete { .. } | Parsed::Pointer { .. }) => Err("not a listing".to_string()),
        Err(error) => Err(error.to_string()),
    }
}

fn compare(
    args: &ReconcileArgs,
    copy: &Spilled,
    store: &Spilled,
    found: &mut Found,
) -> anyhow::Result<()> {
    let list = args.list.as_ref().map(|path| {
        let made = std::fs::File::create(path);
        made.with_context(|| format!("cannot write {}", path.display()))
    });
    let mut list = list.transpose()?.map(std::io::BufWriter::new);
    for number in 0..PARTS {
        let mut part = Part::default();
        copy.read(number, |id, digest| part.on_copy(id, digest))?;
        store.read(number, |id, digest| part.on_store(id, digest))?;
        let (equal, differences) = part.finish();
        found.equal += equal;
        for (id, difference) in differences {
            if let Some(list) = &mut list {
                let line = json!({"id": id, "difference": difference.as_str()});
                writeln!(list, "{line}").context("cannot write the list")?;
            }
            match difference {
                Difference::Missing => found.missing += 1,
                Difference::Different => found.different += 1,
                Difference::Extra => found.extra += 1,
            }
            match difference {
                _ if !args.apply => {}
                Difference::Missing | Difference::Different => {
                    found.write.insert(hash(&id));
                }
                Difference::Extra => found.delete.push(id),
            }
        }
    }
    if let Some(mut list) = list {
        list.flush().context("cannot write the list")?;
    }
    Ok(())
}

/// Two ids with one hash only lead to a write that changes nothing.
fn hash(id: &str) -> u64 {
    xxhash_rust::xxh3::xxh3_64(id.as_bytes())
}

async fn repair(
    args: &ReconcileArgs,
    client: &Client,
    parser: &Parser,
    found: &Found,
    sent: TimeMs,
    screen: &mut Screen,
) -> anyhow::Result<Loaded> {
    let mut repaired = Loaded::default();
    let mut batch = Batch::default();
    let mut lines = Lines::new(args.files.clone(), Arc::default());
    let deletes = found.delete.iter().map(|id| json!({"op": "delete", "id": id}).to_string());
    let mut deletes = deletes.enumerate();
    loop {
        // The copy's lines first, in their order, then the deletes.
        let next = match tokio::task::block_in_place(|| lines.try_next())? {
            Some(line) => Some(((line.file, line.number), line.text)),
            None => deletes.next().map(|(at, line)| ((args.files.len(), at as u64 + 1), line)),
        };
        let is_over = next.is_none();
        if let Some((place, text)) = next {
            let is_delete = place.0 == args.files.len();
            let is_wanted = |id: &ListingId| found.write.contains(&hash(id.as_str()));
            let wanted =
                is_delete || listing(parser, text.as_bytes()).is_ok_and(|(id, _)| is_wanted(&id));
            if wanted {
                batch.lines.push(Bytes::from(text + "\n"));
                batch.places.push(place);
            }
        }
        if batch.lines.len() >= REPAIR_BATCH || (is_over && !batch.lines.is_empty()) {
            repaired.merge(load_batch(client, std::mem::take(&mut batch), sent, PATIENCE).await?);
            let all = (found.write.len() + found.delete.len()) as u64;
            screen.progress(repaired.lines(), all, "repaired");
        }
        if is_over {
            return Ok(repaired);
        }
    }
}

fn tell(args: &ReconcileArgs, found: &Found, repaired: Option<&Loaded>) -> anyhow::Result<()> {
    let mut report = json!({
        "equal": found.equal, "missing": found.missing, "extra": found.extra,
        "different": found.different, "unreadable": found.unreadable,
    });
    if let Some(Loaded { answer, rejected }) = repaired {
        report["repaired"] = json!({
            "applied": answer.applied, "unchanged": answer.unchanged, "stale": answer.stale,
            "duplicate": answer.duplicate, "suspect": answer.suspect, "rejected": rejected.len(),
        });
    }
    match args.output.format() {
        Format::Json => output::line(&serde_json::to_string_pretty(&report)?)?,
        Format::Ndjson => output::line(&report.to_string())?,
        Format::Table => {
            for (name, value) in report.as_object().into_iter().flatten() {
                output::line(&format!("{name:12} {value}"))?;
            }
        }
    }
    let differences = found.missing + found.extra + found.different;
    ensure!(found.unreadable == 0, "{} lines could not be read", found.unreadable);
    ensure!(args.apply || differences == 0, "{differences} listings differ");
    Ok(())
}
