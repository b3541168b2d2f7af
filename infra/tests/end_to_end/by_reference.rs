//! Objects that are not passed inline: the execution reads them itself, as JSON Lines.

use std::fmt::Write as _;

use aws_sdk_sfn::types::ExecutionStatus;
use serde_json::{Value, json};

use crate::harness::{Ended, Sluice, device_state};

/// More than two batches of the state machine's `MaxItemsPerBatch`.
const RECORDS: usize = 1_100;

fn key_of_file(sluice: &Sluice) -> String {
    format!("devices/{}/states.jsonl", sluice.device("gateway"))
}

fn file(sluice: &Sluice, records: usize, state: impl Fn(usize) -> Value) -> String {
    let mut lines = String::new();
    for number in 0..records {
        let device = sluice.device(&number.to_string());
        writeln!(lines, "{}", device_state(&device, &state(number))).unwrap();
    }
    lines
}

#[tokio::test]
async fn each_line_of_a_file_becomes_the_state_of_its_device() {
    let sluice = Sluice::for_test("json-lines").await;
    let lines = file(&sluice, RECORDS, |number| json!({ "number": number }));
    let write = sluice.upload(&key_of_file(&sluice), &lines).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    for number in [0, 1, 499, 500, 999, 1_000, RECORDS - 1] {
        let item = sluice.item(&sluice.device(&number.to_string())).await;
        let item = item.unwrap_or_else(|| panic!("line {number} has no item"));
        assert_eq!(item.state(), json!({ "number": number }));
        assert_eq!(item.text("lastEventId"), write.event_id);
    }
    assert_eq!(sluice.items().await, RECORDS);
    assert_eq!(sluice.dead_letters().await.len(), 0);
}

/// As people write files: on many lines, and larger than what a line of JSON Lines has to be.
#[tokio::test]
async fn a_pretty_printed_state_of_200_kb_arrives() {
    let sluice = Sluice::for_test("large-state").await;
    let device = sluice.device("camera");
    let state = json!({ "pictures": vec!["x".repeat(4_000); 50], "at": 1_763_672_400_123_456_u64 });
    let document = json!({ "deviceId": device, "state": state });
    let document = serde_json::to_string_pretty(&document).unwrap();
    assert!(document.len() > 200_000 && document.lines().count() > 50);
    let write = sluice.upload(&format!("devices/{device}/state.json"), &document).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    assert_eq!(sluice.item(&device).await.unwrap().state(), state);
}

#[tokio::test]
async fn a_state_too_large_for_an_execution_says_so() {
    let sluice = Sluice::for_test("too-large").await;
    let device = sluice.device("camera");
    let write = sluice.upload_state(&device, &json!({ "picture": "x".repeat(250_000) })).await;

    assert_eq!(sluice.ended(&write).await.status, ExecutionStatus::Failed);
    let letters = sluice.dead_letters_reach(1).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.error_class.as_deref(), Some("InvalidDeviceState"));
    let message = letter.error_message.as_deref().unwrap();
    assert!(message.contains("too large for the input of an execution"), "{message}");
}

/// What the emulator can show of it; the other half is in `state_machine/numbers.rs`.
#[tokio::test]
async fn a_number_that_a_line_cannot_carry_is_refused_and_not_rounded() {
    let sluice = Sluice::for_test("long-numbers").await;
    let mut lines = file(&sluice, 2, |_| json!({ "serial": "9007199254740993" }));
    lines.push_str(&device_state(
        &sluice.device("2"),
        &json!({ "serial": 9_007_199_254_740_993_u64 }),
    ));
    let write = sluice.upload(&key_of_file(&sluice), &lines).await;

    assert_eq!(sluice.ended(&write).await.status, ExecutionStatus::Failed);
    let letters = sluice.dead_letters_reach(1).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    let message = letter.error_message.as_deref().unwrap();
    let expected = "1 of 3 lines were refused, and all others written: line 3: state.serial: ";
    assert!(message.starts_with(expected), "{message}");
    assert_eq!(sluice.items().await, 2);
}

#[tokio::test]
async fn bad_lines_are_named_and_the_lines_around_them_written() {
    let sluice = Sluice::for_test("bad-lines").await;
    let mut lines = file(&sluice, 3, |number| json!({ "number": number }));
    lines.push_str("{\"state\": {}}\n[]\n");
    let after = sluice.device("after");
    lines.push_str(&device_state(&after, &json!({ "after": true })));
    let write = sluice.upload(&key_of_file(&sluice), &lines).await;

    assert_eq!(sluice.ended(&write).await.status, ExecutionStatus::Failed);
    let letters = sluice.dead_letters_reach(1).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.error_class.as_deref(), Some("InvalidDeviceState"));
    let message = letter.error_message.as_deref().unwrap();
    assert!(
        message.starts_with("2 of 6 lines were refused, and all others written: "),
        "{message}"
    );
    assert!(message.contains("line 4: deviceId"), "{message}");
    assert!(message.contains("line 5: expected a JSON object, found array"), "{message}");
    let item = sluice.item(&after).await.unwrap();
    assert_eq!(item.state(), json!({ "after": true }));
    assert_eq!(item.number("objectLine"), 6);
    assert_eq!(sluice.items().await, 4);
}

#[tokio::test]
async fn an_older_file_that_arrives_late_overwrites_nothing() {
    let sluice = Sluice::for_test("older-file").await;
    let key = key_of_file(&sluice);
    let older = file(&sluice, 2, |_| json!({ "file": "older" }));
    let older = sluice.store_file(&key, &older, "01").await;
    let newer = file(&sluice, 2, |_| json!({ "file": "newer" }));
    let newer = sluice.store_file(&key, &newer, "02").await;

    sluice.deliver(&newer).await;
    assert_eq!(sluice.ended(&newer).await, Ended::written());
    sluice.deliver(&older).await;
    assert_eq!(sluice.ended(&older).await.status, ExecutionStatus::Succeeded);

    for number in ["0", "1"] {
        let item = sluice.item(&sluice.device(number)).await.unwrap();
        assert_eq!(item.state(), json!({ "file": "newer" }));
    }
}
