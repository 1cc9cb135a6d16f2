//! What a node tells about itself, in Prometheus' text format.

use std::fmt::Write;

use crate::node::Node;
use crate::raft::Role;

/// Renders all metrics of a node.
pub(crate) fn render(node: &Node) -> String {
    let mut out = String::new();
    let mut put = |name: &str, help: &str, value: f64| {
        let kind = if name.ends_with("_total") { "counter" } else { "gauge" };
        // Writing to a string cannot fail.
        let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}\n{name} {value}");
    };
    let shards = node.shards().all();
    let standings: Vec<_> = shards.iter().map(|shard| shard.group().standing()).collect();
    let led = standings.iter().filter(|s| s.role == Role::Leader).count();
    let fenced = standings.iter().filter(|s| s.fault.is_some()).count();
    let leaderless = standings.iter().filter(|s| s.leader.is_none()).count();
    put("platbook_node_replicas", "Replicas that run here.", shards.len() as f64);
    put("platbook_node_replicas_leading", "Replicas that lead their shard.", led as f64);
    put("platbook_node_replicas_fenced", "Replicas that stopped by a fault.", fenced as f64);
    put(
        "platbook_node_replicas_missing",
        "Replicas placed on this node that do not run.",
        node.replicas_missing() as f64,
    );
    put("platbook_node_shards_leaderless", "Shards without a known leader.", leaderless as f64);
    put(
        "platbook_node_read_only",
        "1 while writes are refused because the disk is nearly full.",
        f64::from(u8::from(node.is_read_only())),
    );
    put(
        "platbook_node_damaged",
        "1 once something on disk was found lost: the node has to be rebuilt.",
        f64::from(u8::from(node.health().damage().is_some())),
    );
    put(
        "platbook_node_disk_slow",
        "1 while the log's disk is so slow that the node leads nothing.",
        f64::from(u8::from(node.health().is_disk_slow())),
    );
    let scrub = node.scrub().progress();
    put("platbook_node_scrub_bytes_total", "Bytes read again to be checked.", scrub.bytes as f64);
    put("platbook_node_scrub_passes_total", "Times that all was read.", scrub.passes as f64);
    put(
        "platbook_node_clock_offset_ms",
        "Distance of this clock to the median of the cluster's.",
        node.clock_offset_ms() as f64,
    );
    put(
        "platbook_node_leaderships_received_total",
        "Leaderships that were handed to replicas of this node.",
        node.health().leaderships_received() as f64,
    );
    put(
        "platbook_node_callers_refused_total",
        "Connections, links and calls refused as malformed or not of this cluster.",
        node.objections().count() as f64,
    );
    if let Some(disk) = node.opened() {
        let log = disk.log.counters();
        put("platbook_log_syncs_total", "Calls of fdatasync.", log.syncs as f64);
        put("platbook_log_records_total", "Records written.", log.records as f64);
        put("platbook_log_bytes_total", "Bytes written.", log.bytes as f64);
        put("platbook_log_sync_us_p50", "Median of fdatasync.", log.sync_us_p50 as f64);
        put("platbook_log_sync_us_p99", "99th percentile of fdatasync.", log.sync_us_p99 as f64);
        put("platbook_log_disk_bytes", "Bytes of all segments.", log.disk_bytes as f64);
        let store = disk.store.counters();
        put("platbook_store_file_bytes", "Bytes of all tables.", store.file_bytes as f64);
        put("platbook_store_memtable_bytes", "Bytes not flushed.", store.memtable_bytes as f64);
        put("platbook_store_cache_bytes", "Bytes of cached blocks.", store.cache_bytes as f64);
    }
    out
}
