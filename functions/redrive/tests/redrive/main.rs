//! The redrive as Lambda calls it, with real SDK clients and fake services.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod archive;
mod canary;
mod executions;
mod expiry;
mod fake;
mod faults;
mod limits;
mod modes;
mod sorting;

use std::{path::Path, time::Duration};

use fake::{Fake, Letter};
use jiff::{Timestamp, ToSpan};
use platform::{Deadline, MAX_MESSAGE_BYTES};
use redrive::{Answer, Error, Report, Stopped};
use serde_json::{Value, json};
use tokio::time::Instant;

fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// 06:00 in Seoul, when the rule fires.
fn now() -> Timestamp {
    "2026-11-20T21:00:00Z".parse().expect("time")
}

async fn invoke(fake: &Fake, request: &Value) -> Result<Answer, Error> {
    let deadline = Deadline::at(Instant::now() + Duration::from_mins(15));
    fake.redriver().handle(&request.to_string(), deadline, now()).await
}

async fn redrive(fake: &Fake, request: &Value) -> Result<Report, Error> {
    invoke(fake, request).await.map(report)
}

fn report(answer: Answer) -> Report {
    match answer {
        Answer::Report(report) => *report,
        other => panic!("{other:?}"),
    }
}

async fn nightly(fake: &Fake) -> Report {
    let event = serde_json::from_str(&sample("scheduled-event.json")).expect("JSON");
    redrive(fake, &event).await.expect("a report")
}

/// 06:00 so many days later.
fn night(n: i64) -> Timestamp {
    now().checked_add((24 * n).hours()).expect("time")
}

async fn nightly_at(fake: &Fake, at: Timestamp) -> Report {
    let deadline = Deadline::at(Instant::now() + Duration::from_mins(15));
    let event = sample("scheduled-event.json");
    report(fake.redriver().handle(&event, deadline, at).await.expect("a report"))
}

/// A day passes.
async fn a_day() {
    tokio::time::advance(Duration::from_hours(24)).await;
}

/// The message about a write to `key`.
fn message(key: &str) -> Value {
    let mut notification: Value =
        serde_json::from_str(&sample("s3-object-created-put.json")).expect("JSON");
    notification["Records"][0]["s3"]["object"]["key"] = json!(key);
    let event = messages::decode(&notification.to_string()).remove(0).expect("decodable");
    serde_json::from_str(&event.to_json().expect("JSON")).expect("JSON")
}

/// Yesterday's dead letter about a write to `key`.
fn letter(key: &str) -> Letter {
    Letter::new(&message(key).to_string())
}
