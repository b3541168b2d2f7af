use serde_json::{Value, json};

use crate::harness::{Ended, Sluice, Write};

#[tokio::test]
async fn a_batch_with_one_poison_body_starts_the_others() {
    let sluice = Sluice::for_test("poison-body").await;
    let mut writes = Vec::new();
    for number in 0..8 {
        let device = sluice.device(&number.to_string());
        writes.push(sluice.store(&device, &json!({ "number": number }), "01").await);
    }
    let mut bodies: Vec<String> = writes.iter().map(Write::notification).collect();
    bodies.insert(4, format!("neither JSON nor an event, {}", sluice.prefix));

    sluice.enqueue_together(&bodies).await;

    for ended in sluice.all_ended(&writes).await {
        assert_eq!(ended, Ended::written());
    }
    let letters = sluice.dead_letters_reach(1).await;
    sluice.drained().await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.body, bodies[4]);
    assert_eq!(letter.error_class.as_deref(), Some("Undecodable"));
    assert!(letter.error_message.is_some());
}

#[tokio::test]
async fn a_file_that_is_not_json_ends_in_the_dead_letter_queue_and_its_neighbours_go_through() {
    let sluice = Sluice::for_test("not-json").await;
    let before = sluice.upload_state(&sluice.device("before"), &json!({})).await;
    let broken = format!("devices/{}/state.json", sluice.device("broken"));
    let broken = sluice.upload(&broken, "{\"deviceId\": \"broken\",\n oops").await;
    let after = sluice.upload_state(&sluice.device("after"), &json!({})).await;

    for ended in sluice.all_ended(&[before, after]).await {
        assert_eq!(ended, Ended::written());
    }
    let letters = sluice.dead_letters_reach(1).await;
    sluice.drained().await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.error_class.as_deref(), Some("NotJson"));
    assert!(letter.error_message.as_deref().unwrap_or_default().contains("line 2"), "{letter:?}");
    let event: Value = serde_json::from_str(&letter.body).unwrap();
    assert_eq!(event["id"], broken.event_id);
    assert_eq!(sluice.executions().await.get(&broken.event_id), None);
}

#[tokio::test]
async fn a_file_without_a_device_fails_visibly_and_leaves_a_dead_letter() {
    let sluice = Sluice::for_test("no-device").await;
    let key = format!("devices/{}/state.json", sluice.device("nameless"));
    let write = sluice.upload(&key, &json!({ "state": {} }).to_string()).await;

    let ended = sluice.ended(&write).await;
    assert_eq!(ended.status, aws_sdk_sfn::types::ExecutionStatus::Failed);
    let letters = sluice.dead_letters_reach(1).await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.error_class.as_deref(), Some("InvalidDeviceState"));
    let body: Value = serde_json::from_str(&letter.body).unwrap();
    assert_eq!(body["event"]["id"], write.event_id);
    // Under this name, for which the rule below makes no second letter.
    assert_eq!(sluice.error_of(&write).await.as_deref(), Some("DeadLetterSent"));
}

/// The machine's own way to the dead-letter queue may be down, and some errors end an execution
/// without any Catch: then a rule makes the letter.
#[tokio::test]
async fn every_execution_that_fails_without_a_letter_meets_the_rule_that_makes_one() {
    let sluice = Sluice::for_test("no-letter").await;
    let pattern = sluice.pattern_of("ExecutionFailureRule").await;
    let machine = sluice.stack().outputs.state_machine_arn.clone();
    let meets = async |status: &str, error: Option<&str>, machine: &str| {
        let mut event = sluice.sample_event("step-functions-status-failed.json");
        event["detail"]["stateMachineArn"] = machine.into();
        event["detail"]["status"] = status.into();
        event["detail"]["error"] = error.into();
        sluice.meets(&pattern, &event).await
    };
    for error in ["DeadLetterNotSent", "States.Runtime", "States.DataLimitExceeded"] {
        assert!(meets("FAILED", Some(error), &machine).await, "{error}");
    }
    assert!(meets("TIMED_OUT", None, &machine).await);
    assert!(!meets("FAILED", Some("DeadLetterSent"), &machine).await);
    assert!(!meets("SUCCEEDED", None, &machine).await);
    assert!(!meets("FAILED", Some("States.Runtime"), &format!("{machine}-other")).await);
}
