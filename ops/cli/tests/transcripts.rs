//! Every shell transcript of the documentation runs as it is written: the blocks marked `console`.
//!
//! A line `$ command` is run by bash; the lines below it are what it must print. `...` in a line
//! stands for anything, a line of nothing else for any lines. The router of the documentation,
//! `127.0.0.1:8080`, is the one that the test has started by `platbook dev`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use platbook_chaos_tests::cluster::free_addresses;
use platbook_chaos_tests::{Process, Program, http, wait};

const BINARY: &str = env!("CARGO_BIN_EXE_platbook");
const READY_WITHIN: Duration = Duration::from_secs(60);
/// Where the documentation's router listens.
const ROUTER: &str = "127.0.0.1:8080";

/// One command and what it prints.
#[derive(Debug, PartialEq, Eq)]
struct Step {
    line: usize,
    command: String,
    expected: Vec<String>,
}

fn steps(text: &str) -> Vec<Step> {
    let mut steps: Vec<Step> = Vec::new();
    let mut is_inside = false;
    for (at, line) in text.lines().enumerate() {
        match (is_inside, line.strip_prefix("$ ")) {
            (false, _) => is_inside = line == "```console",
            (true, _) if line == "```" => is_inside = false,
            (true, Some(command)) => {
                let (command, expected) = (command.to_string(), Vec::new());
                steps.push(Step { line: at + 1, command, expected });
            }
            (true, None) => {
                let step = steps.last_mut().expect("a transcript begins with a command");
                step.expected.push(line.to_string());
            }
        }
    }
    steps
}

/// Whether a printed line is the expected one.
fn is_line(expected: &str, found: &str) -> bool {
    let mut parts = expected.split("...");
    let Some(mut rest) = parts.next().and_then(|first| found.strip_prefix(first)) else {
        return false;
    };
    let parts: Vec<&str> = parts.collect();
    let Some((last, middle)) = parts.split_last() else { return rest.is_empty() };
    for part in middle {
        let Some((_, behind)) = rest.split_once(part) else { return false };
        rest = behind;
    }
    rest.ends_with(last)
}

/// Whether the printed lines are the expected ones.
fn is_output(expected: &[String], found: &[&str]) -> bool {
    match (expected.split_first(), found.split_first()) {
        (None, _) => found.is_empty(),
        (Some((first, rest)), _) if first == "..." => {
            (0..=found.len()).any(|skipped| is_output(rest, &found[skipped..]))
        }
        (Some(_), None) => false,
        (Some((first, rest)), Some((line, more))) => is_line(first, line) && is_output(rest, more),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// The README and all that is under `docs`.
fn documents() -> Vec<PathBuf> {
    let mut found = vec![root().join("README.md")];
    let mut dirs = vec![root().join("docs")];
    while let Some(dir) = dirs.pop() {
        for entry in std::fs::read_dir(&dir).expect("a directory").flatten() {
            let path = entry.path();
            match path.is_dir() {
                true => dirs.push(path),
                false if path.extension().is_some_and(|ending| ending == "md") => found.push(path),
                false => {}
            }
        }
    }
    found.sort();
    found
}

async fn installation(dir: &Path) -> (Process, String) {
    let addresses = free_addresses(2).expect("two ports");
    let (router, feed) = (&addresses[0], &addresses[1]);
    let mut args: Vec<std::ffi::OsString> =
        ["dev", "--listen", router, "--feed", feed, "--data"].map(Into::into).to_vec();
    args.push(dir.join("data").into());
    let program = Program {
        name: "dev".to_string(),
        binary: PathBuf::from(BINARY),
        args,
        env: Vec::new(),
        logs: dir.join("logs"),
    };
    let mut dev = Process::start(program).expect("it starts");
    wait::until("the installation is ready", READY_WITHIN, async || {
        dev.check().map_err(|e| e.to_string())?;
        match http::get(router, "/readyz", &[]).await {
            Ok(answer) if answer.status == 200 => Ok(()),
            Ok(answer) => Err(answer.text()),
            Err(error) => Err(error.to_string()),
        }
    })
    .await
    .expect("it is ready in time");
    (dev, router.clone())
}

/// `make TARGET` is not run within a test, but the target has to be there.
fn is_make(command: &str) -> bool {
    let Some(target) = command.strip_prefix("make ") else { return false };
    let target = target.split_whitespace().next().expect("a target");
    let makefile = std::fs::read_to_string(root().join("Makefile")).expect("the Makefile");
    let rule = format!("{target}:");
    assert!(makefile.lines().any(|line| line.starts_with(&rule)), "no target in `{command}`");
    true
}

fn run(step: &Step, dir: &Path, router: &str) -> String {
    let tools = Path::new(BINARY).parent().expect("it lies in a directory");
    let path = format!("{}:{}", tools.display(), std::env::var("PATH").unwrap_or_default());
    let output = Command::new("bash")
        .args(["-c", &format!("{{ {}\n}} 2>&1", step.command.replace(ROUTER, router))])
        .current_dir(dir)
        .env("PATH", path)
        .env("PLATBOOK_ROUTER", format!("http://{router}"))
        .output()
        .expect("bash runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn every_transcript_of_the_documentation_runs_as_written() {
    let dir = tempfile::tempdir().expect("a directory");
    let (mut dev, router) = installation(dir.path()).await;
    let (mut commands, mut wrong) = (0, Vec::new());
    for document in documents() {
        let text = std::fs::read_to_string(&document).expect("a document");
        let place = tempfile::tempdir().expect("a directory");
        for step in steps(&text) {
            commands += 1;
            if is_make(&step.command) {
                continue;
            }
            let printed = run(&step, place.path(), &router);
            let found: Vec<&str> = printed.lines().collect();
            if !is_output(&step.expected, &found) {
                let Step { line, command, expected } = &step;
                let (document, expected) = (document.display(), expected.join("\n"));
                wrong.push(format!(
                    "{document}:{line}: {command}\nexpected:\n{expected}\nfound:\n{printed}"
                ));
            }
        }
    }
    dev.terminate(Duration::from_secs(20)).await.expect("it drains");
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    assert!(commands > 20, "{commands} commands: where are the transcripts?");
}

#[test]
fn dots_stand_for_anything_and_nothing_else_does() {
    assert!(is_line("a...c...", "abbbc and more"));
    assert!(is_line("...", "") && is_line("x", "x"));
    assert!(!is_line("a...c", "abbb") && !is_line("a", "ab"));
    let lines = |text: &str| text.lines().map(str::to_string).collect::<Vec<_>>();
    assert!(is_output(&lines("...\nb\n..."), &["a", "a", "b"]));
    assert!(!is_output(&lines("a"), &["a", "b"]));
    let text = "x\n```console\n$ one\nout\n$ two\n```\n$ no\n";
    let found = steps(text);
    assert_eq!(found.len(), 2);
    assert_eq!(
        (found[0].expected.as_slice(), found[1].command.as_str()),
        (&["out".to_string()][..], "two")
    );
}
