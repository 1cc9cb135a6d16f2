//! Rules about the documentation: links lead somewhere, and nothing speaks of one person's machine.

use std::path::Path;

use crate::Finding;
use crate::source::walk;

/// Everything that is wrong with the Markdown files of the workspace.
pub(crate) fn check(root: &Path) -> Vec<Finding> {
    let mut found = Vec::new();
    walk(root, root, "md", &mut |path, text| {
        let exists = |target: &str| {
            root.join(path).parent().is_some_and(|folder| folder.join(target).exists())
        };
        found.extend(dead_links(path, text, &exists));
    });
    found
}

fn dead_links(path: &str, text: &str, exists: &dyn Fn(&str) -> bool) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in text.lines().enumerate() {
        for target in links(line) {
            let file = target.split('#').next().unwrap_or_default();
            if !file.is_empty() && !target.contains("://") && !exists(file) {
                found.push(Finding {
                    place: format!("{path}:{}", at + 1),
                    broken: format!("links to `{target}`, which is not there"),
                    remedy: "write the page, or take the link out",
                });
            }
        }
    }
    found
}

/// Targets of `[text](target)`.
fn links(line: &str) -> impl Iterator<Item = &str> {
    line.split("](").skip(1).filter_map(|rest| rest.split(')').next())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_dead_link_is_found() {
        let text = "[a](here.md#x) [b](gone.md)\n[c](https://example.com) [d](#below)";
        let found = dead_links("docs/x.md", text, &|target| target == "here.md");
        let places: Vec<&str> = found.iter().map(|f| f.broken.as_str()).collect();
        assert_eq!(places, ["links to `gone.md`, which is not there"]);
        assert_eq!(found[0].place, "docs/x.md:1");
    }
}
