//! The measurements run: what they print is about listings that were really written and read.

use std::process::{Command, Output};

use serde_json::Value;

fn bench(args: &[&str]) -> (Output, Value) {
    let binary = env!("CARGO_BIN_EXE_platbook");
    let output = Command::new(binary).arg("bench").args(args).args(["-o", "json"]).output();
    let output = output.expect("the binary runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{args:?}: {error}");
    let report = serde_json::from_slice(&output.stdout).expect("a report");
    (output, report)
}

#[test]
fn writes_are_measured_with_their_syncs_and_their_cpu() {
    let args = ["--listings", "300", "--rounds", "1", "--batch", "50", "--clients", "3"];
    let (_, report) = bench(&[&["ingest", "--shards", "2"], &args[..]].concat());
    let figures = &report["results"][0]["figures"];
    assert_eq!(figures["listings"]["median"], 300.0, "{report}");
    for figure in ["listings_per_second", "server_cpu_us_per_listing", "request_ms_p99"] {
        assert!(figures[figure]["median"].as_f64() > Some(0.0), "{figure}: {report}");
    }
    let syncs = figures["syncs_per_listing_and_node"]["median"].as_f64();
    assert!(syncs > Some(0.0) && syncs < Some(1.0), "acknowledged writes are synced: {report}");
}

#[test]
fn a_large_zip_is_read_whole_by_one_and_by_many() {
    let args = ["readers", "--listings", "400", "--readers", "6"];
    let (_, report) = bench(&args);
    assert_eq!((&report["listings"], &report["readers"]), (&400.into(), &6.into()));
    assert!(report["first_byte_ms"].as_f64() > Some(0.0), "{report}");
    assert!(report["first_byte_ms"].as_f64() <= report["whole_zip_ms"].as_f64(), "{report}");
}

#[test]
fn a_comparison_measures_every_part_and_writes_it_into_the_documentation() {
    let docs = tempfile::tempdir().expect("a directory");
    let page = docs.path().join("benchmarks.md");
    let marks = "# Title\n<!-- bench compare: begin -->\nold\n<!-- bench compare: end -->\nrest\n";
    std::fs::write(&page, marks).expect("a page");
    let to = docs.path().display().to_string();
    let small = ["--quick", "--listings", "500", "--restart-listings", "500", "--shards", "2"];
    let (_, report) = bench(&[&["compare", "--docs", &to], &small[..]].concat());

    let ways = report["ingest"].as_array().expect("ways of writing");
    assert_eq!(ways.len(), 2, "{report}");
    for way in ways {
        assert_eq!(way["figures"]["listings"]["median"], 500.0, "{way}");
        assert!(way["figures"]["server_cpu_us_per_listing"]["median"].as_f64() > Some(0.0));
    }
    let synced = &ways[1]["synced"];
    let calls = synced["calls"].as_array().expect("a count for every node");
    let (calls, puts) =
        (calls.iter().filter_map(Value::as_u64).sum::<u64>(), synced["puts"].as_u64());
    assert!(puts > Some(0) && Some(calls) >= puts.map(|puts| 2 * puts), "on two disks: {synced}");
    let whole = report["reads"].as_array().expect("reads").iter().find(|row| {
        row["case"] == "uncached" && row["zip_listings"] == 5_000 && row["readers"] == 16
    });
    assert!(whole.expect("a case")["figures"]["rows_per_second"]["min"].as_f64() > Some(0.0));
    assert!(report["live"][0]["figures"]["lag_ms_p99"]["median"].is_f64(), "{report}");
    assert!(report["restarts"][0]["figures"]["serves_s"]["median"].as_f64() > Some(0.0));

    let text = std::fs::read_to_string(&page).expect("the page");
    assert!(text.starts_with("# Title\n") && text.ends_with("rest\n") && !text.contains("old"));
    assert!(text.contains("| Platbook | POST of 500 | 16 |"), "{text}");
    for file in ["compare.json", "ingest.svg", "zip.svg"] {
        assert!(docs.path().join("benchmarks").join(file).exists(), "{file}");
    }
}

#[test]
fn followers_of_changes_are_told_everything_late_or_at_once() {
    let few = ["--listings", "300", "--shards", "2", "--lag-seconds", "1", "--followers", "3"];
    let short = ["--idle-seconds", "1", "--stall-changes", "200", "--stall-seconds", "1"];
    let (_, report) = bench(&[&["changes"], &few[..], &short[..]].concat());
    assert!(report["catch_up_changes"].as_u64() >= Some(300), "{report}");
    for figure in ["catch_up_binary_per_s", "catch_up_lines_per_s", "catch_up_client_library_per_s"]
    {
        assert!(report[figure].as_f64() > Some(0.0), "{figure}: {report}");
    }
    assert!(report["catch_up_binary_mib"].as_f64() < report["catch_up_lines_mib"].as_f64());
    assert!(report["lag_ms_p50"].as_f64() <= report["lag_ms_p99"].as_f64(), "{report}");
    assert!(report["stall_caught_up_changes"].as_u64() >= Some(200), "{report}");
    assert_eq!(report["idle_followers"], 3, "{report}");
}
