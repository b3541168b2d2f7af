use serde_json::json;

use crate::harness::{Ended, Sluice, device_state};

#[tokio::test]
async fn an_upload_becomes_one_item() {
    let sluice = Sluice::for_test("one-upload").await;
    let device = sluice.device("lamp");
    let write = sluice.upload_state(&device, &json!({ "on": true })).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    sluice.drained().await;
    assert_eq!(sluice.executions().await.get(&write.event_id), Some(&1));
    let item = sluice.item(&device).await.unwrap();
    assert_eq!(item.state(), json!({ "on": true }));
    assert_eq!(item.text("objectKey"), write.key);
    assert_eq!(item.text("lastEventId"), write.event_id);
}

#[tokio::test]
async fn the_same_event_delivered_twice_becomes_one_execution() {
    let sluice = Sluice::for_test("delivered-twice").await;
    let device = sluice.device("lamp");
    let write = sluice.store(&device, &json!({ "on": true }), "01").await;

    sluice.deliver(&write).await;
    sluice.deliver(&write).await;
    // S3 to SQS directly is the same event by another way.
    sluice.enqueue(&write).await;

    assert_eq!(sluice.ended(&write).await, Ended::written());
    sluice.drained().await;
    assert!(sluice.calls("StartExecution") >= 3, "all three were tried");
    assert_eq!(sluice.executions().await.get(&write.event_id), Some(&1));
    assert_eq!(sluice.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn odd_keys_survive() {
    const NAMES: [&str; 9] = [
        "a b",
        "a+b",
        "a%20b",
        "100%",
        "거실 온도",
        "a&b=c?d",
        "%2B+ %",
        "(a)'b'!~*,;:@$",
        "\"quoted\"\\back",
    ];
    let sluice = Sluice::for_test("odd-keys").await;
    let mut uploaded = Vec::new();
    for (number, name) in NAMES.into_iter().enumerate() {
        let device = sluice.device(&number.to_string());
        let key = format!("devices/{device}/{name}.json");
        let write = sluice.upload(&key, &device_state(&device, &json!({ "name": name }))).await;
        uploaded.push((device, write));
    }

    for (device, write) in uploaded {
        assert_eq!(sluice.ended(&write).await, Ended::written(), "{}", write.key);
        let item = sluice.item(&device).await.unwrap();
        assert_eq!(item.text("objectKey"), write.key);
    }
}

#[tokio::test]
async fn an_older_write_that_arrives_late_does_not_overwrite_a_newer_one() {
    let sluice = Sluice::for_test("late-arrival").await;
    let device = sluice.device("lamp");
    let older = sluice.store(&device, &json!({ "level": 1 }), "0A").await;
    // Longer, and greater only as a number: as text it would be the smaller one.
    let newer = sluice.store(&device, &json!({ "level": 2 }), "010A").await;

    sluice.deliver(&newer).await;
    assert_eq!(sluice.ended(&newer).await, Ended::written());
    sluice.deliver(&older).await;
    assert_eq!(sluice.ended(&older).await, Ended::superseded());

    let item = sluice.item(&device).await.unwrap();
    assert_eq!(item.state(), json!({ "level": 2 }));
    assert_eq!(item.text("lastEventId"), newer.event_id);
}
