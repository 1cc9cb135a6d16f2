//! Rules about who depends on whom, over `cargo metadata`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::process::Command;

use serde_json::Value;

use crate::Finding;

/// Which crates of the workspace each crate may use (design, section 3). A crate that is missing
/// here is a finding: a new crate takes its place in the picture first.
const MAY_USE: [(&str, &[&str]); 8] = [
    ("platbook-protocol", &[]),
    ("platbook-engine", &["platbook-protocol"]),
    ("platbook-node", &["platbook-protocol", "platbook-engine"]),
    ("platbook-client", &["platbook-protocol"]),
    ("platbook-router", &["platbook-protocol"]),
    ("platbook-ingest", &["platbook-protocol", "platbook-client"]),
    (
        "platbook-chaos-tests",
        &[
            "platbook-protocol",
            "platbook-client",
            "platbook-node",
            "platbook-router",
            "platbook-ingest",
        ],
    ),
    (
        "platbook",
        &[
            "platbook-protocol",
            "platbook-client",
            "platbook-engine",
            "platbook-node",
            "platbook-router",
            "platbook-ingest",
            "platbook-chaos-tests",
        ],
    ),
];

/// Stateless processes and services never carry a storage engine or a consensus library.
const NEVER_LINKS: [(&str, &[&str]); 4] = [
    ("platbook-protocol", &["tokio", "librocksdb-sys", "openraft"]),
    ("platbook-client", &["librocksdb-sys", "openraft", "aws-config", "axum"]),
    ("platbook-router", &["librocksdb-sys", "openraft"]),
    ("platbook-ingest", &["librocksdb-sys", "openraft"]),
];

/// Crate names and their normal dependencies (not those of tests and build scripts), resolved.
pub(crate) struct Graph {
    members: BTreeSet<String>,
    uses: BTreeMap<String, BTreeSet<String>>,
}

impl Graph {
    /// Asks cargo.
    pub(crate) fn of_workspace(root: &Path) -> Graph {
        let host = host_triple();
        let output = Command::new(env!("CARGO"))
            .args(["metadata", "--format-version=1", "--locked", "--filter-platform", &host])
            .current_dir(root)
            .output()
            .expect("cargo runs, it runs this test");
        let complaint = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "cargo metadata failed: {complaint}");
        Graph::parse(&serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON"))
    }

    fn parse(metadata: &Value) -> Graph {
        let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
        let text = |value: &Value| value.as_str().unwrap_or_default().to_string();
        let names: BTreeMap<String, String> = list(&metadata["packages"])
            .iter()
            .map(|package| (text(&package["id"]), text(&package["name"])))
            .collect();
        let name = |id: &Value| names.get(&text(id)).cloned().unwrap_or_default();
        let is_normal = |dep: &Value| list(&dep["dep_kinds"]).iter().any(|k| k["kind"].is_null());
        let uses = list(&metadata["resolve"]["nodes"])
            .iter()
            .map(|node| {
                let deps = list(&node["deps"]);
                let normal = deps.iter().filter(|dep| is_normal(dep));
                (name(&node["id"]), normal.map(|dep| name(&dep["pkg"])).collect())
            })
            .collect();
        let members = list(&metadata["workspace_members"]).iter().map(name).collect();
        Graph { members, uses }
    }

    /// All edges that the design does not know, and all libraries that arrive where they must not.
    pub(crate) fn check(&self) -> Vec<Finding> {
        let mut found = Vec::new();
        for member in &self.members {
            let Some((_, allowed)) = MAY_USE.iter().find(|(name, _)| name == member) else {
                let broken = "is no crate of the design".to_string();
                let remedy = "give it its place in docs/ARCHITECTURE.md and in MAY_USE";
                found.push(Finding { place: member.clone(), broken, remedy });
                continue;
            };
            for used in self.direct(member).filter(|used| self.members.contains(*used)) {
                if !allowed.contains(&used.as_str()) {
                    let broken = format!("depends on `{used}`");
                    let remedy = "turn the dependency round, or move what is shared below both";
                    found.push(Finding { place: member.clone(), broken, remedy });
                }
            }
        }
        for (member, banned) in NEVER_LINKS {
            let linked = self.reachable(member);
            for library in banned.iter().filter(|library| linked.contains(**library)) {
                let broken = format!("links `{library}`");
                let remedy = "find the way with `cargo tree -i` and cut it";
                found.push(Finding { place: member.to_string(), broken, remedy });
            }
        }
        found
    }

    fn direct<'a>(&'a self, name: &str) -> impl Iterator<Item = &'a String> + use<'a> {
        self.uses.get(name).into_iter().flatten()
    }

    fn reachable(&self, from: &str) -> BTreeSet<&str> {
        let mut seen = BTreeSet::new();
        let mut waiting: Vec<&String> = self.direct(from).collect();
        while let Some(name) = waiting.pop() {
            if seen.insert(name.as_str()) {
                waiting.extend(self.direct(name));
            }
        }
        seen
    }
}

fn host_triple() -> String {
    let output = Command::new("rustc").arg("-vV").output().expect("rustc runs, it built this test");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let host = text.lines().find_map(|line| line.strip_prefix("host: "));
    host.expect("rustc names its host").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn graph(edges: &[(&str, &[&str])]) -> Graph {
        let members = edges.iter().map(|(name, _)| (*name).to_string());
        let uses = edges.iter().map(|(name, used)| {
            ((*name).to_string(), used.iter().map(|used| (*used).to_string()).collect())
        });
        Graph {
            members: members.filter(|n| n.starts_with("platbook")).collect(),
            uses: uses.collect(),
        }
    }

    fn broken(edges: &[(&str, &[&str])]) -> Vec<String> {
        graph(edges).check().iter().map(|f| format!("{} {}", f.place, f.broken)).collect()
    }

    #[test]
    fn an_edge_against_the_picture_is_found() {
        let fine = broken(&[("platbook-node", &["platbook-engine"]), ("platbook-engine", &[])]);
        assert_eq!(fine, [] as [&str; 0]);
        let turned = broken(&[("platbook-engine", &["platbook-node"]), ("platbook-node", &[])]);
        assert_eq!(turned, ["platbook-engine depends on `platbook-node`"]);
        assert_eq!(broken(&[("platbook-x", &[])]), ["platbook-x is no crate of the design"]);
    }

    #[test]
    fn a_storage_engine_behind_two_hops_is_found() {
        let found = broken(&[
            ("platbook-router", &["a"]),
            ("a", &["rocksdb"]),
            ("rocksdb", &["librocksdb-sys"]),
        ]);
        assert_eq!(found, ["platbook-router links `librocksdb-sys`"]);
    }

    #[test]
    fn dependencies_of_tests_do_not_count() {
        let kind = |kind: Value| serde_json::json!([{ "kind": kind }]);
        let metadata = serde_json::json!({
            "packages": [
                {"id": "1", "name": "a"}, {"id": "2", "name": "b"}, {"id": "3", "name": "c"},
            ],
            "workspace_members": ["1"],
            "resolve": {"nodes": [{"id": "1", "deps": [
                {"pkg": "2", "dep_kinds": kind(Value::Null)},
                {"pkg": "3", "dep_kinds": kind("dev".into())},
            ]}]},
        });
        let graph = Graph::parse(&metadata);
        assert_eq!(graph.direct("a").collect::<Vec<_>>(), ["b"]);
    }
}
