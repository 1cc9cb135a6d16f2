//! Every example of the client library does what it says, against a real installation.

mod installation;

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use installation::{ZIPS, cluster, listing};
use platbook_chaos_tests::Cluster;
use platbook_client::Client;
use serde_json::Value;
use tokio::io::AsyncBufReadExt;
use tokio::time::timeout;

/// The built example; a run of all tests of the workspace builds them.
fn example(cluster: &Cluster, name: &str, args: &[&str]) -> Command {
    let binary = Path::new(env!("CARGO_BIN_EXE_platbook"));
    let path = binary.with_file_name("examples").join(name);
    let wanted = "first: cargo build --workspace --examples";
    assert!(path.exists(), "{} is not built; {wanted}", path.display());
    let mut command = Command::new(path);
    command.args(args).env("PLATBOOK_ROUTER", format!("http://{}", cluster.router_address));
    command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
    command
}

fn run(cluster: &Cluster, name: &str, args: &[&str]) -> String {
    let Output { status, stdout, stderr } = example(cluster, name, args).output().expect("it runs");
    let (said, complained) = (String::from_utf8_lossy(&stdout), String::from_utf8_lossy(&stderr));
    assert!(status.success(), "{name}: {said}{complained}");
    said.into_owned()
}

fn file(dir: &Path, name: &str) -> (PathBuf, String) {
    let path = dir.join(name);
    let text = path.display().to_string();
    (path, text)
}

#[tokio::test(flavor = "multi_thread")]
async fn the_examples_do_what_they_say() {
    let dir = tempfile::tempdir().expect("a directory");
    let cluster = cluster(dir.path()).await;
    let client = Client::new(format!("http://{}", cluster.router_address)).expect("a valid url");

    let lines: Vec<String> = (0..90).map(|number| listing(number, 100_000 + number)).collect();
    let (path, text) = file(dir.path(), "listings.ndjson");
    std::fs::write(path, lines.join("\n")).expect("written");
    assert_eq!(run(&cluster, "bulk_load", &[&text]), "90 done, 90 of them new or changed\n");

    let cards = run(&cluster, "zip_cards", &[ZIPS[0]]);
    let cards: Vec<&str> = cards.lines().collect();
    assert_eq!((cards.len(), cards[0].trim()), (32, "100000  L00000"), "{cards:?}");
    assert_eq!(cards[30], format!("30 listings in {}", ZIPS[0]));

    assert_eq!(run(&cluster, "edit_price", &["L00003", "1"]), "L00003: Applied, now at 1\n");
    let edited = client.get("L00003").await.expect("is answered").expect("is there");
    assert_eq!(edited.json::<Value>().expect("JSON")["ListPrice"], 1);

    // What is left in the outbox by a process that was killed is done with its own time.
    let (path, text) = file(dir.path(), "outbox.txt");
    std::fs::write(&path, "1000 L00006\n").expect("written");
    let said = run(&cluster, "outbox", &[&text, "L00009"]);
    assert_eq!(said, "L00006: Stale\nL00009: Applied\n");
    assert_eq!(std::fs::read_to_string(&path).expect("is there"), "");
    assert_eq!(client.get("L00009").await.expect("is answered"), None);
    assert!(client.get("L00006").await.expect("is answered").is_some(), "it is newer");
    the_median_follows(&cluster, &client).await;
    cluster.stop().await.expect("everything drains");
}

/// A median is right as soon as it is told, and told again whenever it is another.
async fn the_median_follows(cluster: &Cluster, client: &Client) {
    let mut service = tokio::process::Command::from(example(cluster, "zip_median", &[]));
    let mut service = service.kill_on_drop(true).spawn().expect("it starts");
    let told = service.stdout.take().expect("is piped");
    let mut told = tokio::io::BufReader::new(told).lines();
    let mut until = async |wanted: String| {
        let found = timeout(Duration::from_secs(30), async {
            let mut seen = Vec::new();
            while let Some(line) = told.next_line().await.expect("text") {
                if line == wanted {
                    return;
                }
                seen.push(line);
            }
            panic!("it ended, and told {seen:?}");
        });
        found.await.unwrap_or_else(|_| panic!("{wanted:?} is not told in time"));
    };
    // Numbers 1, 4, 7, ... 88, at 100,000 and their number.
    until(format!("{} 100046 of 30", ZIPS[1])).await;
    for number in [46, 49, 52] {
        let id = format!("L{number:05}");
        client.put(id, listing(number, 5)).await.expect("is written");
    }
    until(format!("{} 100037 of 30", ZIPS[1])).await;
    client.delete("L00001").await.expect("is deleted");
    until(format!("{} 100037 of 29", ZIPS[1])).await;
}
