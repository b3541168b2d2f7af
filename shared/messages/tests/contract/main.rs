//! The contract as its users see it: envelopes from `events/` and from the imagination in, events
//! out.

#![expect(clippy::expect_used, reason = "a test may panic")]

mod envelopes;
mod errors;
mod fuzz;
mod ids;
mod keys;
mod message;

use std::path::Path;

use messages::{Event, decode};
use serde_json::{Value, json};

/// A file of `events/`, which `cargo lambda invoke` and the README use as well.
fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn sample_json(name: &str) -> Value {
    serde_json::from_str(&sample(name)).expect("JSON")
}

/// All events of a body that has no undecodable one.
fn events(body: &str) -> Vec<Event> {
    decode(body).into_iter().collect::<Result<_, _>>().expect("decodable")
}

fn event(body: &str) -> Event {
    let events = events(body);
    assert_eq!(events.len(), 1, "{events:?}");
    events.into_iter().next().expect("one")
}

/// The one error of a body.
fn error(body: &str) -> String {
    let mut errors = decode(body).into_iter().filter_map(Result::err);
    let error = errors.next().expect("an error").to_string();
    assert!(errors.next().is_none(), "more than one error");
    error
}

/// An S3 notification of one write.
fn notification(bucket: &str, encoded_key: &str, version: Option<&str>, sequencer: &str) -> String {
    let mut record = json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "ap-northeast-2",
        "eventTime": "2026-11-20T21:00:00.123Z",
        "eventName": "ObjectCreated:Put",
        "s3": {
            "bucket": { "name": bucket },
            "object": { "key": encoded_key, "size": 512, "eTag": "e", "sequencer": sequencer },
        },
    });
    if let Some(version) = version {
        record["s3"]["object"]["versionId"] = json!(version);
    }
    json!({ "Records": [record] }).to_string()
}
