//! `platbook cluster`: where everything stands, whether replicas agree, and what to do about it.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use anyhow::{bail, ensure};
use platbook_client::ClientConfig;
use platbook_client::admin::Admin;
use platbook_protocol::{NodeId, ReplicaId, ShardId};
use serde_json::Value;

use crate::output::{self, Format, OutputArgs};
use crate::table::{self, Column};

/// Replicas must stand at the same log position to be compared; under load that takes some looks.
const VERIFY_WITHIN: Duration = Duration::from_secs(60);

/// Nodes, shards and replicas.
#[derive(Debug, clap::Args)]
pub(crate) struct ClusterArgs {
    #[command(subcommand)]
    action: ClusterAction,
}

/// What to see or do.
#[derive(Debug, clap::Subcommand)]
enum ClusterAction {
    /// Nodes, shards, leaders, positions
    Status(StatusArgs),
    /// Compare what the replicas of each shard hold; fails where they differ
    Verify(VerifyArgs),
    /// Move the leadership of a shard to another node
    TransferLeader(TransferArgs),
    /// Rebuild a lost or damaged replica under a new id, while the shard serves
    ReplaceReplica(ReplaceArgs),
}

/// How to show it.
#[derive(Debug, clap::Args)]
struct StatusArgs {
    #[command(flatten)]
    client: ClientConfig,
    #[command(flatten)]
    output: OutputArgs,
}

/// Whom to ask.
#[derive(Debug, clap::Args)]
struct VerifyArgs {
    #[command(flatten)]
    client: ClientConfig,
}

/// Which shard, and where to.
#[derive(Debug, clap::Args)]
struct TransferArgs {
    /// The shard
    shard: u32,
    /// The node that shall lead
    #[arg(long, value_name = "NODE")]
    to: u64,
    #[command(flatten)]
    client: ClientConfig,
}

/// Which replica, and where its successor shall live.
#[derive(Debug, clap::Args)]
struct ReplaceArgs {
    /// The shard
    shard: u32,
    /// The replica to replace
    replica: u64,
    /// The node on which it is rebuilt
    #[arg(long, value_name = "NODE")]
    on: u64,
    #[command(flatten)]
    client: ClientConfig,
}

/// `platbook cluster`.
pub(crate) async fn run(args: ClusterArgs) -> anyhow::Result<()> {
    match args.action {
        ClusterAction::Status(args) => {
            let status = args.client.connect()?.admin().cluster().await?;
            match args.output.format() {
                Format::Table => show(&status),
                Format::Ndjson | Format::Json => output::line(&status.to_string()),
            }
        }
        ClusterAction::Verify(args) => verify(&args.client.connect()?.admin()).await,
        ClusterAction::TransferLeader(args) => {
            let admin = args.client.connect()?.admin();
            let answer = admin.transfer_leader(ShardId(args.shard), NodeId(args.to)).await?;
            output::line(&answer.to_string())
        }
        ClusterAction::ReplaceReplica(args) => {
            let admin = args.client.connect()?.admin();
            let (shard, replica) = (ShardId(args.shard), ReplicaId(args.replica));
            let answer = admin.replace_replica(shard, replica, NodeId(args.on)).await?;
            output::line(&answer.to_string())
        }
    }
}

const NODES: [(&str, Column); 6] = [
    ("id", table::number("NODE", 6)),
    ("address", table::text("ADDRESS", 24)),
    ("zone", table::text("ZONE", 12)),
    ("reachable", table::text("REACHABLE", 9)),
    ("clock_offset_ms", table::number("CLOCK MS", 8)),
    ("damage", table::text("DAMAGE", 40)),
];
const REPLICAS: [(&str, Column); 7] = [
    ("replica", table::number("REPLICA", 7)),
    ("node", table::number("NODE", 6)),
    ("role", table::text("ROLE", 10)),
    ("term", table::number("TERM", 6)),
    ("applied", table::number("APPLIED", 10)),
    ("last_log", table::number("LOG", 10)),
    ("fault", table::text("FAULT", 40)),
];

fn show(status: &Value) -> anyhow::Result<()> {
    let cells = |item: &Value, columns: &[(&str, Column)]| -> Vec<String> {
        columns.iter().map(|(field, _)| table::shown(&item[*field])).collect()
    };
    let shapes = |columns: &[(&str, Column)]| -> Vec<Column> {
        columns.iter().map(|(_, column)| *column).collect()
    };
    output::line(&format!("cluster {}", table::shown(&status["cluster"])))?;
    let nodes = shapes(&NODES);
    output::line(&format!("\n{}", table::head(&nodes)))?;
    for node in list(&status["nodes"]) {
        output::line(&table::row(&nodes, cells(node, &NODES)))?;
    }
    let mut replicas = vec![table::number("SHARD", 6)];
    replicas.extend(shapes(&REPLICAS));
    output::line(&format!("\n{}", table::head(&replicas)))?;
    for shard in list(&status["shards"]) {
        for replica in list(&shard["replicas"]) {
            let id = std::iter::once(table::shown(&shard["id"]));
            let row = table::row(&replicas, id.chain(cells(replica, &REPLICAS)));
            output::line(&row)?;
        }
    }
    Ok(())
}

fn list(value: &Value) -> &[Value] {
    value.as_array().map_or(&[], Vec::as_slice)
}

/// What one look at a shard's replicas shows.
#[derive(Debug, PartialEq)]
enum Agreement {
    /// All stand at the same position with the same content.
    Same,
    /// Same position, other content.
    Different,
    /// Not comparable now: one moves, or does not answer.
    NotYet,
}

async fn verify(admin: &Admin) -> anyhow::Result<()> {
    let from = Instant::now();
    let mut agreed: BTreeSet<String> = BTreeSet::new();
    loop {
        let status = admin.cluster_with_hashes().await?;
        let shards = list(&status["shards"]);
        ensure!(!shards.is_empty(), "the cluster has no shards");
        let mut waiting = Vec::new();
        for shard in shards {
            let id = table::shown(&shard["id"]);
            match agreement(list(&shard["replicas"])) {
                Agreement::Same => {
                    if agreed.insert(id.clone()) {
                        let count = list(&shard["replicas"]).len();
                        output::line(&format!("shard {id}: {count} replicas hold the same"))?;
                    }
                }
                Agreement::Different => bail!("shard {id}: the replicas differ: {shard}"),
                Agreement::NotYet if agreed.contains(&id) => {}
                Agreement::NotYet => waiting.push(id),
            }
        }
        if waiting.is_empty() {
            return Ok(());
        }
        if from.elapsed() > VERIFY_WITHIN {
            bail!("the replicas of these shards never stood still: {}", waiting.join(", "));
        }
    }
}

fn agreement(replicas: &[Value]) -> Agreement {
    let content = |replica: &Value| {
        let content = &replica["content"];
        (content["applied"].as_u64(), content["hash"].as_str().map(str::to_string))
    };
    let contents: BTreeSet<_> = replicas.iter().map(content).collect();
    let applied: BTreeSet<_> = contents.iter().map(|(applied, _)| *applied).collect();
    match (applied.len(), contents.len()) {
        (1, _) if applied.contains(&None) => Agreement::NotYet,
        (1, 1) => Agreement::Same,
        (1, _) => Agreement::Different,
        (_, _) => Agreement::NotYet,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn only_equal_positions_are_compared() {
        let at = |applied: u64, hash: &str| json!({"content": {"applied": applied, "hash": hash}});
        assert_eq!(agreement(&[at(7, "a"), at(7, "a"), at(7, "a")]), Agreement::Same);
        assert_eq!(agreement(&[at(7, "a"), at(7, "b")]), Agreement::Different);
        assert_eq!(agreement(&[at(7, "a"), at(8, "b")]), Agreement::NotYet);
        assert_eq!(agreement(&[at(7, "a"), json!({"content": null})]), Agreement::NotYet);
        assert_eq!(agreement(&[json!({})]), Agreement::NotYet);
    }
}
