//! The forwarder as Lambda calls it, with a real SDK client and fake queues.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::{
    io::{self, Write},
    path::Path,
    sync::{Arc, Mutex},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    operation::send_message_batch::SendMessageBatchOutput,
    types::{BatchResultErrorEntry, SendMessageBatchRequestEntry, SendMessageBatchResultEntry},
};
use aws_smithy_mocks::{RuleMode, mock, mock_client};
use forwarder::{Config, Error, Forwarded, Forwarder};
use platform::{Deadline, Metrics, Queue};
use serde_json::{Value, json};
use tokio::time::Instant;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// A work queue and a dead-letter queue that keep what they accept.
#[derive(Clone, Default)]
struct Fake {
    rejects: Option<&'static str>,
    fifo: bool,
    lines: Lines,
    work: Arc<Mutex<Vec<SendMessageBatchRequestEntry>>>,
    dead: Arc<Mutex<Vec<SendMessageBatchRequestEntry>>>,
}

/// Metrics, line by line.
#[derive(Clone, Default)]
struct Lines(Arc<Mutex<Vec<u8>>>);

impl Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().expect("lock").write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Fake {
    async fn forward(&self, payload: &str) -> Result<Forwarded, Error> {
        let suffix = if self.fifo { ".fifo" } else { "" };
        let forwarder = Forwarder {
            config: Config { group_key_segments: 2 },
            metrics: Metrics::to("Sluice", "forwarder", self.lines.clone()),
            work_queue: Queue::new(self.client(&self.work), format!("http://x/work{suffix}")),
            dead_letter_queue: Queue::new(self.client(&self.dead), "http://x/dead"),
        };
        forwarder.handle(payload, Deadline::at(Instant::now() + Duration::from_secs(30))).await
    }

    fn client(&self, queue: &Arc<Mutex<Vec<SendMessageBatchRequestEntry>>>) -> Client {
        let (queue, rejects) = (Arc::clone(queue), self.rejects);
        let rule = mock!(Client::send_message_batch).then_compute_output(move |request| {
            let mut output = SendMessageBatchOutput::builder()
                .set_successful(Some(Vec::new()))
                .set_failed(Some(Vec::new()));
            for entry in request.entries() {
                output = if rejects.is_some_and(|text| entry.message_body().contains(text)) {
                    let rejection = BatchResultErrorEntry::builder().id(entry.id());
                    let rejection = rejection.code("InternalError").sender_fault(false);
                    output.failed(rejection.build().expect("complete"))
                } else {
                    queue.lock().expect("lock").push(entry.clone());
                    let accepted = SendMessageBatchResultEntry::builder().id(entry.id());
                    let accepted = accepted.message_id("m").md5_of_message_body("d");
                    output.successful(accepted.build().expect("complete"))
                };
            }
            output.build().expect("complete")
        });
        mock_client!(aws_sdk_sqs, RuleMode::MatchAny, &[&rule])
    }

    fn work(&self) -> Vec<SendMessageBatchRequestEntry> {
        self.work.lock().expect("lock").clone()
    }

    /// The keys of the messages on the work queue.
    fn keys(&self) -> Vec<String> {
        let body = |entry: &SendMessageBatchRequestEntry| {
            let body: Value = serde_json::from_str(entry.message_body()).expect("JSON");
            body["data"]["key"].as_str().expect("key").to_owned()
        };
        self.work().iter().map(body).collect()
    }
}

fn forwarded(forwarded: usize) -> Forwarded {
    Forwarded { forwarded, dead_lettered: 0 }
}

#[tokio::test(start_paused = true)]
async fn every_record_becomes_a_message_of_its_device() {
    let fake = Fake::default();
    let answer = fake.forward(&sample("s3-two-records.json")).await.expect("forwarded");
    assert_eq!(answer, forwarded(2));
    let work = fake.work();
    assert_eq!(
        fake.keys(),
        ["devices/42/state 2026-11-20T21:00:00Z.json", "devices/7/한글+1.json"]
    );
    let groups: Vec<_> =
        work.iter().map(|entry| entry.message_group_id().expect("group")).collect();
    assert_eq!(groups, ["devices/42", "devices/7"]);
    assert!(work.iter().all(|entry| entry.message_deduplication_id().is_none()));
    assert!(work.iter().all(|entry| entry.message_attributes().is_none()));
}

#[tokio::test(start_paused = true)]
async fn every_way_in_is_accepted() {
    for name in [
        "s3-object-created-put.json",
        "s3-object-created-versioned.json",
        "s3-object-restore-completed-no-sequencer.json",
        "sns-to-lambda.json",
        "eventbridge-object-created-key-not-encoded.json",
    ] {
        let answer = Fake::default().forward(&sample(name)).await;
        assert_eq!(answer.expect("forwarded"), forwarded(1), "{name}");
    }
    let answer = Fake::default().forward(&sample("s3-test-event.json")).await;
    assert_eq!(answer.expect("forwarded"), forwarded(0));
}

#[tokio::test(start_paused = true)]
async fn a_burst_goes_out_in_tens() {
    let mut burst: Value =
        serde_json::from_str(&sample("s3-object-created-put.json")).expect("JSON");
    let record = burst["Records"][0].clone();
    let records = (0..1_000).map(|n| {
        let mut record = record.clone();
        record["s3"]["object"]["key"] = json!(format!("devices/{n}/state.json"));
        record
    });
    burst["Records"] = records.collect();
    let fake = Fake::default();
    assert_eq!(fake.forward(&burst.to_string()).await.expect("forwarded"), forwarded(1_000));
    let mut keys = fake.keys();
    keys.sort();
    keys.dedup();
    assert_eq!(keys.len(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_entry_fails_the_invocation_after_the_others_are_sent() {
    let fake = Fake { rejects: Some("devices/7/"), ..Fake::default() };
    let error = fake.forward(&sample("s3-two-records.json")).await.expect_err("an error");
    assert_eq!(
        error.to_string(),
        "1 of 2 events are not on the queue, first: the queue rejected the message: \
         InternalError: "
    );
    assert_eq!(fake.keys(), ["devices/42/state 2026-11-20T21:00:00Z.json"]);
}

#[tokio::test(start_paused = true)]
async fn a_record_that_cannot_be_decoded_fails_the_invocation_after_the_others_are_sent() {
    let fake = Fake::default();
    let payload = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let error = fake.forward(&payload).await.expect_err("an error").to_string();
    assert!(error.starts_with("1 of 2 events cannot be decoded, first: "), "{error}");
    assert!(error.contains("Records[0].eventVersion"), "{error}");
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);
}

#[tokio::test(start_paused = true)]
async fn an_event_that_no_message_can_hold_is_dead_lettered_with_a_reason() {
    let fake = Fake::default();
    let mut payload: Value = serde_json::from_str(&sample("s3-two-records.json")).expect("JSON");
    payload["Records"][0]["s3"]["object"]["key"] =
        json!("devices/42/".to_owned() + &"x".repeat(600_000));
    let answer = fake.forward(&payload.to_string()).await.expect("forwarded");
    assert_eq!(answer, Forwarded { forwarded: 1, dead_lettered: 1 });
    assert_eq!(fake.keys(), ["devices/7/한글+1.json"]);
    let letter = fake.dead.lock().expect("lock")[0].clone();
    let attributes = letter.message_attributes().expect("attributes");
    assert_eq!(attributes["errorClass"].string_value(), Some("EventTooLarge"));
    let reason = attributes["errorMessage"].string_value().expect("reason");
    assert!(reason.ends_with("of which a queue takes 1048576"), "{reason}");
    assert!(letter.message_body().contains("devices/42/xxx"));
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_the_id_deduplicates_and_the_order_is_kept() {
    let fake = Fake { fifo: true, ..Fake::default() };
    fake.forward(&sample("s3-two-records.json")).await.expect("forwarded");
    let ids: Vec<_> = fake
        .work()
        .iter()
        .filter_map(|entry| entry.message_deduplication_id().map(str::to_owned))
        .collect();
    assert_eq!(ids[0], "60a564b35e9db02ade816b779bdb953583907372");
    assert_eq!(ids.len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_is_no_event_at_all_is_an_error() {
    let error = Fake::default().forward(&sample("scheduled-event.json")).await;
    assert!(matches!(error, Err(Error::Undecodable { events: 1, .. })));
}

#[tokio::test(start_paused = true)]
async fn every_event_is_counted_once() {
    let fake = Fake { rejects: Some("devices/7/"), ..Fake::default() };
    let mut payload: Value = serde_json::from_str(&sample("s3-two-records.json")).expect("JSON");
    payload["Records"].as_array_mut().expect("array").push(json!({}));
    fake.forward(&payload.to_string()).await.expect_err("an error");
    let line = fake.lines.0.lock().expect("lock").clone();
    let line: Value = serde_json::from_slice(&line).expect("one line of JSON");
    let directive = &line["_aws"]["CloudWatchMetrics"][0];
    assert_eq!(directive["Namespace"], "Sluice");
    assert_eq!(directive["Dimensions"], json!([["FunctionName"]]));
    assert_eq!(line["FunctionName"], "forwarder");
    let count = |name: &str| line[name].as_u64().expect("a number");
    assert_eq!(count("Received"), 3);
    assert_eq!([count("Forwarded"), count("Rejected"), count("Undecodable")], [1, 1, 1]);
    assert_eq!(count("DeadLettered"), 0);
}
