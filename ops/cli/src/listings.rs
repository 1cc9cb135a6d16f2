//! `platbook zip`, `get`, `compare`, `put` and `delete`: the API from a terminal.

use std::io::Read;
use std::path::PathBuf;

use anyhow::{Context, bail};
use bytes::Bytes;
use platbook_client::{ClientConfig, Listing, ListingId, Revision, Write, Written, Zip, ZipQuery};
use serde_json::{Value, json};

use crate::output::{self, Format, OutputArgs};
use crate::table::{self, Column};

/// Which listings of a ZIP.
#[derive(Debug, clap::Args)]
pub(crate) struct ZipArgs {
    /// Five digits, ZIP+4 or `unknown`
    #[arg(value_parser = zip)]
    zip: Zip,
    /// Most listings
    #[arg(long, value_name = "N")]
    limit: Option<u64>,
    /// Least price
    #[arg(long, value_name = "PRICE")]
    min_price: Option<u64>,
    /// Greatest price
    #[arg(long, value_name = "PRICE")]
    max_price: Option<u64>,
    /// Least number of bedrooms
    #[arg(long, value_name = "N")]
    min_beds: Option<u16>,
    /// Only this status
    #[arg(long)]
    status: Option<String>,
    /// Only this property type
    #[arg(long = "type", value_name = "TYPE")]
    property_type: Option<String>,
    /// Only these fields of each listing
    #[arg(long, value_delimiter = ',', value_name = "FIELD,...")]
    fields: Vec<String>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which listing.
#[derive(Debug, clap::Args)]
pub(crate) struct GetArgs {
    /// The listing
    #[arg(value_parser = ListingId::try_new)]
    id: ListingId,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which listings.
#[derive(Debug, clap::Args)]
pub(crate) struct CompareArgs {
    /// The listings
    #[arg(value_parser = ListingId::try_new, value_name = "ID")]
    #[arg(required = true, num_args = 1..=100)]
    ids: Vec<ListingId>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to put.
#[derive(Debug, clap::Args)]
pub(crate) struct PutArgs {
    /// A listing as JSON; `-` is standard input
    file: PathBuf,
    /// Id of the listing; default: its `ListingKey`
    #[arg(long, value_parser = ListingId::try_new)]
    id: Option<ListingId>,
    /// Only if this is the current revision
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// What to delete.
#[derive(Debug, clap::Args)]
pub(crate) struct DeleteArgs {
    /// The listing
    #[arg(value_parser = ListingId::try_new)]
    id: ListingId,
    /// Only if this is the current revision
    #[arg(long, value_name = "REVISION")]
    if_match: Option<u64>,
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

fn zip(text: &str) -> Result<Zip, String> {
    Zip::try_parse(text).ok_or_else(|| "a ZIP is five digits, ZIP+4 or `unknown`".to_string())
}

/// What people want to see of a listing first, by RESO's names.
const FACTS: [(&str, &str, Column); 7] = [
    ("ID", "ListingKey", table::text("ID", 14)),
    ("PRICE", "ListPrice", table::number("PRICE", 11)),
    ("STATUS", "StandardStatus", table::text("STATUS", 10)),
    ("BEDS", "BedroomsTotal", table::number("BEDS", 4)),
    ("BATHS", "BathroomsTotalInteger", table::number("BATHS", 5)),
    ("AREA", "LivingArea", table::number("AREA", 6)),
    ("ADDRESS", "UnparsedAddress", table::text("ADDRESS", 34)),
];

/// `platbook zip`.
pub(crate) async fn run_zip(args: ZipArgs) -> anyhow::Result<()> {
    let query = ZipQuery {
        limit: args.limit,
        cursor: None,
        min_price: args.min_price,
        max_price: args.max_price,
        min_beds: args.min_beds,
        status: args.status,
        property_type: args.property_type,
        fields: args.fields,
    };
    let mut listings = args.client.connect()?.zip(args.zip).query(query).stream().await?;
    let format = args.output.format();
    let columns = FACTS.map(|(_, _, column)| column);
    match format {
        Format::Table => output::line(&table::head(&columns))?,
        Format::Json => output::text("[")?,
        Format::Ndjson => {}
    }
    let mut count = 0_u64;
    while let Some(listing) = listings.try_next().await? {
        match format {
            Format::Table => output::line(&table::row(&columns, facts(listing.body())))?,
            Format::Json if count > 0 => output::text(",")?,
            Format::Json | Format::Ndjson => {}
        }
        match format {
            Format::Table => {}
            Format::Json => output::bytes(listing.body())?,
            Format::Ndjson => output::bytes(&[listing.as_ref(), b"\n"].concat())?,
        }
        count += 1;
    }
    match format {
        Format::Table => output::line(&format!("{count} listings")),
        Format::Json => output::line("]"),
        Format::Ndjson => Ok(()),
    }
}

fn facts(listing: &[u8]) -> Vec<String> {
    // What the router sends is JSON; anything else shows as an empty line, not as a crash.
    let listing: Value = serde_json::from_slice(listing).unwrap_or_default();
    FACTS.iter().map(|(_, field, _)| table::shown(&listing[field])).collect()
}

/// `platbook get`.
pub(crate) async fn run_get(args: GetArgs) -> anyhow::Result<()> {
    let found = args.client.connect()?.get(&args.id).await?;
    let Some(listing) = found else { bail!("listing {} not found", args.id) };
    match args.output.format() {
        Format::Table => {
            output::line(&format!("id        {}", args.id))?;
            output::line(&format!("zip       {}", listing.zip))?;
            output::line(&format!("revision  {}", listing.revision))?;
            let body: Value = listing.json().context("reading a listing")?;
            output::line(&serde_json::to_string_pretty(&body)?)
        }
        Format::Ndjson | Format::Json => output::bytes(&[listing.listing.as_ref(), b"\n"].concat()),
    }
}

/// `platbook compare`.
pub(crate) async fn run_compare(args: CompareArgs) -> anyhow::Result<()> {
    let found = args.client.connect()?.compare(&args.ids).await?;
    let raw = |listing: &Option<Listing>| match listing {
        Some(listing) => String::from_utf8_lossy(listing.body()).into_owned(),
        None => "null".to_string(),
    };
    let lines: Vec<String> = found.iter().map(raw).collect();
    match args.output.format() {
        Format::Ndjson => lines.iter().try_for_each(|line| output::line(line)),
        Format::Json => output::line(&format!("[{}]", lines.join(","))),
        Format::Table => {
            let listings: Vec<Vec<String>> = lines.iter().map(|l| facts(l.as_bytes())).collect();
            let mut columns = vec![table::text("", 8)];
            columns.extend(listings.iter().map(|_| table::text("", 24)));
            for (at, (title, _, _)) in FACTS.iter().enumerate() {
                let values = listings.iter().map(|listing| listing[at].clone());
                let row = std::iter::once((*title).to_string()).chain(values);
                output::line(&table::row(&columns, row))?;
            }
            let missing = |(id, line): (&ListingId, &String)| (line == "null").then(|| id.clone());
            for id in args.ids.iter().zip(&lines).filter_map(missing) {
                output::line(&format!("not found: {id}"))?;
            }
            Ok(())
        }
    }
}

/// `platbook put`.
pub(crate) async fn run_put(args: PutArgs) -> anyhow::Result<()> {
    let body = read(&args.file)?;
    let id = match args.id {
        Some(id) => id,
        None => {
            let listing: Value = serde_json::from_slice(&body)
                .with_context(|| format!("{} is not JSON", args.file.display()))?;
            let key = listing["ListingKey"].as_str().context("no ListingKey; give --id")?;
            ListingId::try_new(key)?
        }
    };
    let write = only_if(Write::put(&id, body)?, args.if_match);
    let answer = args.client.connect()?.send(&write).await?;
    told(&id, answer, &args.output)
}

/// `platbook delete`.
pub(crate) async fn run_delete(args: DeleteArgs) -> anyhow::Result<()> {
    let write = only_if(Write::delete(&args.id)?, args.if_match);
    let answer = args.client.connect()?.send(&write).await?;
    told(&args.id, answer, &args.output)
}

fn only_if(write: Write, if_match: Option<u64>) -> Write {
    match if_match {
        Some(revision) => write.if_match(Revision(revision)),
        None => write,
    }
}

fn read(file: &PathBuf) -> anyhow::Result<Bytes> {
    if file.as_os_str() == "-" {
        let mut body = Vec::new();
        std::io::stdin().lock().read_to_end(&mut body).context("reading standard input")?;
        return Ok(body.into());
    }
    let body = std::fs::read(file).with_context(|| format!("reading {}", file.display()))?;
    Ok(body.into())
}

fn told(id: &ListingId, answer: Written, args: &OutputArgs) -> anyhow::Result<()> {
    let outcome = format!("{:?}", answer.outcome).to_lowercase();
    let revision = answer.revision.map(|revision| revision.to_string());
    match args.format() {
        Format::Table => {
            let revision = revision.map_or_else(String::new, |text| format!(" at revision {text}"));
            output::line(&format!("{id}: {outcome}{revision}"))
        }
        Format::Ndjson | Format::Json => output::line(
            &json!({"id": id.as_str(), "outcome": outcome, "revision": revision}).to_string(),
        ),
    }
}
