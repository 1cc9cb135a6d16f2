//! One text file a scenario: commands, `---`, and the trace that they must give.
//!
//! The files are run against the production code: register, rows, coordination and reading by id.
//! `README.md` beside them explains the commands and lists which case is tested where. With
//! `PLATBOOK_SCRIPTS=rewrite` the files get the traces that the code gives: read the difference
//! before it is committed.

mod script;
mod stage;

use std::path::{Path, PathBuf};

use script::Script;
use stage::Stage;

fn scripts() -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/scripts");
    let entries = std::fs::read_dir(&folder).expect("the folder of this file exists");
    let mut paths: Vec<PathBuf> = entries
        .map(|entry| entry.expect("an entry can be read").path())
        .filter(|path| path.extension().is_some_and(|ending| ending == "txt"))
        .collect();
    paths.sort();
    paths
}

#[test]
fn every_script_gives_its_trace() {
    let rewrite = std::env::var("PLATBOOK_SCRIPTS").is_ok_and(|mode| mode == "rewrite");
    let mut failures = Vec::new();
    let paths = scripts();
    assert!(paths.len() >= 18, "only {} scripts were found", paths.len());
    for path in paths {
        let text = std::fs::read_to_string(&path).expect("a script can be read");
        let name = path.file_name().expect("it is a file").to_string_lossy().into_owned();
        let mut script = Script::parse(&text).unwrap_or_else(|e| panic!("{name}: {e}"));
        let mut stage = Stage::default();
        for block in &mut script.blocks {
            let mut trace = String::new();
            for command in &block.commands {
                stage.run(command, &mut trace).unwrap_or_else(|e| panic!("{name}: {command}: {e}"));
            }
            if trace != block.expected && !rewrite {
                let expected = &block.expected;
                failures.push(format!(
                    "{name}: {:?}\nexpected:\n{expected}got:\n{trace}",
                    block.commands
                ));
            }
            block.expected = trace;
        }
        if rewrite {
            std::fs::write(&path, script.print()).expect("a script can be written");
        }
    }
    assert!(failures.is_empty(), "{}", failures.join("\n"));
}
