//! Replays what the fuzzers found and kept: every input, through its target, at every test run.

mod targets;

use std::path::{Path, PathBuf};

use targets::TARGETS;

fn corpus(target: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz/corpus").join(target)
}

fn inputs(dir: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(dir).unwrap_or_else(|e| panic!("{}: {e}", dir.display()));
    let mut inputs: Vec<PathBuf> = entries.map(|entry| entry.expect("an entry").path()).collect();
    inputs.sort();
    inputs
}

#[test]
fn every_kept_input_is_taken_without_a_panic() {
    for (name, target) in TARGETS {
        let inputs = inputs(&corpus(name));
        assert!(inputs.len() >= 10, "the corpus of {name} has only {} inputs", inputs.len());
        for path in inputs {
            let input = std::fs::read(&path).expect("an input");
            let taken = std::panic::catch_unwind(|| target(&input));
            assert!(taken.is_ok(), "{name} panics on {}", path.display());
        }
    }
}

#[test]
fn every_target_has_a_fuzzer_and_every_corpus_a_target() {
    let fuzz = Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("the fuzz crate");
    for (name, _) in TARGETS {
        assert!(manifest.contains(&format!("name = \"{name}\"")), "no fuzzer for {name}");
    }
    for dir in inputs(&fuzz.join("corpus")) {
        let name = dir.file_name().expect("a name").to_string_lossy().into_owned();
        assert!(TARGETS.iter().any(|(target, _)| *target == name), "{name} has no target");
    }
}
