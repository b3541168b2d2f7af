//! The consumer as Lambda calls it, with real SDK clients and simulated services.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod fifo;
mod objects;
mod outcomes;
mod running;
mod settlement;
mod tables;

use std::{sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use consumer::{Config, Consumer, Error, Pace, Running};
use jiff::Timestamp;
use platform::{Deadline, Metrics, Queue, Settings};
use serde_json::{Value, json};
use testing::{Aws, E_TAG, Lines, Object, message, record, sample, sample_json};
use tokio::time::Instant;

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

/// The defaults, but for what most tests are about.
fn config(aws: &Aws) -> Config {
    let arn = aws.step_functions().state_machine_arn();
    let lookup = |name: &str| (name == "STATE_MACHINE_ARN").then(|| arn.clone().into());
    let mut config = Settings::from_lookup(&lookup, Config::read).expect("defaults");
    config.inline_object_max_bytes = 1_000;
    config.backoff.base = Duration::from_secs(8);
    config
}

/// One record after the other.
fn in_sequence(aws: &Aws) -> Config {
    Config { start_concurrency: 1, ..config(aws) }
}

fn consumer(aws: &Aws, config: Config, metrics: &Lines) -> Consumer {
    let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
    Consumer {
        config,
        pace: Arc::new(Pace::default()),
        running: Arc::new(Running::default()),
        metrics: Metrics::to("Sluice", "consumer", metrics.clone()),
        step_functions: consumer::step_functions_client(
            aws.step_functions().client().config().to_builder(),
        ),
        s3: aws.s3().client(),
        work_queue: Queue::new(work.client(), work.url()),
        dead_letter_queue: Queue::new(dead.client(), dead.url()),
    }
}

/// The object that the event of [`record`] is about.
fn uploads(aws: &Aws, key: &str, content: &[u8]) {
    aws.s3().has("device-state", Object::new(key, content).e_tag(E_TAG));
}

/// What events are about is in the bucket, unless a test has put something else there.
fn uploads_what_is_missing(aws: &Aws, event: &SqsEvent) {
    let bodies = event.records.iter().filter_map(|record| record.body.as_deref());
    for event in bodies.flat_map(messages::decode).flatten() {
        let written = event.data;
        if aws.s3().object(&written.bucket, &written.key).is_some() {
            continue;
        }
        let mut object = Object::new(&written.key, b"{}");
        object.version_id = written.version_id;
        object.e_tag = written.e_tag.unwrap_or(object.e_tag);
        aws.s3().has(&written.bucket, object);
    }
}

async fn handle(
    consumer: &Consumer,
    aws: &Aws,
    event: SqsEvent,
    deadline: Deadline,
    now: Timestamp,
) -> Result<SqsBatchResponse, Error> {
    uploads_what_is_missing(aws, &event);
    consumer.handle(event, deadline, now).await
}

/// The ids that the answer names, and that SQS will deliver again.
async fn consume(aws: &Aws, records: Vec<Value>) -> Vec<String> {
    consume_with(aws, config(aws), &Lines::default(), event(&records)).await
}

async fn consume_with(aws: &Aws, config: Config, metrics: &Lines, event: SqsEvent) -> Vec<String> {
    let consumer = consumer(aws, config, metrics);
    let response = handle(&consumer, aws, event, deadline(), now()).await.expect("an answer");
    response.batch_item_failures.into_iter().map(|failure| failure.item_identifier).collect()
}

async fn consume_in_sequence(aws: &Aws, records: Vec<Value>) -> Vec<String> {
    consume_with(aws, in_sequence(aws), &Lines::default(), event(&records)).await
}

/// As a message that was first deferred this many hours before [`now`].
fn deferred_for(hours: i64, mut record: Value) -> Value {
    let since = now() - jiff::SignedDuration::from_hours(hours);
    record["messageAttributes"] = json!({
        "deferrals": { "stringValue": "300", "dataType": "Number" },
        "deferredSince": { "stringValue": since.to_string(), "dataType": "String" },
    });
    record
}
