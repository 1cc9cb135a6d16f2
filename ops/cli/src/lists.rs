//! `platbook quarantine` and `platbook suspects`: what an operator looks after.

use anyhow::Context;
use platbook_client::ClientConfig;
use platbook_client::admin::Page;
use serde_json::Value;

use crate::output::{self, Format, OutputArgs};
use crate::table::{self, Column};

/// Entries that are asked for at a time.
const PAGE: u32 = 500;

/// Messages that could not be applied.
#[derive(Debug, clap::Args)]
pub(crate) struct QuarantineArgs {
    #[command(subcommand)]
    action: QuarantineAction,
}

/// What to do with them.
#[derive(Debug, clap::Subcommand)]
enum QuarantineAction {
    /// All of them, without their bodies
    List(ListArgs),
    /// One of them, with its body
    Show(MessageArgs),
    /// Try to apply one again
    Retry(MessageArgs),
    /// Forget one for good
    Drop(MessageArgs),
}

/// How to show a list.
#[derive(Debug, clap::Args)]
pub(crate) struct ListArgs {
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which message.
#[derive(Debug, clap::Args)]
struct MessageArgs {
    /// The queue's message id
    message_id: String,
    #[command(flatten)]
    client: ClientConfig,
}

/// `platbook quarantine`.
pub(crate) async fn run_quarantine(args: QuarantineArgs) -> anyhow::Result<()> {
    match args.action {
        QuarantineAction::List(args) => {
            let admin = args.client.connect()?.admin();
            let page =
                async |cursor: Option<String>| admin.quarantine_list(PAGE, cursor.as_deref()).await;
            let columns = [
                ("message_id", table::text("MESSAGE", 36)),
                ("code", table::text("CODE", 20)),
                ("detail", table::text("DETAIL", 60)),
            ];
            list(&args.output, &columns, page).await
        }
        QuarantineAction::Show(args) => {
            let admin = args.client.connect()?.admin();
            let found = admin.quarantine_get(&args.message_id).await?;
            let message = found.with_context(|| missing(&args.message_id))?;
            output::line(&serde_json::to_string_pretty(&message)?)
        }
        QuarantineAction::Retry(args) => {
            let admin = args.client.connect()?.admin();
            output::line(&admin.quarantine_retry(&args.message_id).await?.to_string())
        }
        QuarantineAction::Drop(args) => {
            Ok(args.client.connect()?.admin().quarantine_drop(&args.message_id).await?)
        }
    }
}

fn missing(message_id: &str) -> String {
    format!("message {message_id} is not in quarantine")
}

/// `platbook suspects`.
pub(crate) async fn run_suspects(args: ListArgs) -> anyhow::Result<()> {
    let admin = args.client.connect()?.admin();
    let page = async |cursor: Option<String>| admin.suspects(PAGE, cursor.as_deref()).await;
    let columns = [("id", table::text("ID", 40)), ("reason", table::text("REASON", 40))];
    list(&args.output, &columns, page).await
}

async fn list(
    args: &OutputArgs,
    columns: &[(&str, Column)],
    mut page: impl AsyncFnMut(Option<String>) -> Result<Page, platbook_client::Error>,
) -> anyhow::Result<()> {
    let format = args.format();
    let shapes: Vec<Column> = columns.iter().map(|(_, column)| *column).collect();
    if format == Format::Table {
        output::line(&table::head(&shapes))?;
    }
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let Page { items, next, .. } = page(cursor).await?;
        for item in items {
            match format {
                Format::Table => {
                    let value = |(field, _): &(&str, Column)| table::shown(&item[*field]);
                    output::line(&table::row(&shapes, columns.iter().map(value)))?;
                }
                Format::Ndjson => output::line(&item.to_string())?,
                Format::Json => all.push(item),
            }
        }
        match next {
            Some(_) => cursor = next,
            None if format == Format::Json => {
                return output::line(&Value::Array(all).to_string());
            }
            None => return Ok(()),
        }
    }
}
