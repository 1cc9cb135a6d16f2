//! The house rules that a machine can check: sizes, names, who may import what, who may depend on
//! whom. Every rule is a pure function from text to findings and proves here that it bites.
//!
//! Reading order: [`source`] finds and blanks files, [`rules`] are about one file, [`crates`] is
//! about the dependency graph, [`docs`] about links and words in the documentation.

mod crates;
mod docs;
mod rules;
mod source;

use std::fmt;
use std::path::Path;

/// One broken rule: where, what, and what to do about it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Finding {
    pub(crate) place: String,
    pub(crate) broken: String,
    pub(crate) remedy: &'static str,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}\n      {}", self.place, self.broken, self.remedy)
    }
}

fn report(findings: &[Finding]) {
    let lines: Vec<String> = findings.iter().map(|f| format!("  - {f}")).collect();
    assert!(findings.is_empty(), "{} house rules broken:\n{}", lines.len(), lines.join("\n"));
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a member lies inside the workspace")
}

#[test]
fn every_source_file_keeps_the_house_rules() {
    let files = source::rust_files(root());
    assert!(files.len() > 20, "the walk found only {} files", files.len());
    report(&files.iter().flat_map(rules::check).collect::<Vec<_>>());
}

#[test]
fn crates_depend_only_in_the_designed_direction() {
    let graph = crates::Graph::of_workspace(root());
    report(&graph.check());
}

#[test]
fn links_in_the_documentation_lead_somewhere() {
    report(&docs::check(root()));
}

#[test]
fn the_archive_and_the_workspace_name_the_same_rocksdb() {
    let named = |manifest: &str| {
        let text = std::fs::read_to_string(root().join(manifest)).expect("the manifest is there");
        let line = text.lines().find(|line| line.starts_with("rocksdb = "));
        line.expect("it names rocksdb").to_string()
    };
    assert_eq!(named("Cargo.toml"), named("ops/setup/rocksdb/Cargo.toml"));
}
