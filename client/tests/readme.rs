//! The README tells the truth about what is compiled with this crate.

use std::collections::BTreeSet;
use std::process::Command;

/// Names and versions of all crates that a service compiles with this one.
fn tree(more: &[&str]) -> BTreeSet<String> {
    let output = Command::new(env!("CARGO"))
        .args(["tree", "--package", "platbook-client", "--edges", "normal,build"])
        .args(["--prefix", "none", "--format", "{p}", "--locked"])
        .args(["--target", "x86_64-unknown-linux-gnu"])
        .args(more)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .expect("cargo runs, it runs this test");
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "cargo tree failed: {complaint}");
    let text = String::from_utf8(output.stdout).expect("text");
    let name_and_version = |line: &str| line.split(" (").next().unwrap_or_default().to_string();
    text.lines().map(name_and_version).filter(|line| !line.is_empty()).collect()
}

#[test]
fn no_storage_engine_and_no_consensus_library_and_as_few_crates_as_it_says() {
    let readme = include_str!("../README.md");
    for (row, more) in [("default (`tls`)", &[][..]), ("none", &["--no-default-features"][..])] {
        let found = tree(more);
        let names: BTreeSet<&str> = found.iter().filter_map(|c| c.split(' ').next()).collect();
        for banned in ["librocksdb-sys", "rocksdb", "openraft", "clap", "openssl-sys"] {
            assert!(!names.contains(banned), "{banned} is compiled with {row}");
        }
        let told = format!("| {row} | {} |", found.len());
        assert!(readme.contains(&told), "the README should say: {told}");
    }
}
