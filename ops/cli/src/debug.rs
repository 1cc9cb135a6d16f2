//! `platbook debug`: looking into the data directory of a stopped node. Nothing is written.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail, ensure};
use nix::fcntl::{Flock, FlockArg};
use platbook_engine::log::{InspectedRecord, LogEnd, OsFiles, inspect};
use platbook_engine::store::{InspectedId, Inspection};
use platbook_protocol::register::{Context as Rule, Recreate, Register, is_alive};
use platbook_protocol::row::Row;
use platbook_protocol::{ListingId, Revision, TimeMs};
use serde_json::{Value, json};

use crate::output::{self, Format, OutputArgs};
use crate::table::{self, Column};

/// Look into the data directory of a stopped node
#[derive(Debug, clap::Args)]
pub(crate) struct DebugArgs {
    #[command(subcommand)]
    action: DebugAction,
}

/// What to look at.
#[derive(Debug, clap::Subcommand)]
enum DebugAction {
    /// Records of the log, and whether its end is clean, torn or damaged
    Log(LogArgs),
    /// Keys of the state store by kind; with --list each of them
    Keys(KeysArgs),
    /// Why a listing is alive, dead or suspect, as this node's files have it
    Register(RegisterArgs),
}

/// Which records.
#[derive(Debug, clap::Args)]
struct LogArgs {
    #[command(flatten)]
    node: DataArgs,
    /// Only records of this shard
    #[arg(long, value_name = "N")]
    shard: Option<u32>,
    /// Only the last so many records; 0 for none but the summary
    #[arg(long, value_name = "N", default_value_t = 20)]
    last: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which keys.
#[derive(Debug, clap::Args)]
struct KeysArgs {
    #[command(flatten)]
    node: DataArgs,
    /// List keys instead of counting them
    #[arg(long)]
    list: bool,
    /// Only keys of this kind
    #[arg(long, value_name = "KIND", requires = "list")]
    kind: Option<String>,
    /// Most keys that are listed
    #[arg(long, value_name = "N", default_value_t = 100)]
    limit: usize,
    #[command(flatten)]
    output: OutputArgs,
}

/// Which listing.
#[derive(Debug, clap::Args)]
struct RegisterArgs {
    /// The listing
    #[arg(value_parser = ListingId::try_new)]
    id: ListingId,
    #[command(flatten)]
    node: DataArgs,
    /// The node's setting: largest credible distance between the two clocks
    #[arg(long, value_name = "MS", default_value_t = 300_000)]
    skew_ms: u64,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whose directory.
#[derive(Debug, clap::Args)]
struct DataArgs {
    /// Data directory of a node that is not running
    #[arg(long, value_name = "DIR")]
    data: PathBuf,
}

/// `platbook debug`.
pub(crate) fn run(args: DebugArgs) -> anyhow::Result<()> {
    match args.action {
        DebugAction::Log(args) => log(&args),
        DebugAction::Keys(args) => keys(&args),
        DebugAction::Register(args) => register(&args),
    }
}

/// Keeps a node from starting while its directory is looked at; fails where one runs.
fn lock(data: &Path) -> anyhow::Result<Flock<std::fs::File>> {
    let shown = data.display();
    let file = std::fs::File::open(data.join("lock"))
        .with_context(|| format!("{shown} is no data directory of a node"))?;
    Flock::lock(file, FlockArg::LockExclusiveNonblock)
        .map_err(|_| anyhow::anyhow!("a node is running in {shown}: stop it first"))
}

const LOG_COLUMNS: [Column; 8] = [
    table::number("SEGMENT", 7),
    table::number("OFFSET", 9),
    table::number("ROUND", 9),
    table::text("KIND", 8),
    table::number("SHARD", 5),
    table::number("TERM", 6),
    table::number("INDEX", 9),
    table::number("BYTES", 8),
];

fn log(args: &LogArgs) -> anyhow::Result<()> {
    let _lock = lock(&args.node.data)?;
    let path = args.node.data.join("log");
    ensure!(path.is_dir(), "{} has no log", args.node.data.display());
    let files = OsFiles::try_new(&path).context("opening the log")?;
    let mut last: std::collections::VecDeque<InspectedRecord> = Default::default();
    let log = inspect(&files, |record| {
        if args.shard.is_none_or(|shard| record.shard.0 == shard) && args.last > 0 {
            if last.len() == args.last {
                last.pop_front();
            }
            last.push_back(*record);
        }
    })?;
    let end = match log.at_end {
        LogEnd::Clean => "clean",
        LogEnd::Torn => "torn: a start cuts what is no whole round",
        LogEnd::Damaged => "damaged: a start refuses, later rounds stand behind it",
    };
    let format = args.output.format();
    if format == Format::Table {
        output::line(&table::head(&LOG_COLUMNS))?;
    }
    for r in &last {
        let record = json!({
            "segment": r.segment, "offset": r.offset, "round": r.round, "kind": r.kind,
            "shard": r.shard.0, "replica": r.replica.0, "term": r.term, "index": r.index,
            "bytes": r.bytes,
        });
        match format {
            Format::Table => {
                const FIELDS: [&str; 8] =
                    ["segment", "offset", "round", "kind", "shard", "term", "index", "bytes"];
                let values = FIELDS.map(|field| table::shown(&record[field]));
                output::line(&table::row(&LOG_COLUMNS, values))?;
            }
            Format::Ndjson | Format::Json => output::line(&record.to_string())?,
        }
    }
    let summary = json!({
        "segments": log.segments, "rounds": log.rounds, "records": log.records,
        "end_segment": log.end.0, "end_offset": log.end.1, "end": end,
    });
    print(&summary, format)
}

fn store(data: &Path) -> anyhow::Result<Inspection> {
    let path = data.join("db");
    ensure!(path.is_dir(), "{} has no state", data.display());
    Ok(Inspection::open(&path)?)
}

fn keys(args: &KeysArgs) -> anyhow::Result<()> {
    let _lock = lock(&args.node.data)?;
    let store = store(&args.node.data)?;
    let format = args.output.format();
    if !args.list {
        let totals = store.totals()?;
        let totals = totals
            .into_iter()
            .map(|(kind, of)| (kind.to_string(), json!({"keys": of.keys, "bytes": of.bytes})));
        return print(&Value::Object(totals.collect()), format);
    }
    let mut left = args.limit;
    let mut printed = Ok(());
    store.keys(|key| {
        if args.kind.as_ref().is_some_and(|kind| kind != key.kind) {
            return true;
        }
        if left == 0 {
            return false;
        }
        left -= 1;
        let shard = key.shard.map(|shard| shard.0);
        let line = match format {
            Format::Table => {
                let shard = shard.map_or_else(String::new, |shard| format!("shard {shard} "));
                format!("{:<11} {shard}{} ({} bytes)", key.kind, key.text, key.value_bytes)
            }
            Format::Ndjson | Format::Json => json!({
                "kind": key.kind, "shard": shard, "key": key.text, "key_bytes": key.key_bytes,
                "value_bytes": key.value_bytes,
            })
            .to_string(),
        };
        printed = output::line(&line);
        printed.is_ok()
    })?;
    printed
}

fn register(args: &RegisterArgs) -> anyhow::Result<()> {
    let _lock = lock(&args.node.data)?;
    let Some(found) = store(&args.node.data)?.id(args.id.as_str())? else {
        bail!(
            "nothing is known of {} here: it was never heard of, belongs to a shard of other \
             nodes, or is only in the log",
            args.id
        );
    };
    let InspectedId { register, touched, rows } = found;
    let upsert = register.upsert.map(|upsert| {
        json!({
            "modified": upsert.version.modified.0, "sent": upsert.version.sent.0,
            "digest": format!("{:?}", upsert.version.digest), "zip": upsert.zip.to_string(),
        })
    });
    let row = |row: &Row| match row {
        Row::Live { revision, .. } => json!({"live": true, "revision": revision.to_string()}),
        Row::Marker { revision, laid } => {
            json!({"live": false, "revision": revision.to_string(), "laid": laid.0})
        }
    };
    let rows: serde_json::Map<String, Value> =
        rows.iter().map(|(zip, found)| (zip.to_string(), row(found))).collect();
    let old: Vec<String> = register.old.iter().map(ToString::to_string).collect();
    let report = json!({
        "id": args.id.as_str(), "alive": register.alive, "why": why(&register, args.skew_ms),
        "zip": register.zip.map(|zip| zip.to_string()), "revision": register.revision.to_string(),
        "died": register.died.to_string(), "touched": touched.0, "upsert": upsert,
        "delete": register.delete.map(|sent| sent.0), "to_erase": old, "body_held": register.held,
        "rows": rows,
    });
    print(&report, args.output.format())
}

/// The rule, applied to what the register holds, in words.
fn why(register: &Register, skew_ms: u64) -> String {
    let rule = Rule {
        clock: TimeMs(0),
        skew_ms,
        recreate: Recreate::BothClocks,
        shard_floor: Revision(0),
        register_horizon: TimeMs(0),
    };
    let (Some(upsert), Some(deleted)) = (register.upsert, register.delete) else {
        return match (register.upsert, register.delete) {
            (Some(_), _) => "alive: no delete is known".to_string(),
            (None, _) => "dead: only a delete is known".to_string(),
        };
    };
    let version = upsert.version;
    let by_queue = version.sent > deleted;
    let by_operator = version.modified.0 >= deleted.0.saturating_sub(skew_ms);
    let verdict = if register.alive { "alive" } else { "dead" };
    let reason = match (by_queue, by_operator) {
        (true, true) => {
            "the greatest upsert was sent after the greatest delete, and modified late \
                         enough"
        }
        (true, false) => {
            "suspect: the greatest upsert was sent after the greatest delete, but \
                          modified more than the skew before it"
        }
        (false, _) => "the greatest delete was sent after the greatest upsert, or with it",
    };
    let note = match is_alive(register.upsert, register.delete, &rule) == register.alive {
        true => "",
        false => {
            "; by this skew and rule it would be the other way: the node has other settings, \
                  or the message that brings the body is still to come"
        }
    };
    format!("{verdict}: {reason}{note}")
}

fn print(report: &Value, format: Format) -> anyhow::Result<()> {
    match format {
        Format::Json => output::line(&serde_json::to_string_pretty(report)?),
        Format::Ndjson => output::line(&report.to_string()),
        Format::Table => {
            for (name, value) in report.as_object().into_iter().flatten() {
                output::line(&format!("{name:12} {}", table::shown(value)))?;
            }
            Ok(())
        }
    }
}

#[cfg(test)]
mod tests {
    use platbook_protocol::register::{Upsert, Version};
    use platbook_protocol::{Digest, Zip};

    use super::*;

    fn register(modified: u64, sent: u64, deleted: Option<u64>, alive: bool) -> Register {
        let version =
            Version { modified: TimeMs(modified), sent: TimeMs(sent), digest: Digest([0; 16]) };
        let upsert = Some(Upsert { version, zip: Zip::Unknown });
        Register { upsert, delete: deleted.map(TimeMs), alive, ..Register::default() }
    }

    #[test]
    fn the_reason_is_the_rules_own() {
        let why = |register| super::why(&register, 100);
        assert!(why(register(5, 5, None, true)).starts_with("alive: no delete"));
        assert!(why(register(1_000, 1_000, Some(900), true)).starts_with("alive: the greatest"));
        assert!(why(register(1_000, 800, Some(900), false)).starts_with("dead: the greatest del"));
        assert!(why(register(100, 1_000, Some(900), false)).starts_with("dead: suspect"));
        assert!(why(register(100, 1_000, Some(900), true)).contains("other settings"));
    }
}
