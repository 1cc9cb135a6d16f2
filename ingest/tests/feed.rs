//! The feed server as the real SDK sees it.

use std::path::Path;
use std::time::{Duration, Instant};

use aws_config::{BehaviorVersion, Region};
use aws_credential_types::Credentials;
use aws_sdk_sqs::Client;
use aws_sdk_sqs::error::ProvideErrorMetadata;
use aws_sdk_sqs::types::{
    DeleteMessageBatchRequestEntry, Message, MessageAttributeValue, MessageSystemAttributeName,
    QueueAttributeName, SendMessageBatchRequestEntry,
};
use platbook_ingest::ServeConfig;
use platbook_ingest::error::ServeError;
use platbook_ingest::feed::Server;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

struct Feed {
    client: Client,
    url: String,
    shutdown: CancellationToken,
    running: JoinHandle<Result<(), ServeError>>,
}

fn config() -> ServeConfig {
    ServeConfig { listen: "127.0.0.1:0".parse().expect("an address"), ..ServeConfig::default() }
}

fn durable(dir: &Path) -> ServeConfig {
    let (data, journal) = (Some(dir.join("data")), Some(dir.join("journal.ndjson")));
    ServeConfig { data, journal, ..config() }
}

impl Feed {
    async fn start(config: ServeConfig) -> Feed {
        let server = Server::bind(config).await.expect("binds");
        let endpoint = format!("http://{}", server.local_addr());
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(server.run(shutdown.clone()));
        let http = aws_smithy_http_client::Builder::new().build_http();
        let loaded = aws_config::defaults(BehaviorVersion::latest())
            .http_client(http)
            .endpoint_url(endpoint)
            .region(Region::new("us-east-1"))
            .credentials_provider(Credentials::new("a", "b", None, None, "test"))
            .load()
            .await;
        let client = Client::new(&loaded);
        let url = client.get_queue_url().queue_name("listings").send().await.expect("is made");
        let url = url.queue_url().expect("has a url").to_string();
        Feed { client, url, shutdown, running }
    }

    async fn stop(self) {
        self.shutdown.cancel();
        self.running.await.expect("no panic").expect("no failure");
    }

    async fn send(&self, body: &str) -> String {
        let call = self.client.send_message().queue_url(&self.url).message_body(body);
        call.send().await.expect("is taken").message_id.expect("has an id")
    }

    async fn receive(&self, wait_seconds: i32) -> Vec<Message> {
        self.client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(10)
            .wait_time_seconds(wait_seconds)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .send()
            .await
            .expect("answers")
            .messages
            .unwrap_or_default()
    }

    async fn delete(&self, message: &Message) {
        let handle = message.receipt_handle().expect("has a handle");
        let call = self.client.delete_message().queue_url(&self.url).receipt_handle(handle);
        call.send().await.expect("is deleted");
    }

    async fn attribute(&self, name: QueueAttributeName) -> String {
        let call = self.client.get_queue_attributes().queue_url(&self.url);
        let answer = call.attribute_names(name.clone()).send().await.expect("answers");
        answer.attributes().expect("are there")[&name].clone()
    }
}

fn system(message: &Message, name: MessageSystemAttributeName) -> String {
    message.attributes().expect("were asked for")[&name].clone()
}

#[tokio::test]
async fn a_message_goes_through_with_attributes_only_where_asked() {
    let feed = Feed::start(config()).await;
    let number = MessageAttributeValue::builder().data_type("Number").string_value("7");
    let call = feed.client.send_message().queue_url(&feed.url).message_body("a \"b\" é\n");
    let call = call.message_attributes("sequence", number.build().expect("valid"));
    call.send().await.expect("is taken");
    let bare = feed.client.receive_message().queue_url(&feed.url).visibility_timeout(0);
    let bare = bare.send().await.expect("answers").messages.expect("one");
    assert_eq!(bare[0].body(), Some("a \"b\" é\n"));
    assert!(bare[0].attributes().is_none_or(|all| all.is_empty()));
    assert!(bare[0].message_attributes().is_none_or(|all| all.is_empty()));
    let full = feed.client.receive_message().queue_url(&feed.url).message_attribute_names("seq.*");
    let full = full
        .message_system_attribute_names(MessageSystemAttributeName::ApproximateReceiveCount)
        .send()
        .await
        .expect("answers")
        .messages
        .expect("one");
    let sequence = &full[0].message_attributes().expect("asked for")["sequence"];
    assert_eq!(sequence.string_value(), Some("7"));
    assert_eq!(full[0].attributes().expect("asked for").len(), 1);
    assert_eq!(system(&full[0], MessageSystemAttributeName::ApproximateReceiveCount), "2");
    feed.stop().await;
}

#[tokio::test]
async fn errors_are_the_ones_that_sqs_gives() {
    let feed = Feed::start(config()).await;
    let error = feed.client.get_queue_url().queue_name("nope").send().await.expect_err("missing");
    assert!(error.into_service_error().is_queue_does_not_exist());
    let entries = |count: usize, body: &str| -> Vec<SendMessageBatchRequestEntry> {
        let entry =
            |n: usize| SendMessageBatchRequestEntry::builder().id(n.to_string()).message_body(body);
        (0..count).map(|n| entry(n).build().expect("valid")).collect()
    };
    let batch = |count, body: &str| {
        let call = feed.client.send_message_batch().queue_url(&feed.url);
        call.set_entries(Some(entries(count, body))).send()
    };
    let error = batch(11, "x").await.expect_err("too many").into_service_error();
    assert!(error.is_too_many_entries_in_batch_request());
    let error = batch(0, "x").await.expect_err("empty").into_service_error();
    assert!(error.is_empty_batch_request());
    let error = batch(2, &"x".repeat(600 << 10)).await.expect_err("long").into_service_error();
    assert!(error.is_batch_request_too_long());
    let mebibyte = "x".repeat(1 << 20);
    batch(1, &mebibyte).await.expect("1 MiB is allowed");
    let call = feed.client.send_message().queue_url(&feed.url).message_body(mebibyte + "x");
    let error = call.send().await.expect_err("too long").into_service_error();
    assert_eq!(error.code(), Some("InvalidParameterValue"));
    let call = feed.client.delete_message().queue_url(&feed.url).receipt_handle("garbage");
    let error = call.send().await.expect_err("garbage").into_service_error();
    assert!(error.is_receipt_handle_is_invalid());
    feed.stop().await;
}

#[tokio::test]
async fn a_duplicated_message_comes_twice_with_the_same_id_and_time() {
    let feed = Feed::start(ServeConfig { duplicate: 1.0, ..config() }).await;
    feed.send("x").await;
    let both = feed.receive(0).await;
    assert_eq!(both.len(), 2);
    assert_eq!(both[0].message_id(), both[1].message_id());
    assert_ne!(both[0].receipt_handle(), both[1].receipt_handle());
    let sent = MessageSystemAttributeName::SentTimestamp;
    assert_eq!(system(&both[0], sent.clone()), system(&both[1], sent));
    feed.stop().await;
}

#[tokio::test]
async fn a_resurrected_message_comes_back_after_its_delete() {
    let feed = Feed::start(ServeConfig { resurrect: 1.0, ..config() }).await;
    let id = feed.send("x").await;
    feed.delete(&feed.receive(0).await[0]).await;
    let back = feed.receive(0).await;
    assert_eq!(back[0].message_id(), Some(id.as_str()));
    feed.delete(&back[0]).await;
    assert!(feed.receive(0).await.is_empty());
    feed.stop().await;
}

#[tokio::test]
async fn a_failing_delete_fails_by_entry_and_the_message_stays() {
    let feed = Feed::start(ServeConfig { fail_delete: 1.0, ..config() }).await;
    feed.send("x").await;
    let message = &feed.receive(0).await[0];
    let entry = DeleteMessageBatchRequestEntry::builder().id("0");
    let entry = entry.receipt_handle(message.receipt_handle().expect("has a handle"));
    let call = feed.client.delete_message_batch().queue_url(&feed.url);
    let call = call.entries(entry.build().expect("valid"));
    let answer = call.send().await.expect("the batch itself succeeds");
    assert_eq!(answer.failed().len(), 1);
    assert!(answer.successful().is_empty() && !answer.failed()[0].sender_fault());
    let in_flight = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    assert_eq!(feed.attribute(in_flight).await, "1");
    feed.stop().await;
}

#[tokio::test]
async fn at_the_in_flight_cap_long_polls_are_silent_and_short_ones_refused() {
    let feed = Feed::start(ServeConfig { in_flight_max: 1, ..config() }).await;
    feed.send("x").await;
    feed.send("y").await;
    let held = feed.receive(0).await;
    assert_eq!(held.len(), 1);
    let call = feed.client.receive_message().queue_url(&feed.url).wait_time_seconds(0);
    let error = call.send().await.expect_err("over the limit").into_service_error();
    assert!(error.is_over_limit());
    assert!(feed.receive(1).await.is_empty());
    let (next, ()) = tokio::join!(feed.receive(20), feed.delete(&held[0]));
    assert_eq!(next.len(), 1, "a delete makes room at once");
    feed.stop().await;
}

#[tokio::test]
async fn a_long_poll_ends_when_a_message_comes_or_its_visibility_ends() {
    let feed = Feed::start(config()).await;
    let start = Instant::now();
    let (messages, _) = tokio::join!(feed.receive(20), feed.send("x"));
    assert_eq!(messages.len(), 1);
    let handle = messages[0].receipt_handle().expect("has a handle");
    let call = feed.client.change_message_visibility().queue_url(&feed.url);
    call.receipt_handle(handle).visibility_timeout(1).send().await.expect("in flight");
    assert_eq!(feed.receive(20).await.len(), 1);
    assert!(start.elapsed() < Duration::from_secs(15));
    feed.stop().await;
}

#[tokio::test]
async fn a_durable_feed_goes_on_after_a_restart_and_its_journal_is_exact() {
    let dir = tempfile::tempdir().expect("a directory");
    let feed = Feed::start(durable(dir.path())).await;
    let call = feed.client.set_queue_attributes().queue_url(&feed.url);
    call.attributes(QueueAttributeName::VisibilityTimeout, "77").send().await.expect("is set");
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(feed.send(&format!("body {n}")).await);
    }
    let first = &feed.receive(0).await[0];
    assert_eq!(first.body(), Some("body 0"));
    feed.delete(first).await;
    feed.stop().await;

    let journal = dir.path().join("journal.ndjson");
    let text = std::fs::read_to_string(&journal).expect("reads");
    let lines: Vec<serde_json::Value> =
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let journaled: Vec<&str> = lines.iter().filter_map(|l| l["message_id"].as_str()).collect();
    assert_eq!(journaled, ids);
    assert_eq!(lines[4]["body"], "body 4");
    // As after a crash between the log and the journal, in the middle of a line.
    let third = text.lines().take(3).map(|line| line.len() + 1).sum::<usize>();
    std::fs::write(&journal, &text[..third + 9]).expect("writes");

    let feed = Feed::start(durable(dir.path())).await;
    assert_eq!(std::fs::read_to_string(&journal).expect("reads"), text);
    assert_eq!(feed.attribute(QueueAttributeName::VisibilityTimeout).await, "77");
    let mut left: Vec<String> =
        feed.receive(0).await.iter().filter_map(|m| m.message_id.clone()).collect();
    left.sort_unstable();
    ids.remove(0);
    ids.sort_unstable();
    assert_eq!(left, ids);
    feed.stop().await;
}

#[tokio::test]
async fn an_address_that_is_not_loopback_is_refused() {
    let listen = "0.0.0.0:0".parse().expect("an address");
    let error = Server::bind(ServeConfig { listen, ..config() }).await.expect_err("refused");
    assert!(error.to_string().contains("--insecure"), "{error}");
    let error = Server::bind(ServeConfig { ghost: 1.5, ..config() }).await.expect_err("refused");
    assert!(error.to_string().contains("--ghost"), "{error}");
}
