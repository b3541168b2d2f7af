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

/// Files of a stream are not ordered among each other, so that a record may say itself where it is.
#[tokio::test]
async fn a_record_with_a_sequence_is_compared_by_it() {
    let line = |sequence: &str| json!({ "deviceId": "42", "state": {}, "sequence": sequence });
    let answers = ask(&[
        json!({ "line": line("2026-11-20T21:00:00.000Z").to_string(), "sequencer": "FF" }),
        // A write that a ledger has found: it needs no sequencer, if it has a sequence.
        json!({ "line": line("2026-11-20T21:00:00.001Z").to_string() }),
        json!({ "line": LINE, "sequencer": "FF" }),
    ])
    .await;
    let sequencer = |answer: &Value| {
        let write = &answer["write"];
        assert_eq!(write["ConditionExpression"], BY_SEQUENCER, "{answer}");
        let item = write["Item"]["sequencer"]["S"].as_str().unwrap().to_owned();
        assert_eq!(write["ExpressionAttributeValues"][":sequencer"]["S"], item);
        item
    };
    let [older, newer, without] = [0, 1, 2].map(|number| sequencer(&answers[number]));
    assert_eq!(older, "s2026-11-20T21:00:00.000Z");
    // As DynamoDB compares, by bytes.
    assert!(older < newer, "{older} {newer}");
    assert!(without < older, "whoever writes with a sequence is overwritten with one only");
}

#[tokio::test]
async fn a_sequence_that_cannot_be_compared_is_refused() {
    for (sequence, found) in [(json!(7), "number"), (json!(""), "string"), (json!(null), "null")] {
        let line = json!({ "deviceId": "42", "state": {}, "sequence": sequence });
        let answers = ask(&[json!({ "line": line.to_string(), "sequencer": "0A" })]).await;
        let reason = answers[0]["refused"].as_str().unwrap();
        let expected = format!(
            "line 1: sequence: expected a non-empty string of at most 256 characters, found {found}"
        );
        assert_eq!(reason, expected);
    }
}
