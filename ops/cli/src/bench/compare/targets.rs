//! What was aimed at, beside what was reached: every miss is told as one.

use Aim::{AtLeast, AtMost};
use serde_json::Value;

/// One aim.
pub(super) struct Target {
    pub(super) what: String,
    pub(super) aim: String,
    pub(super) reached: f64,
    pub(super) is_met: bool,
}

/// What a figure has to come to.
#[derive(Clone, Copy)]
enum Aim {
    AtLeast(f64),
    AtMost(f64),
}

/// An aim, and what the report has of it; `None` where that was not measured.
struct Row {
    what: String,
    reached: Option<f64>,
    aim: Aim,
}

impl Row {
    fn judged(self) -> Option<Target> {
        let reached = self.reached?;
        let (aim, is_met) = match self.aim {
            AtLeast(least) => (format!("at least {least}"), reached >= least),
            AtMost(most) => (format!("at most {most}"), reached <= most),
        };
        Some(Target { what: self.what, aim, reached, is_met })
    }
}

/// The middle of a figure of a row of the report.
pub(super) fn median(row: &Value, figure: &str) -> Option<f64> {
    row["figures"][figure]["median"].as_f64()
}

/// The row of a system's way of writing.
pub(super) fn written<'a>(report: &'a Value, system: &str, way: &str) -> Option<&'a Value> {
    let rows = report["ingest"].as_array()?;
    rows.iter().find(|row| row["system"] == system && row["way"] == way)
}

/// The row of a case of reading.
pub(super) fn read<'a>(
    report: &'a Value,
    system: &str,
    case: &str,
    zip_listings: u64,
    readers: u64,
) -> Option<&'a Value> {
    report["reads"].as_array()?.iter().find(|row| {
        row["system"] == system
            && row["case"] == case
            && row["zip_listings"] == zip_listings
            && row["readers"] == readers
    })
}

/// Every aim that the report has the figures for.
pub(super) fn all(report: &Value) -> Vec<Target> {
    let rows = [ingest(report), reads(report), live(report), restarts(report)];
    rows.into_iter().flatten().filter_map(Row::judged).collect()
}

const POST: &str = "POST of 500";
/// Figures of writing that several systems have, and how they are called.
const RATE: (&str, &str) = ("listings_per_second", "ingest, POST of 500");
const CPU: (&str, &str) = ("server_cpu_us_per_listing", "CPU of all servers a listing,");

fn ingest(report: &Value) -> Vec<Row> {
    let of = |system, way, figure| written(report, system, way).and_then(|row| median(row, figure));
    let ours = |figure| of("Platbook", POST, figure);
    let beside = [
        (RATE, "NATS", "KV puts, 500 in flight", AtLeast(2.0)),
        (RATE, "etcd", "transactions of 100 puts", AtLeast(1.5)),
        (RATE, "etcd", "put one by one", AtLeast(5.0)),
        (RATE, "PostgreSQL", "upserts of 100 rows", AtLeast(1.2)),
        (RATE, "PostgreSQL", "upserts of 100 rows, lz4", AtLeast(1.0)),
        (CPU, "etcd", "put one by one", AtMost(0.25)),
        (CPU, "NATS", "KV puts, 500 in flight", AtMost(0.5)),
        (CPU, "PostgreSQL", "upserts of 100 rows", AtMost(1.0)),
    ];
    let beside = beside.map(|((figure, what), system, way, aim)| {
        let reached = ratio(ours(figure), of(system, way, figure));
        Row { what: format!("{what} beside {system}, {way}"), reached, aim }
    });
    let bare = ratio(ours(RATE.0), median(&report["bare"], RATE.0));
    let syncs = ours("syncs_per_listing_and_node");
    let alone = |system, way| of(system, way, "alone_ms_p50");
    let alone = ratio(alone("Platbook", "PUT one by one"), alone("etcd", "put one by one"));
    let others = [
        ("ingest, POST of 500 beside the bare ceiling", bare, AtLeast(0.45)),
        ("fdatasyncs a listing and node at saturation", syncs, AtMost(0.02)),
        ("one client, one listing: p50 beside etcd's put", alone, AtMost(2.5)),
    ];
    beside.into_iter().chain(others.map(row)).collect()
}

fn reads(report: &Value) -> Vec<Row> {
    const LARGE: u64 = 5_000;
    let of = |system, case, figure| {
        read(report, system, case, LARGE, 1).and_then(|row| median(row, figure))
    };
    let ours = |case, figure| of("Platbook", case, figure);
    let rows = "rows_per_second";
    let beside = |case, system| ratio(ours(case, rows), of(system, "whole", rows));
    let (etcd, postgresql) = (beside("uncached", "etcd"), beside("uncached", "PostgreSQL"));
    let again = beside("asked again", "etcd");
    let took = |case| ours(case, "read_ms_p50");
    let filtered = ratio(took("uncached"), took("price filter, 1 %"));
    let aims = [
        ("one reader, uncached: rows/s beside etcd", etcd, AtLeast(3.0)),
        ("one reader, uncached: rows/s beside PostgreSQL", postgresql, AtLeast(2.0)),
        ("one reader, asked again: rows/s beside etcd", again, AtLeast(10.0)),
        ("uncached, first row, ms", ours("uncached", "first_row_ms_p50"), AtMost(5.0)),
        ("304, ms", took("304"), AtMost(1.0)),
        ("price filter that keeps 1 %: times faster", filtered, AtLeast(10.0)),
    ];
    let named = aims.map(|(what, reached, aim)| (format!("ZIP of 5,000, {what}"), reached, aim));
    named.map(row).into()
}

fn live(report: &Value) -> Vec<Row> {
    let rows = report["live"].as_array();
    let of = |system: &str, figure: &str| {
        median(rows?.iter().find(|row| row["system"] == system)?, figure)
    };
    let lag = of("Platbook", "lag_ms_p99");
    let rate = "catch_up_per_second";
    let catch_up = ratio(of("Platbook", rate), of("etcd", rate));
    let aims = [
        ("changes at half load, lag p99, ms", lag, AtMost(100.0)),
        ("changes, catch-up beside etcd's watch", catch_up, AtLeast(3.0)),
    ];
    aims.map(row).into()
}

fn restarts(report: &Value) -> Vec<Row> {
    let rows = report["restarts"].as_array();
    let ours = rows.and_then(|rows| rows.iter().find(|row| row["system"] == "Platbook"));
    let Some(ours) = ours else { return Vec::new() };
    let what = |does: &str| {
        let listings = &ours["listings"];
        format!("a killed node with {listings} listings {does}, s (the aim is for 2,000,000)")
    };
    let aims = [
        (what("votes"), median(ours, "votes_s"), AtMost(3.0)),
        (what("serves"), median(ours, "serves_s"), AtMost(5.0)),
    ];
    aims.map(row).into()
}

fn row((what, reached, aim): (impl Into<String>, Option<f64>, Aim)) -> Row {
    Row { what: what.into(), reached, aim }
}

fn ratio(ours: Option<f64>, theirs: Option<f64>) -> Option<f64> {
    Some(ours? / theirs?)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_miss_is_a_miss_and_what_was_not_measured_is_not_told() {
        let row = |system, way, rate: f64| {
            let figures = json!({"listings_per_second": {"median": rate}});
            json!({"system": system, "way": way, "figures": figures})
        };
        let report = json!({"ingest": [
            row("Platbook", POST, 20_000.0),
            row("etcd", "put one by one", 4_000.0),
            row("etcd", "transactions of 100 puts", 14_000.0),
        ]});
        let found = all(&report);
        let told: Vec<_> = found.iter().map(|one| (one.reached, one.is_met)).collect();
        assert_eq!(told, [(20.0 / 14.0, false), (5.0, true)]);
    }
}
