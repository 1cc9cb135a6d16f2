//! What was aimed at, beside what was reached: every miss is told as one.

use serde_json::Value;

/// One aim.
pub(super) struct Target {
    pub(super) what: String,
    pub(super) aim: String,
    pub(super) reached: f64,
    pub(super) is_met: bool,
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
    let parts = [ingest(report), reads(report), live(report), restarts(report)];
    parts.into_iter().flatten().collect()
}

const POST: &str = "POST of 500";

fn ingest(report: &Value) -> Vec<Target> {
    let mut found = Vec::new();
    let ours = written(report, "Platbook", POST);
    let figure = |row: Option<&Value>, name: &str| row.and_then(|row| median(row, name));
    let mut at_least = |system: &str, way: &str, least: f64| {
        let rate = "listings_per_second";
        let theirs = figure(written(report, system, way), rate);
        found.extend(figure(ours, rate).zip(theirs).map(|(ours, theirs)| {
            let what = format!("ingest, POST of 500 beside {system}, {way}");
            least_ratio(what, ours / theirs, least)
        }));
    };
    at_least("NATS", "KV puts, 500 in flight", 2.0);
    at_least("etcd", "transactions of 100 puts", 1.5);
    at_least("etcd", "put one by one", 5.0);
    at_least("PostgreSQL", "upserts of 100 rows", 1.2);
    at_least("PostgreSQL", "upserts of 100 rows, lz4", 1.0);
    let (rate, bare) = ("listings_per_second", median(&report["bare"], "listings_per_second"));
    found.extend(figure(ours, rate).zip(bare).map(|(ours, bare)| {
        least_ratio("ingest, POST of 500 beside the bare ceiling".to_string(), ours / bare, 0.45)
    }));
    let mut at_most = |system: &str, way: &str, most: f64| {
        let cpu = "server_cpu_us_per_listing";
        let theirs = figure(written(report, system, way), cpu);
        found.extend(figure(ours, cpu).zip(theirs).map(|(ours, theirs)| {
            let what = format!("CPU of all servers a listing, beside {system}, {way}");
            most_ratio(what, ours / theirs, most)
        }));
    };
    at_most("etcd", "put one by one", 0.25);
    at_most("NATS", "KV puts, 500 in flight", 0.5);
    at_most("PostgreSQL", "upserts of 100 rows", 1.0);
    if let Some(syncs) = figure(ours, "syncs_per_listing_and_node") {
        let what = "fdatasyncs a listing and node at saturation".to_string();
        let (aim, is_met) = ("at most 0.02".to_string(), syncs <= 0.02);
        found.push(Target { what, aim, reached: syncs, is_met });
    }
    let alone = "alone_ms_p50";
    let ours = figure(written(report, "Platbook", "PUT one by one"), alone);
    let theirs = figure(written(report, "etcd", "put one by one"), alone);
    found.extend(ours.zip(theirs).map(|(ours, theirs)| {
        let what = "one client, one listing: p50 beside etcd's put".to_string();
        most_ratio(what, ours / theirs, 2.5)
    }));
    found
}

fn reads(report: &Value) -> Vec<Target> {
    const LARGE: u64 = 5_000;
    let mut found = Vec::new();
    let figure =
        |system, case, name| read(report, system, case, LARGE, 1).and_then(|row| median(row, name));
    let rows = "rows_per_second";
    let mut beside = |case, what: &str, system, least| {
        let pair = figure("Platbook", case, rows).zip(figure(system, "whole", rows));
        found.extend(pair.map(|(ours, theirs)| {
            let what = format!("ZIP of 5,000, one reader, {what}: rows/s beside {system}");
            least_ratio(what, ours / theirs, least)
        }));
    };
    beside("uncached", "uncached", "etcd", 3.0);
    beside("uncached", "uncached", "PostgreSQL", 2.0);
    beside("asked again", "asked again", "etcd", 10.0);
    let mut within = |case, name, what: &str, most: f64| {
        found.extend(figure("Platbook", case, name).map(|reached| {
            let (what, aim) = (format!("ZIP of 5,000, {what}, ms"), format!("at most {most}"));
            Target { what, aim, reached, is_met: reached <= most }
        }));
    };
    within("uncached", "first_row_ms_p50", "uncached, first row", 5.0);
    within("304", "read_ms_p50", "304", 1.0);
    let took = |case| figure("Platbook", case, "read_ms_p50");
    found.extend(took("uncached").zip(took("price filter, 1 %")).map(|(whole, filtered)| {
        let what = "ZIP of 5,000, price filter that keeps 1 %: times faster".to_string();
        least_ratio(what, whole / filtered, 10.0)
    }));
    found
}

fn live(report: &Value) -> Vec<Target> {
    let rows = report["live"].as_array();
    let row = |name: &str| rows.and_then(|rows| rows.iter().find(|row| row["system"] == name));
    let figure = |name, figure| row(name).and_then(|row| median(row, figure));
    let lag = figure("Platbook", "lag_ms_p99").map(|reached| {
        let (what, aim) = ("changes at half load, lag p99, ms".into(), "at most 100".into());
        Target { what, aim, reached, is_met: reached <= 100.0 }
    });
    let rate = "catch_up_per_second";
    let pair = figure("Platbook", rate).zip(figure("etcd", rate));
    let catch_up = pair.map(|(ours, theirs)| {
        least_ratio("changes, catch-up beside etcd's watch".to_string(), ours / theirs, 3.0)
    });
    lag.into_iter().chain(catch_up).collect()
}

fn restarts(report: &Value) -> Vec<Target> {
    let rows = report["restarts"].as_array();
    let ours = rows.and_then(|rows| rows.iter().find(|row| row["system"] == "Platbook"));
    let Some(ours) = ours else { return Vec::new() };
    let within = |figure, what: &str, most: f64| {
        let reached = median(ours, figure)?;
        let what = format!("a killed node with {} listings {what}, s", ours["listings"]);
        let aim = format!("at most {most} (with 2,000,000)");
        Some(Target { what, aim, reached, is_met: reached <= most })
    };
    let votes = within("votes_s", "votes", 3.0);
    votes.into_iter().chain(within("serves_s", "serves", 5.0)).collect()
}

fn least_ratio(what: String, reached: f64, least: f64) -> Target {
    Target { what, aim: format!("at least {least}"), reached, is_met: reached >= least }
}

fn most_ratio(what: String, reached: f64, most: f64) -> Target {
    Target { what, aim: format!("at most {most}"), reached, is_met: reached <= most }
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
