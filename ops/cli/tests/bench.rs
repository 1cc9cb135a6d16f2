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
