//! Settings of a storage node.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use platbook_protocol::NodeId;
use serde::{Deserialize, Serialize};

/// Smallest log segment: a record is at most a quarter of one, and every node of a cluster must be
/// able to keep what the others accept.
const LOG_SEGMENT_BYTES_MIN: u64 = 8 << 20;

/// One storage node: where it keeps its data, where it listens, who its peers are.
#[derive(Clone, Debug, clap::Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub struct NodeConfig {
    /// Number of this node, unique in the cluster and kept for as long as its data directory
    #[arg(long, env = "PLATBOOK_ID", value_name = "N")]
    pub id: u64,
    /// Data directory
    #[arg(long, env = "PLATBOOK_DATA", value_name = "DIR")]
    pub data: PathBuf,
    /// Address to listen on
    #[arg(long, env = "PLATBOOK_LISTEN", value_name = "ADDR")]
    pub listen: SocketAddr,
    /// Address under which peers and routers reach this node, if it is not the one listened on
    #[arg(long, env = "PLATBOOK_ADVERTISE", value_name = "ADDR")]
    #[serde(default)]
    pub advertise: Option<String>,
    /// Zone in which this node stands; replicas of a shard are placed in different zones
    #[arg(long, env = "PLATBOOK_ZONE", value_name = "Z", default_value = "")]
    #[serde(default)]
    pub zone: String,
    /// All nodes of a new cluster, this one included; used by the first start only
    #[arg(long, env = "PLATBOOK_PEERS", value_name = "1=ADDR,2=ADDR", value_delimiter = ',')]
    #[serde(default)]
    pub peers: Vec<Peer>,
    /// Shards of a new cluster; used by the first start only
    #[arg(long, env = "PLATBOOK_SHARDS", value_name = "N", default_value_t = 16)]
    #[serde(default = "defaults::shards")]
    pub shards: u32,
    /// Come back to the cluster with an empty data directory: ask the peers for the map, start
    /// none of the lost replicas, and wait for `cluster replace-replica`
    #[arg(long, env = "PLATBOOK_REJOIN")]
    #[serde(default)]
    pub rejoin: bool,
    /// Memory to divide between caches, memtables, log tail and requests, in bytes
    /// [default: half of what the machine or its cgroup has]
    #[arg(long, env = "PLATBOOK_MEMORY_MAX", value_name = "BYTES")]
    #[serde(default)]
    pub memory_max: Option<u64>,
    /// Bytes of log kept for followers and readers of changes
    /// [default: a tenth of the disk, from 1 to 64 GiB]
    #[arg(long, env = "PLATBOOK_LOG_BYTES_MAX", value_name = "BYTES")]
    #[serde(default)]
    pub log_bytes_max: Option<u64>,
    /// How long the log is kept for followers and readers of changes, in hours; 0: for as long as
    /// there is room
    #[arg(long, env = "PLATBOOK_LOG_RETENTION_HOURS", value_name = "HOURS", default_value_t = 24)]
    #[serde(default = "defaults::log_retention_hours")]
    pub log_retention_hours: u32,
    /// Period in which log and tables are read again to find what the disk has lost, in hours;
    /// 0: never
    #[arg(long, env = "PLATBOOK_SCRUB_HOURS", value_name = "HOURS", default_value_t = 168)]
    #[serde(default = "defaults::scrub_hours")]
    pub scrub_hours: u32,
    /// Bytes of one log segment, at least 8 MiB and a multiple of 512
    #[arg(long, env = "PLATBOOK_LOG_SEGMENT_BYTES", value_name = "BYTES")]
    #[arg(default_value_t = 64 << 20)]
    #[serde(default = "defaults::log_segment_bytes")]
    pub log_segment_bytes: u64,
    /// Interval of a leader's heartbeats, in milliseconds
    #[arg(long, env = "PLATBOOK_HEARTBEAT_MS", value_name = "MS", default_value_t = 75)]
    #[serde(default = "defaults::heartbeat_ms")]
    pub heartbeat_ms: u64,
    /// Shortest silence of a leader after which others campaign, in milliseconds; the longest is
    /// half as long again
    #[arg(long, env = "PLATBOOK_ELECTION_MS", value_name = "MS", default_value_t = 500)]
    #[serde(default = "defaults::election_ms")]
    pub election_ms: u64,
    /// Largest credible distance between the operator's and the queue's clock, in milliseconds
    #[arg(long, env = "PLATBOOK_SKEW_MS", value_name = "MS", default_value_t = 300_000)]
    #[serde(default = "defaults::skew_ms")]
    pub skew_ms: u64,
    /// Rule for coming back after a delete: both clocks must say so, or the queue's alone
    #[arg(long, env = "PLATBOOK_RECREATE", value_enum, default_value_t = RecreateRule::BothClocks)]
    #[serde(default)]
    pub recreate: RecreateRule,
    /// How long deleted listings are remembered, in days
    #[arg(long, env = "PLATBOOK_TOMBSTONE_DAYS", value_name = "DAYS", default_value_t = 60)]
    #[serde(default = "defaults::tombstone_days")]
    pub tombstone_days: u64,
    /// Free disk share below which the node becomes read-only, in percent
    #[arg(long, env = "PLATBOOK_DISK_FREE_MIN", value_name = "PERCENT", default_value_t = 5)]
    #[serde(default = "defaults::disk_free_percent_min")]
    pub disk_free_percent_min: u8,
    /// Listen on an address that is not loopback although there is no TLS yet
    #[arg(long, env = "PLATBOOK_INSECURE")]
    #[serde(default)]
    pub insecure: bool,
}

/// `recreate` as users write it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[value(rename_all = "snake_case")]
pub enum RecreateRule {
    /// The operator's clock and the queue's clock must both be later than the delete.
    #[default]
    BothClocks,
    /// The queue's clock is enough; the id is listed as a suspect.
    QueueTime,
}

/// One entry of `--peers`: `1=127.0.0.1:7001`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Peer {
    /// Its number.
    pub id: NodeId,
    /// Its `host:port`.
    pub address: String,
}

impl std::str::FromStr for Peer {
    type Err = String;

    fn from_str(text: &str) -> Result<Peer, String> {
        let wanted = || format!("`{text}` is not of the form NUMBER=HOST:PORT");
        let (id, address) = text.split_once('=').ok_or_else(wanted)?;
        let id = id.trim().parse().map_err(|_| wanted())?;
        let port = address.rsplit_once(':').and_then(|(_, port)| port.parse::<u16>().ok());
        match port {
            Some(_) => Ok(Peer { id: NodeId(id), address: address.trim().to_string() }),
            None => Err(wanted()),
        }
    }
}

impl TryFrom<String> for Peer {
    type Error = String;

    fn try_from(text: String) -> Result<Peer, String> {
        text.parse()
    }
}

impl From<Peer> for String {
    fn from(peer: Peer) -> String {
        format!("{}={}", peer.id, peer.address)
    }
}

impl NodeConfig {
    /// The node's number.
    pub fn node(&self) -> NodeId {
        NodeId(self.id)
    }

    /// Where others reach the node.
    pub fn advertised(&self) -> String {
        self.advertise.clone().unwrap_or_else(|| self.listen.to_string())
    }

    /// How often everything on disk is read again; `None`: never.
    pub(crate) fn scrub_period(&self) -> Option<Duration> {
        match self.scrub_hours {
            0 => None,
            hours => Some(Duration::from_secs(u64::from(hours) * 60 * 60)),
        }
    }

    /// Finds contradictions before anything is touched; the text names the setting.
    pub fn check(&self) -> Result<(), String> {
        if self.id == 0 {
            return Err("id is 0, numbers of nodes start at 1".into());
        }
        if !(1..=4096).contains(&self.shards) {
            return Err(format!("shards is {}, allowed are 1 to 4096", self.shards));
        }
        if self.heartbeat_ms == 0 || self.heartbeat_ms * 5 > self.election_ms {
            let (heartbeat, election) = (self.heartbeat_ms, self.election_ms);
            return Err(format!(
                "heartbeat-ms is {heartbeat}, it must be at least 1 and at most a fifth of \
                 election-ms ({election})"
            ));
        }
        if self.log_segment_bytes < LOG_SEGMENT_BYTES_MIN {
            return Err(format!(
                "log-segment-bytes is {}, it must be at least {LOG_SEGMENT_BYTES_MIN}: a segment \
                 has to hold the largest proposal four times",
                self.log_segment_bytes
            ));
        }
        let mut ids: Vec<u64> = self.peers.iter().map(|peer| peer.id.0).collect();
        ids.sort_unstable();
        if ids.windows(2).any(|pair| pair[0] == pair[1]) {
            return Err("peers names one number twice".into());
        }
        if !self.peers.is_empty() && !ids.contains(&self.id) {
            return Err(format!("peers does not name this node ({})", self.id));
        }
        if !self.listen.ip().is_loopback() && !self.insecure {
            return Err(format!(
                "listen is {}, which is not loopback: there is no TLS yet, so anybody who reaches \
                 it can read and write; give --insecure to accept that",
                self.listen
            ));
        }
        Ok(())
    }
}

mod defaults {
    pub(super) fn shards() -> u32 {
        16
    }
    pub(super) fn log_retention_hours() -> u32 {
        24
    }
    pub(super) fn scrub_hours() -> u32 {
        168
    }
    pub(super) fn log_segment_bytes() -> u64 {
        64 << 20
    }
    pub(super) fn heartbeat_ms() -> u64 {
        75
    }
    pub(super) fn election_ms() -> u64 {
        500
    }
    pub(super) fn skew_ms() -> u64 {
        300_000
    }
    pub(super) fn tombstone_days() -> u64 {
        60
    }
    pub(super) fn disk_free_percent_min() -> u8 {
        5
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_segment_that_cannot_hold_what_the_cluster_accepts_is_refused_by_name() {
        let with = |bytes: u64| -> NodeConfig {
            let config = serde_json::json!({
                "id": 1, "data": "data", "listen": "127.0.0.1:7001", "log-segment-bytes": bytes,
            });
            serde_json::from_value(config).expect("a configuration")
        };
        assert_eq!(with(LOG_SEGMENT_BYTES_MIN).check(), Ok(()));
        let said = with(LOG_SEGMENT_BYTES_MIN - 1).check().expect_err("too small");
        assert!(said.starts_with("log-segment-bytes is 8388607, it must be at least 8388608"));
        let record_max = LOG_SEGMENT_BYTES_MIN as usize / 4;
        assert!(platbook_protocol::op::PROPOSAL_BYTES_MAX + 1024 <= record_max);
    }
}
