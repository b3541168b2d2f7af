//! The sample events, and events made from them that are about a key of the test's choice.

use std::path::Path;

use serde_json::{Value, json};

/// The entity tag in the events of [`notification`], [`message`] and [`record`].
pub const E_TAG: &str = "d41d8cd98f00b204e9800998ecf8427e";

/// A file of `events/`, which `cargo lambda invoke` and the README use as well.
pub fn sample(name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../events").join(name);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// The same, parsed.
pub fn sample_json(name: &str) -> Value {
    serde_json::from_str(&sample(name)).expect("JSON")
}

/// The notification that S3 sends for a write to `key`.
pub fn notification(key: &str) -> Value {
    let mut notification = sample_json("s3-object-created-put.json");
    // Form-encoded, as S3 does.
    let encoded = key.replace('%', "%25").replace('+', "%2B").replace(' ', "+");
    notification["Records"][0]["s3"]["object"]["key"] = json!(encoded);
    notification
}

/// The body of the message on the work queue about a write to `key`.
pub fn message(key: &str) -> Value {
    let event = messages::decode(&notification(key).to_string()).remove(0).expect("decodable");
    serde_json::from_str(&event.to_json().expect("JSON")).expect("JSON")
}

/// The record of an SQS event that holds the message about `key`. Its message id is the key, too.
pub fn record(key: &str) -> Value {
    let mut record = sample_json("sqs-two-messages.json")["Records"][0].clone();
    record["messageId"] = json!(key);
    record["receiptHandle"] = json!(format!("receipt of {key}"));
    record["body"] = json!(message(key).to_string());
    record
}

/// Whether a text is about `key`: the text is the key itself, or a message about it, or an execution
/// input; or, being neither, it contains the key.
pub(crate) fn is_about(text: &str, key: &str) -> bool {
    match key_of(text) {
        Some(found) => found == key,
        None => text.contains(key),
    }
}

/// The key of the object that a message or an execution input is about.
pub(crate) fn key_of(text: &str) -> Option<String> {
    let event: Value = serde_json::from_str(text).ok()?;
    event["data"]["key"].as_str().map(str::to_owned)
}
