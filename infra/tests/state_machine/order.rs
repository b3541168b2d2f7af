//! Which of two writes to an item wins. Writes that a ledger has found have no sequencer.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use crate::judge::ask;

const BY_SEQUENCER: &str = "attribute_not_exists(deviceId) OR (sequencer <> :none AND sequencer \
                            <= :sequencer) OR (sequencer = :none AND eventTime <= :time)";

fn input(time: &str, sequencer: Option<&str>) -> Value {
    let mut event = json!({
        "id": "id", "type": "com.amazonaws.s3.ObjectCreated:Put", "time": time,
        "data": { "bucket": "b", "key": "k", "content": { "deviceId": "42", "state": {} } },
    });
    if let Some(sequencer) = sequencer {
        event["data"]["sequencer"] = json!(sequencer);
    }
    json!({ "input": event.to_string() })
}

const LINE: &str = r#"{"deviceId": "42", "state": {}}"#;

#[tokio::test]
async fn a_write_without_a_sequencer_is_compared_by_its_time() {
    let answers = ask(&[
        input("2026-11-20T21:00:00.5Z", Some("0A")),
        json!({ "line": LINE, "sequencer": "0A" }),
        input("2026-11-20T21:00:00Z", None),
        json!({ "line": LINE }),
    ])
    .await;
    for (answer, condition, sequencer) in [
        (&answers[0], BY_SEQUENCER, "0A"),
        (&answers[1], BY_SEQUENCER, "0A-0000000000"),
        (
            &answers[2],
            "attribute_not_exists(deviceId) OR eventTime < :time OR lastEventId = :id",
            "",
        ),
        // Within a file, the line decides.
        (
            &answers[3],
            "attribute_not_exists(deviceId) OR eventTime < :time OR (lastEventId = :id AND \
             objectLine <= :line)",
            "",
        ),
    ] {
        let write = &answer["write"];
        assert_eq!(write["ConditionExpression"], condition, "{answer}");
        // DynamoDB refuses a value that the condition does not use.
        let words = condition.split(|c: char| !c.is_alphanumeric() && c != ':');
        let used: BTreeSet<&str> = words.filter(|word| word.starts_with(':')).collect();
        let values = write["ExpressionAttributeValues"].as_object().unwrap();
        let given: BTreeSet<&str> = values.keys().map(String::as_str).collect();
        assert_eq!(given, used);
        assert_eq!(write["Item"]["sequencer"]["S"], sequencer);
        // Times compare as text, so that what has no fraction needs one.
        let time = write["Item"]["eventTime"]["S"].as_str().unwrap();
        assert_eq!(values[":time"]["S"], time);
        assert!(time.contains('.'), "{time}");
    }
}
