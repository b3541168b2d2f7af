//! What the functions are invoked with.

use serde_json::{Value, json};

/// An object of this size is passed inline, one of the other by reference.
const INLINE: u64 = 149;
const BY_REFERENCE: u64 = 1_000_000;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Content {
    Inline,
    ByReference,
}

/// An S3 notification with `records` records. `number` makes it differ from the others.
pub fn s3(number: usize, records: usize) -> String {
    let records: Vec<Value> = (0..records).map(|index| s3_record(number * 1_000 + index)).collect();
    json!({ "Records": records }).to_string()
}

fn s3_record(number: usize) -> Value {
    json!({
        "eventVersion": "2.1",
        "eventSource": "aws:s3",
        "awsRegion": "us-east-1",
        "eventTime": "2026-11-20T21:00:00.123Z",
        "eventName": "ObjectCreated:Put",
        "userIdentity": { "principalId": "AWS:AIDAEXAMPLEDEVICE" },
        "requestParameters": { "sourceIPAddress": "203.0.113.7" },
        "responseElements": {
            "x-amz-request-id": "C3D13FE58DE4C810",
            "x-amz-id-2": "FMyUVURIY8/IgAtTv8xRjskZQpcIZ9KG4V5Wp6S7S/JRWeUWerMUE5JgHvANOjpD"
        },
        "s3": {
            "s3SchemaVersion": "1.0",
            "configurationId": "device-state",
            "bucket": {
                "name": "device-state",
                "ownerIdentity": { "principalId": "A3NL1KOZZKExample" },
                "arn": "arn:aws:s3:::device-state"
            },
            "object": {
                "key": format!("devices/{number}/state+2026-11-20T21%3A00%3A00Z.json"),
                "size": INLINE,
                "eTag": "d41d8cd98f00b204e9800998ecf8427e",
                "versionId": "3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
                "sequencer": "0055AED6DCD90281E5"
            }
        }
    })
}

/// A batch of `messages` messages of the work queue.
pub fn sqs(number: usize, messages: usize, content: Content) -> String {
    let records: Vec<Value> = (0..messages)
        .map(|index| {
            let number = number * 1_000 + index;
            sqs_record(&format!("id-{index}"), &message(number, content), &json!({}), 1)
        })
        .collect();
    json!({ "Records": records }).to_string()
}

pub fn sqs_record(id: &str, body: &str, attributes: &Value, receives: u32) -> Value {
    json!({
        "messageId": id,
        "receiptHandle": "AQEBwJnKyrHigUMZj6rYigCgxlaS3SLy0a",
        "body": body,
        "attributes": {
            "ApproximateReceiveCount": receives.to_string(),
            "SentTimestamp": "1795208401000",
            "SenderId": "AROAEXAMPLEROLE:forwarder",
            "ApproximateFirstReceiveTimestamp": "1795208401010",
            "MessageGroupId": "devices/42"
        },
        "messageAttributes": attributes,
        "md5OfBody": "7b270e59b47ff90a553787216d55d91d",
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:us-east-1:111122223333:sluice-work",
        "awsRegion": "us-east-1"
    })
}

/// The message that the forwarder makes of such an S3 record.
pub fn message(number: usize, content: Content) -> String {
    let key = format!("devices/{number}/state 2026-11-20T21:00:00Z.json");
    json!({
        "specversion": "1.0",
        "id": format!("{number:040x}"),
        "source": "aws:s3.us-east-1.device-state",
        "type": "com.amazonaws.s3.ObjectCreated:Put",
        "subject": key,
        "time": "2026-11-20T21:00:00.123Z",
        "data": {
            "bucket": "device-state",
            "key": key,
            "versionId": "3HL4kqtJlcpXroDTDmJ+rmSpXd3dIbrHY",
            "eTag": "d41d8cd98f00b204e9800998ecf8427e",
            "size": if content == Content::Inline { INLINE } else { BY_REFERENCE },
            "sequencer": "000000000000000055AED6DCD90281E5"
        }
    })
    .to_string()
}
