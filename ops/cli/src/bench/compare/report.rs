//! The result as JSON: for every figure the lowest, middle and highest of the rounds.

use std::time::Duration;

use anyhow::Context;
use platbook_chaos_tests::operator::{now_ms, timestamp};
use serde_json::{Map, Value, json};

use super::super::bare::Bare;
use super::super::ingest::spread;
use super::super::reads::{ReadLoop, quantile};
use super::live::{self, Live};
use super::restart::{self, Restart};
use super::ways::{Round, Way};
use super::zips::Measured;
use super::{CompareArgs, Scale, machine};

/// A report that is being made.
pub(super) struct Report {
    value: Map<String, Value>,
    versions: Map<String, Value>,
}

impl Report {
    /// What is known before anything runs; `disk` is what syncs took, ascending.
    pub(super) fn new(args: &CompareArgs, scale: &Scale, ratio: f64, disk: &[Duration]) -> Report {
        let conditions = json!({
            "at": timestamp(now_ms()),
            "optimised": !cfg!(debug_assertions),
            "quick": args.quick,
            "machine": machine::facts(),
            "sync_ms": {"p50": ms(quantile(disk, 50)), "p99": ms(quantile(disk, 99))},
            "listing_bytes": args.bytes,
            "zstd_ratio": ratio,
            "rounds": scale.rounds,
            "listings": scale.load,
            "shards": args.shards,
            "seed": args.seed,
        });
        let value = [("conditions".to_string(), conditions)].into_iter().collect();
        Report { value, versions: Map::new() }
    }

    /// A system took part.
    pub(super) fn add_version(&mut self, system: &str, version: String) {
        self.versions.insert(system.to_string(), version.into());
    }

    /// What writing took.
    pub(super) fn add_ingest(&mut self, ways: &[Way], rounds: &[Vec<Round>]) {
        let row = |(way, rounds): (&Way, &Vec<Round>)| {
            let synced = rounds.iter().find_map(|round| round.synced.clone());
            json!({
                "system": way.system.name(), "way": way.name,
                "clients": way.clients, "batch": way.batch,
                "figures": figures(&WRITTEN, rounds),
                "synced": synced.map(|synced| json!({"puts": synced.puts, "calls": synced.calls})),
            })
        };
        let rows = ways.iter().zip(rounds).map(row).collect();
        self.value.insert("ingest".to_string(), rows);
    }

    /// How fast the disk and the processors are without a cluster.
    pub(super) fn add_bare(&mut self, ceilings: &[Bare]) {
        self.value.insert("bare".to_string(), json!({"figures": figures(&BARE, ceilings)}));
    }

    /// What reading took.
    pub(super) fn add_reads(&mut self, measured: &[Measured]) {
        let row = |one: &Measured| {
            json!({
                "system": one.system, "case": one.case.name(),
                "zip_listings": one.zip_listings, "readers": one.readers,
                "figures": figures(&READ, &one.rounds),
            })
        };
        self.value.insert("reads".to_string(), measured.iter().map(row).collect());
    }

    /// A part that was added; null where it was not.
    pub(super) fn part(&self, name: &str) -> &Value {
        self.value.get(name).unwrap_or(&Value::Null)
    }

    /// What happened at half load.
    pub(super) fn add_live(&mut self, measured: &[live::Measured]) {
        let row = |one: &live::Measured| {
            let figures = figures(&LIVE, &one.rounds);
            json!({"system": one.system, "figures": figures})
        };
        self.value.insert("live".to_string(), measured.iter().map(row).collect());
    }

    /// What coming back took.
    pub(super) fn add_restarts(&mut self, measured: &[restart::Measured]) {
        let row = |one: &restart::Measured| {
            json!({
                "system": one.system, "listings": one.listings,
                "figures": figures(&RESTARTED, &one.rounds),
            })
        };
        self.value.insert("restarts".to_string(), measured.iter().map(row).collect());
    }

    /// All of it.
    pub(super) fn finish(mut self) -> Value {
        self.value.insert("versions".to_string(), self.versions.into());
        self.value.into()
    }
}

/// What a report may have, beside its conditions and versions.
const PARTS: [&str; 5] = ["ingest", "bare", "reads", "live", "restarts"];

/// One report out of the parts of several runs: of a part that several have, the last one's. The
/// conditions are those of the first; where parts come out of another run, they stand with its
/// conditions under `apart`.
pub(super) fn merged(reports: Vec<Value>) -> anyhow::Result<Value> {
    let mut reports = reports.into_iter();
    let mut all = reports.next().context("there is no report")?;
    for mut report in reports {
        let has = |part: &&str| report.get(part).is_some();
        let parts: Vec<&str> = PARTS.into_iter().filter(has).collect();
        for part in &parts {
            all[part] = report[part].take();
        }
        for (system, version) in report["versions"].as_object().into_iter().flatten() {
            all["versions"][system] = version.clone();
        }
        let mut apart = all["apart"].as_array().cloned().unwrap_or_default();
        apart.push(json!({"parts": parts, "conditions": report["conditions"]}));
        all["apart"] = apart.into();
    }
    Ok(all)
}

fn ms(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e3
}

/// A figure of a round: what it is called, and how it is read.
type Figure<R> = (&'static str, fn(&R) -> Option<f64>);

const WRITTEN: [Figure<Round>; 12] = [
    ("listings_per_second", |r| Some(r.measured.rate())),
    ("request_ms_p50", |r| Some(ms(r.measured.latency(50)))),
    ("request_ms_p99", |r| Some(ms(r.measured.latency(99)))),
    ("alone_ms_p50", |r| Some(ms(r.alone.as_ref()?.latency(50)))),
    ("alone_ms_p99", |r| Some(ms(r.alone.as_ref()?.latency(99)))),
    ("server_cpu_us_per_listing", |r| Some(per_listing(r, r.cpu.as_secs_f64() * 1e6))),
    ("load_cpu_us_per_listing", |r| Some(per_listing(r, r.load_cpu.as_secs_f64() * 1e6))),
    ("syncs_per_listing_and_node", |r| Some(per_listing(r, r.syncs?) / 3.0)),
    ("memory_mib", |r| Some(r.memory_bytes as f64 / f64::from(1 << 20))),
    ("disk_mib", |r| Some(r.disk_bytes as f64 / f64::from(1 << 20))),
    ("disk_bytes_per_raw_byte", |r| Some(r.disk_bytes as f64 / 3.0 / r.raw_bytes as f64)),
    ("listings", |r| Some(r.measured.listings as f64)),
];

const BARE: [Figure<Bare>; 4] = [
    ("listings_per_second", |b| Some(b.listings as f64 / b.took.as_secs_f64())),
    ("cpu_us_per_listing", |b| Some(b.cpu.as_secs_f64() * 1e6 / b.listings as f64)),
    ("syncs_per_listing_and_node", |b| Some(b.syncs as f64 / b.listings as f64)),
    ("frame_bytes", |b| Some(b.frame_bytes as f64 / b.listings as f64)),
];

const LIVE: [Figure<Live>; 8] = [
    ("written_per_second", |l| Some(l.rate)),
    ("lag_ms_p50", |l| Some(ms(quantile(&l.lags, 50)))),
    ("lag_ms_p99", |l| Some(ms(quantile(&l.lags, 99)))),
    ("catch_up_per_second", |l| Some(l.catch_up)),
    ("write_ms_p50", |l| Some(ms(quantile(&l.writes, 50)))),
    ("write_ms_p99", |l| Some(ms(quantile(&l.writes, 99)))),
    ("read_ms_p50", |l| Some(ms(quantile(&l.reads, 50)))),
    ("read_ms_p99", |l| Some(ms(quantile(&l.reads, 99)))),
];

const RESTARTED: [Figure<Restart>; 2] =
    [("votes_s", |r| Some(r.votes?.as_secs_f64())), ("serves_s", |r| Some(r.serves.as_secs_f64()))];

const READ: [Figure<ReadLoop>; 6] = [
    ("rows_per_second", |r| Some(r.rows as f64 / r.took.as_secs_f64())),
    ("reads_per_second", |r| Some(r.reads as f64 / r.took.as_secs_f64())),
    ("mib_per_second", |r| Some(r.bytes as f64 / f64::from(1 << 20) / r.took.as_secs_f64())),
    ("read_ms_p50", |r| Some(ms(quantile(&r.latencies, 50)))),
    ("read_ms_p99", |r| Some(ms(quantile(&r.latencies, 99)))),
    ("first_row_ms_p50", |r| Some(ms(*r.firsts.get(r.firsts.len() / 2)?))),
];

fn per_listing(round: &Round, value: f64) -> f64 {
    value / round.measured.listings as f64
}

fn figures<R>(figures: &[Figure<R>], rounds: &[R]) -> Value {
    let mut found = Map::new();
    for (name, read) in figures {
        if let Some([low, middle, high]) = spread(rounds.iter().filter_map(read).collect()) {
            let spread = json!({"min": low, "median": middle, "max": high});
            found.insert((*name).to_string(), spread);
        }
    }
    found.into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn of_a_part_that_several_runs_have_the_last_counts_and_its_conditions_are_told() {
        let run = |at: u32, part: &str| {
            json!({
                "conditions": {"at": at}, "versions": {"etcd": at}, part: [{"of": at}],
            })
        };
        let runs = vec![run(1, "ingest"), run(2, "reads"), run(3, "reads")];
        let all = merged(runs).unwrap();
        assert_eq!(all["conditions"]["at"], 1);
        assert_eq!((&all["ingest"][0]["of"], &all["reads"][0]["of"]), (&json!(1), &json!(3)));
        assert_eq!(all["apart"][1], json!({"parts": ["reads"], "conditions": {"at": 3}}));
        assert_eq!(all["versions"]["etcd"], 3);
        assert!(merged(Vec::new()).is_err());
    }
}
