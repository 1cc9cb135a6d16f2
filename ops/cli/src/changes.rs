//! `platbook changes`: follows every change, as lines for programs or as a table for people.

use std::path::{Path, PathBuf};

use anyhow::Context;
use futures_util::FutureExt;
use platbook_client::changes::{Change, Changes, Event, Filter, Passage, Start, What};
use platbook_client::{ClientConfig, ShardId, Token, Zip};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::output::{self, Format, OutputArgs};
use crate::table::{self, Column};

/// Events behind which the position is kept although more are at hand.
const EVENTS_PER_POSITION: usize = 1_000;

/// Which changes, and from where.
#[derive(Debug, clap::Args)]
pub(crate) struct ChangesArgs {
    /// `beginning` (all that is there, then what changes), `now`, or a token
    #[arg(long, value_name = "WHERE", default_value = "now")]
    from: String,
    /// Keep the position in this file, and go on from it if it is there; what is printed while the
    /// state is told, or behind the last position that was kept, may be printed again
    #[arg(long, value_name = "FILE")]
    position: Option<PathBuf>,
    /// Every change that is kept, also where a later one has replaced it
    #[arg(long)]
    history: bool,
    /// Only this ZIP; may be given more than once
    #[arg(long = "zip", value_parser = zip, value_name = "ZIP")]
    zips: Vec<Zip>,
    /// Only this shard; may be given more than once
    #[arg(long = "shard", value_name = "SHARD")]
    shards: Vec<u32>,
    /// Only listings that came or changed, or only those that left
    #[arg(long, value_name = "OP")]
    op: Option<Op>,
    /// Least price
    #[arg(long, value_name = "PRICE")]
    min_price: Option<u64>,
    /// Greatest price
    #[arg(long, value_name = "PRICE")]
    max_price: Option<u64>,
    /// Only this status
    #[arg(long)]
    status: Option<String>,
    /// Only these fields of each listing
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    fields: Vec<String>,
    /// Without the listings themselves
    #[arg(long)]
    no_body: bool,
    /// End where nothing is left to tell, instead of waiting for what happens next
    #[arg(long)]
    until_now: bool,
    /// End behind so many changes
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// What happened to listings.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Op {
    Upsert,
    Delete,
}

fn zip(text: &str) -> Result<Zip, String> {
    Zip::try_parse(text).ok_or_else(|| "a ZIP is five digits, ZIP+4 or `unknown`".to_string())
}

/// Follows until a signal comes, or as many changes as were asked for.
pub(crate) async fn run(args: ChangesArgs, stop: CancellationToken) -> anyhow::Result<()> {
    let mut changes = open(&args)?;
    let printer = Printer { format: args.output.format() };
    printer.begin()?;
    let (mut told, mut unkept) = (0_u64, 0_usize);
    while args.limit.is_none_or(|limit| told < limit) {
        let event = match changes.try_next().now_or_never() {
            Some(event) => event,
            None => {
                // Nothing is at hand: a good moment.
                keep(&args, &changes, &mut unkept)?;
                let next = stop.run_until_cancelled(changes.try_next()).await;
                let Some(event) = next else { break };
                event
            }
        };
        let Some(event) = event? else { break };
        if let Event::Change(change) = &event {
            printer.change(change)?;
            told += 1;
        }
        unkept += 1;
        if unkept >= EVENTS_PER_POSITION {
            keep(&args, &changes, &mut unkept)?;
        }
    }
    unkept += 1;
    keep(&args, &changes, &mut unkept)
}

fn open(args: &ChangesArgs) -> anyhow::Result<Changes> {
    let kept = args.position.as_deref().map(read_position).transpose()?.flatten();
    let start = match (kept, args.from.as_str()) {
        (Some(token), _) => Start::Token(token),
        (None, "beginning") => Start::Beginning,
        (None, "now") => Start::Now,
        (None, token) => Start::Token(Token::from(token)),
    };
    let mut filter = Filter::new();
    for zip in &args.zips {
        filter = filter.zip(*zip);
    }
    for shard in &args.shards {
        filter = filter.shard(ShardId(*shard));
    }
    filter = match args.op {
        Some(Op::Upsert) => filter.upserts(),
        Some(Op::Delete) => filter.deletes(),
        None => filter,
    };
    if let Some(price) = args.min_price {
        filter = filter.min_price(price);
    }
    if let Some(price) = args.max_price {
        filter = filter.max_price(price);
    }
    if let Some(status) = &args.status {
        filter = filter.status(status);
    }
    let mut builder = args.client.connect()?.changes().from(start).filter(filter);
    if !args.fields.is_empty() {
        builder = builder.fields(args.fields.iter().cloned());
    }
    if args.no_body {
        builder = builder.without_bodies();
    }
    if args.history {
        builder = builder.history();
    }
    if args.until_now {
        builder = builder.until_now();
    }
    Ok(builder.follow()?)
}

fn read_position(path: &Path) -> anyhow::Result<Option<Token>> {
    match std::fs::read_to_string(path) {
        Ok(text) => Ok(Some(Token::from(text.trim()))),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// Keeps the position behind what was printed.
fn keep(args: &ChangesArgs, changes: &Changes, unkept: &mut usize) -> anyhow::Result<()> {
    let (Some(path), Some(token)) = (&args.position, changes.token()) else { return Ok(()) };
    if std::mem::take(unkept) == 0 {
        return Ok(());
    }
    let new = path.with_extension("new");
    let written = std::fs::write(&new, format!("{}\n", token.as_str()));
    let kept = written.and_then(|()| std::fs::rename(&new, path));
    kept.with_context(|| format!("cannot write {}", path.display()))
}

const COLUMNS: [Column; 8] = [
    table::number("SHARD", 5),
    table::number("SEQ", 10),
    table::text("OP", 8),
    table::text("ZIP", 8),
    table::text("ID", 20),
    table::number("PRICE", 11),
    table::number("BEFORE", 11),
    table::text("CHANGED", 24),
];

struct Printer {
    format: Format,
}

impl Printer {
    fn begin(&self) -> anyhow::Result<()> {
        match self.format {
            Format::Table => output::line(&table::head(&COLUMNS)),
            Format::Ndjson | Format::Json => Ok(()),
        }
    }

    fn change(&self, change: &Change) -> anyhow::Result<()> {
        match self.format {
            Format::Table => output::line(&row(change)),
            Format::Ndjson | Format::Json => output::line(&object(change)?),
        }
    }
}

fn op(change: &Change) -> &'static str {
    match (&change.what, change.is_state) {
        (_, true) => "is there",
        (What::Upsert(_), false) => "upsert",
        (What::MovedTo(_), false) => "moved",
        (_, false) => "delete",
    }
}

fn row(change: &Change) -> String {
    let price = match &change.what {
        What::Upsert(Some(listing)) => {
            let listing: Value = listing.json().unwrap_or_default();
            table::shown(&listing["ListPrice"])
        }
        _ => String::new(),
    };
    let before = change.before.as_ref().and_then(|facts| facts.price);
    let cells = [
        change.shard.to_string(),
        change.seq.0.to_string(),
        op(change).to_string(),
        change.zip.to_string(),
        change.id.to_string(),
        price,
        before.map_or(String::new(), |price| price.to_string()),
        change.changed.join(","),
    ];
    table::row(&COLUMNS, cells)
}

/// The event as the API tells it, with the listing as it is.
fn object(change: &Change) -> anyhow::Result<String> {
    let (op, reason) = match &change.what {
        What::Upsert(_) if change.is_state => ("upsert", "state"),
        What::Upsert(_) => ("upsert", "feed"),
        What::MovedTo(_) => ("delete", "moved"),
        _ => ("delete", "feed"),
    };
    let mut head = json!({
        "shard": change.shard.0,
        "seq": change.seq.0.to_string(),
        "op": op,
        "reason": reason,
        "id": change.id.as_str(),
        "zip": change.zip.to_string(),
        "revision": change.revision.0.to_string(),
    });
    if !change.is_state {
        head["prev"] = change.prev.0.to_string().into();
        head["at"] = change.at.0.into();
        head["changed"] = change.changed.clone().into();
    }
    if let What::MovedTo(zip) = &change.what {
        head["moved_to"] = zip.to_string().into();
    }
    if let Some(passage) = change.passage {
        head["filter"] = match passage {
            Passage::Enter => "enter",
            Passage::Update => "update",
            _ => "leave",
        }
        .into();
    }
    let mut line = head.to_string();
    if let What::Upsert(Some(listing)) = &change.what {
        line.pop();
        line.push_str(",\"listing\":");
        line.push_str(std::str::from_utf8(listing.body()).context("a listing is no UTF-8")?);
        line.push('}');
    }
    Ok(line)
}
