//! Rules about one file.

use crate::Finding;
use crate::source::{Source, is_word};

const FILE_LINES_MAX: usize = 500;
const FUNCTION_LINES_MAX: usize = 70;
const COLUMNS_MAX: usize = 100;
const LIB_LINES_MAX: usize = 60;

/// Names that say nothing about what is inside.
const NAMES_THAT_SAY_NOTHING: [&str; 8] =
    ["utils", "util", "common", "helpers", "helper", "manager", "misc", "v2"];

/// A library that one module hides from all others: a prefix of crate names, the paths that may
/// import it, and whom to ask instead.
const HIDDEN: [(&str, &[&str], &str); 4] = [
    ("rocksdb", &["engine/src/store"], "ask the engine's store; it alone knows RocksDB"),
    (
        "aws_",
        &["ingest/src/queue", "ingest/tests"],
        "go through the queue of `ingest`; it alone knows the AWS SDK",
    ),
    ("openraft", &["node/src/raft"], "go through `node/src/raft`; it alone knows openraft"),
    ("bincode", &["client/protocol/src/codec.rs"], "encode and decode with `protocol::codec`"),
];
/// bincode's derive macros need their names in scope wherever a message is declared.
const BINCODE_DERIVES: [&str; 3] = ["BorrowDecode", "Decode", "Encode"];

/// Everything that is wrong with one file.
pub(crate) fn check(file: &Source) -> Vec<Finding> {
    let rules = [sizes, function_lengths, file_name, imports, leftovers, sleeps, panics];
    rules.iter().flat_map(|rule| rule(file)).collect()
}

fn finding(file: &Source, line: usize, broken: String, remedy: &'static str) -> Finding {
    Finding { place: format!("{}:{line}", file.path), broken, remedy }
}

fn sizes(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    let lines = file.text.lines().count();
    if lines > FILE_LINES_MAX {
        let broken = format!("{lines} lines, the limit is {FILE_LINES_MAX}");
        found.push(finding(file, 1, broken, "split it by responsibility, one main type a file"));
    }
    if file.path.ends_with("/lib.rs") && lines > LIB_LINES_MAX {
        let broken = format!("{lines} lines, the limit of a lib.rs is {LIB_LINES_MAX}");
        found.push(finding(file, 1, broken, "keep it a map of modules; move code into one"));
    }
    for (at, line) in file.text.lines().enumerate() {
        let columns = line.chars().count();
        if columns > COLUMNS_MAX {
            let broken = format!("{columns} columns, the limit is {COLUMNS_MAX}");
            found.push(finding(file, at + 1, broken, "break the line"));
        }
    }
    found
}

fn function_lengths(file: &Source) -> Vec<Finding> {
    let code: Vec<char> = file.code.chars().collect();
    let mut found = Vec::new();
    for (start, name) in functions(&code) {
        let Some(end) = function_end(&code, start) else { continue };
        let lines = 1 + code[start..end].iter().filter(|&&c| c == '\n').count();
        if lines > FUNCTION_LINES_MAX {
            let line = 1 + code[..start].iter().filter(|&&c| c == '\n').count();
            let broken = format!("`{name}` has {lines} lines, the limit is {FUNCTION_LINES_MAX}");
            found.push(finding(file, line, broken, "let the parent branch, move work into leaves"));
        }
    }
    found
}

/// Every `fn name`, with where it starts.
fn functions(code: &[char]) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for at in 0..code.len() {
        let starts_word = at == 0 || !is_word(code[at - 1]);
        if starts_word && code[at..].starts_with(&['f', 'n', ' ']) {
            let name: String = code[at + 3..].iter().copied().take_while(|&c| is_word(c)).collect();
            if !name.is_empty() {
                found.push((at, name));
            }
        }
    }
    found
}

/// Where the body ends; `None` for a declaration without one.
fn function_end(code: &[char], start: usize) -> Option<usize> {
    let (mut round, mut curly) = (0_i32, 0_i32);
    for (at, c) in code.iter().enumerate().skip(start) {
        match c {
            '(' | '[' => round += 1,
            ')' | ']' => round -= 1,
            '{' => curly += 1,
            '}' => {
                curly -= 1;
                if curly == 0 {
                    return Some(at);
                }
            }
            ';' if round == 0 && curly == 0 => return None,
            _ => {}
        }
    }
    None
}

fn file_name(file: &Source) -> Vec<Finding> {
    let parts = file.path.trim_end_matches(".rs").split('/');
    parts
        .filter(|part| NAMES_THAT_SAY_NOTHING.contains(part))
        .map(|part| {
            let broken = format!("`{part}` is a name that says nothing");
            finding(file, 1, broken, "name the file after its one main type or duty")
        })
        .collect()
}

fn imports(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        for (library, homes, remedy) in HIDDEN {
            let at_home = homes.iter().any(|home| file.path.starts_with(home));
            if !at_home && names_library(line, library) && !is_derive_import(line) {
                let broken = format!("`{library}` is imported outside {}", homes.join(", "));
                found.push(finding(file, at + 1, broken, remedy));
            }
        }
    }
    found
}

/// Whether the line has a path that starts with the library, or uses it.
fn names_library(line: &str, library: &str) -> bool {
    line.match_indices(library).any(|(at, _)| {
        let before = &line[..at];
        let begins_path = !before.ends_with(|c| is_word(c) || c == ':' || c == '.');
        let word_end = line[at..].find(|c| !is_word(c)).map_or(line.len(), |len| at + len);
        let is_it = library.ends_with('_')
            || line[at + library.len()..word_end].is_empty()
            || line[at + library.len()..word_end].starts_with('_');
        let used = line[word_end..].starts_with("::")
            || before.trim_end().ends_with("use")
            || before.trim_end().ends_with("extern crate");
        begins_path && is_it && used
    })
}

fn is_derive_import(line: &str) -> bool {
    let Some(names) = line.trim().strip_prefix("use bincode::") else { return false };
    names
        .trim_end_matches(';')
        .trim_matches(['{', '}'])
        .split(',')
        .all(|name| BINCODE_DERIVES.contains(&name.trim()))
}

fn leftovers(file: &Source) -> Vec<Finding> {
    let marks = ["todo!", "unimplemented!", "dbg!", "#[ignore"];
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        for mark in marks.iter().filter(|mark| line.contains(**mark)) {
            let broken = format!("`{mark}` is left over");
            found.push(finding(file, at + 1, broken, "finish it, or take it out"));
        }
    }
    found
}

fn sleeps(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        let sleeps = line.contains("sleep(") && !line.contains("fn sleep(");
        if sleeps && file.is_test(at + 1) {
            let remedy = "wait for the condition (a channel, a poll with a deadline), not for time";
            found.push(finding(file, at + 1, "a test sleeps".to_string(), remedy));
        }
    }
    found
}

fn panics(file: &Source) -> Vec<Finding> {
    let mut found = Vec::new();
    for (at, line) in file.code.lines().enumerate() {
        if line.contains(".unwrap()") && !file.is_test(at + 1) {
            let remedy = "return the error, or `expect(\"why it cannot fail\")`";
            found.push(finding(file, at + 1, "`unwrap` outside tests".to_string(), remedy));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn findings(path: &str, text: &str) -> Vec<String> {
        check(&Source::new(path, text)).into_iter().map(|f| f.broken).collect()
    }

    #[test]
    fn a_file_or_line_over_its_limit_is_found() {
        assert_eq!(findings("a/src/b.rs", &"\n".repeat(500)), [] as [&str; 0]);
        assert_eq!(findings("a/src/b.rs", &"\n".repeat(501)), ["501 lines, the limit is 500"]);
        let lib = "61 lines, the limit of a lib.rs is 60";
        assert_eq!(findings("a/src/lib.rs", &"\n".repeat(61)), [lib]);
        let wide = "x".repeat(101);
        assert_eq!(findings("a/src/b.rs", &wide), ["101 columns, the limit is 100"]);
    }

    #[test]
    fn a_long_function_is_found_and_braces_in_text_do_not_count() {
        let body = |lines: usize| format!("fn f() {{\n{}}}", "    g(\"}\"); // }\n".repeat(lines));
        assert_eq!(findings("a/src/b.rs", &body(68)), [] as [&str; 0]);
        assert_eq!(findings("a/src/b.rs", &body(69)), ["`f` has 71 lines, the limit is 70"]);
        let declared = format!("trait T {{ fn f(x: [u8; 4]);{} }}", "\n".repeat(80));
        assert_eq!(findings("a/src/b.rs", &declared), [] as [&str; 0]);
    }

    #[test]
    fn an_import_outside_its_home_is_found() {
        let cases = [
            ("node/src/a.rs", "use rocksdb::DB;", true),
            ("engine/src/store/db.rs", "use rocksdb::DB;", false),
            ("engine/src/store.rs", "use rocksdb::DB;", false),
            ("engine/src/log/a.rs", "let x = rocksdb::DB::open();", true),
            ("engine/src/log/a.rs", "let x = librocksdb_sys::a();", false),
            ("node/src/a.rs", "// rocksdb::DB is not used here", false),
            ("node/src/a.rs", "use crate::rocksdb::DB;", false),
            ("ingest/src/queue/sqs.rs", "use aws_sdk_sqs::Client;", false),
            ("ingest/src/run.rs", "use aws_config::SdkConfig;", true),
            ("node/src/server.rs", "use openraft::Raft;", true),
            ("node/src/server.rs", "let a: openraft_rt::X;", true),
            ("node/src/raft/mod.rs", "use openraft::Raft;", false),
            ("client/protocol/src/op.rs", "use bincode::{BorrowDecode, Decode, Encode};", false),
            ("client/protocol/src/op.rs", "use bincode::config;", true),
            ("client/protocol/src/op.rs", "bincode::encode_to_vec(x)", true),
        ];
        for (path, line, wanted) in cases {
            assert_eq!(!findings(path, line).is_empty(), wanted, "{path}: {line}");
        }
    }

    #[test]
    fn leftovers_sleeps_and_unwraps_are_found_where_they_matter() {
        let cases = [
            ("a/src/b.rs", "fn f() { todo!() }", true),
            ("a/src/b.rs", "#[ignore = \"slow\"]", true),
            ("a/src/b.rs", "fn f() { x.unwrap() }", true),
            ("a/tests/b.rs", "fn f() { x.unwrap() }", false),
            ("a/src/b.rs", "fn f() { tokio::time::sleep(d).await }", false),
            ("a/tests/b.rs", "fn f() { thread::sleep(d) }", true),
            ("a/src/b.rs", "#[cfg(test)]\nmod t { fn f() { sleep(d) } }", true),
            ("a/src/helpers.rs", "", true),
            ("a/src/common/mod.rs", "", true),
            ("a/src/common_prefix.rs", "", false),
        ];
        for (path, line, wanted) in cases {
            assert_eq!(!findings(path, line).is_empty(), wanted, "{path}: {line}");
        }
    }
}
