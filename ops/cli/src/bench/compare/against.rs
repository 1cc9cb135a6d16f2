//! Whether Platbook has become slower: its ratios to etcd beside those of an earlier report. Only
//! ratios are compared, because machines and days differ, and only with a wide margin, because a
//! short run on a shared machine is noisy.

use serde_json::Value;

use super::targets::{median, read, written};

/// What a ratio may lose.
const SLACK: f64 = 0.25;

/// Ratios to etcd that a report has, each with what it is about; more is better.
fn ratios(report: &Value) -> Vec<(&'static str, f64)> {
    let rate = |way: Option<&Value>| way.and_then(|row| median(row, "listings_per_second"));
    let rows = |row: Option<&Value>| row.and_then(|row| median(row, "rows_per_second"));
    let put = rate(written(report, "etcd", "put one by one"));
    let transactions = rate(written(report, "etcd", "transactions of 100 puts"));
    let range = rows(read(report, "etcd", "whole", 5_000, 1));
    let pairs = [
        ("POST of 500 to puts", rate(written(report, "Platbook", "POST of 500")), put),
        (
            "POST of 500 to transactions",
            rate(written(report, "Platbook", "POST of 500")),
            transactions,
        ),
        ("PUT to puts", rate(written(report, "Platbook", "PUT one by one")), put),
        ("ZIP of 5,000 to a range", rows(read(report, "Platbook", "uncached", 5_000, 1)), range),
    ];
    let ratio = |(what, ours, theirs): (_, Option<f64>, Option<f64>)| Some((what, ours? / theirs?));
    pairs.into_iter().filter_map(ratio).collect()
}

/// What has been lost since `before`, a line each. An error where the two have nothing in common:
/// a check that compares nothing must not pass.
pub(super) fn lost(now: &Value, before: &Value) -> anyhow::Result<Vec<String>> {
    let before = ratios(before);
    let mut compared = 0;
    let mut lost = Vec::new();
    for (what, ratio) in ratios(now) {
        let Some((_, was)) = before.iter().find(|(known, _)| *known == what) else { continue };
        compared += 1;
        tracing::info!(what, ratio, was, "compared");
        if ratio < was * (1.0 - SLACK) {
            lost.push(format!("{what}: {ratio:.2}, and it was {was:.2}"));
        }
    }
    anyhow::ensure!(compared > 0, "the reports have no ratio to etcd in common");
    Ok(lost)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn report(ours: f64, theirs: f64) -> Value {
        let row = |system, way, rate: f64| {
            let figures = json!({"listings_per_second": {"median": rate}});
            json!({"system": system, "way": way, "figures": figures})
        };
        json!({"ingest": [
            row("Platbook", "POST of 500", ours), row("etcd", "put one by one", theirs),
        ]})
    }

    #[test]
    fn a_slower_machine_is_no_loss_but_a_slower_platbook_is() {
        let before = report(20_000.0, 5_000.0);
        assert_eq!(lost(&report(10_000.0, 2_500.0), &before).unwrap(), [""; 0]);
        assert_eq!(lost(&report(15_100.0, 5_000.0), &before).unwrap(), [""; 0]);
        assert_eq!(lost(&report(14_900.0, 5_000.0), &before).unwrap().len(), 1);
        assert!(lost(&json!({}), &before).is_err());
    }
}
