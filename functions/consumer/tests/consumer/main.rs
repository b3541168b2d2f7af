//! The consumer as Lambda calls it, with real SDK clients and fake services.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod fake;
mod fifo;
mod objects;
mod outcomes;
mod settlement;
mod tables;

use std::{path::Path, time::Duration};

use aws_lambda_events::event::sqs::SqsEvent;
use fake::Fake;
use jiff::Timestamp;
use platform::Deadline;
use serde_json::{Value, json};
use tokio::time::Instant;

fn sample(name: &str) -> Value {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(name);
    let text = std::fs::read_to_string(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
    serde_json::from_str(&text).expect("JSON")
}

/// Minutes after the events of the samples.
fn now() -> Timestamp {
    "2026-11-20T21:05:00Z".parse().expect("time")
}

fn deadline() -> Deadline {
    Deadline::at(Instant::now() + Duration::from_secs(30))
}

fn event(records: &[Value]) -> SqsEvent {
    serde_json::from_value(json!({ "Records": records })).expect("SQS event")
}

/// The ids that the answer names, and that SQS will deliver again.
async fn consume_event(fake: &Fake, event: SqsEvent) -> Vec<String> {
    let response = fake.consumer().handle(event, deadline(), now()).await.expect("an answer");
    response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
}

async fn consume(fake: &Fake, records: Vec<Value>) -> Vec<String> {
    consume_event(fake, event(&records)).await
}

/// A record whose event is about `key`, and whose message id is the key too.
fn record(key: &str) -> Value {
    let mut record = sample("sqs-two-messages.json")["Records"][0].clone();
    record["messageId"] = json!(key);
    record["receiptHandle"] = json!(format!("receipt of {key}"));
    record["body"] = json!(message(key).to_string());
    record
}

fn message(key: &str) -> Value {
    let notification = notification(key).to_string();
    let event = messages::decode(&notification).remove(0).expect("decodable");
    serde_json::from_str(&event.to_json().expect("JSON")).expect("JSON")
}

fn notification(key: &str) -> Value {
    let mut notification = sample("s3-object-created-put.json");
    notification["Records"][0]["s3"]["object"]["key"] = json!(key);
    notification
}
