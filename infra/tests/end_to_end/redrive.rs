use std::collections::HashSet;

use serde_json::{Value, json};

use crate::harness::{Ended, Sluice, Write};
use crate::proxy::{Fault, Injection};

/// A dead letter that SQS says is a day old.
async fn give_up_yesterday(sluice: &Sluice, device: &str) -> (Write, Injection) {
    let device = sluice.device(device);
    let write = sluice.store(&device, &json!({ "on": true }), "01").await;
    let backdated = sluice.proxy().backdate(&device, 1);
    sluice.give_up(&write).await;
    (write, backdated)
}

#[tokio::test]
async fn a_dead_letter_from_yesterday_is_processed_and_one_from_today_is_left_alone() {
    let sluice = Sluice::for_test("redrive-day").await;
    let _alone = sluice.only_redrive().await;
    let (yesterday, _backdated) = give_up_yesterday(&sluice, "yesterday").await;
    let today = sluice.store(&sluice.device("today"), &json!({ "on": true }), "01").await;
    sluice.give_up(&today).await;

    let report = sluice.redrive().await;

    assert_eq!(sluice.ended(&yesterday).await, Ended::written(), "{report}");
    sluice.drained().await;
    let letters = sluice.dead_letters().await;
    let [letter] = letters.as_slice() else { panic!("{letters:?}") };
    assert_eq!(letter.body, today.notification());
    assert_eq!(sluice.executions().await.get(&today.event_id), None);
}

#[tokio::test]
async fn a_dead_letter_is_deleted_only_when_the_work_queue_has_confirmed_it() {
    let sluice = Sluice::for_test("redrive-unconfirmed").await;
    let _alone = sluice.only_redrive().await;
    let (write, _backdated) = give_up_yesterday(&sluice, "lamp").await;
    let rejecting = sluice.proxy().inject(
        "SendMessageBatch",
        sluice.prefix,
        Fault::EntriesFail { although_taken: false },
    );

    let report = sluice.redrive().await;
    assert_eq!(sluice.dead_letters().await.len(), 1, "{report}");
    assert!(sluice.calls("SendMessageBatch") > 0, "it was tried: {report}");
    drop(rejecting);

    let report = sluice.redrive().await;
    assert_eq!(sluice.ended(&write).await, Ended::written(), "{report}");
    assert_eq!(sluice.dead_letters().await.len(), 0);
}

#[tokio::test]
async fn a_dead_letter_that_cannot_be_deleted_starts_nothing_twice() {
    let sluice = Sluice::for_test("redrive-undeleted").await;
    let _alone = sluice.only_redrive().await;
    let (write, _backdated) = give_up_yesterday(&sluice, "lamp").await;
    // A delete names receipts, not bodies: all of this stack's, while this test is its only redrive.
    let failing = sluice.proxy().inject(
        "DeleteMessageBatch",
        &sluice.stack().outputs.dead_letter_queue_url,
        Fault::EntriesFail { although_taken: false },
    );

    let report = sluice.redrive().await;
    assert_eq!(sluice.ended(&write).await, Ended::written(), "{report}");
    assert_eq!(sluice.dead_letters().await.len(), 1, "{report}");
    assert_eq!(report["failed"], 1, "{report}");
    drop(failing);

    let report = sluice
        .eventually("a later redrive deletes it", async || {
            let report = sluice.redrive().await;
            match sluice.dead_letters().await.len() {
                0 => Ok(report),
                _ => Err(report.to_string()),
            }
        })
        .await;
    sluice.drained().await;
    assert_eq!(report["archived"], json!({}), "{report}");
    assert!(sluice.calls("StartExecution") >= 2, "it was redriven twice");
    assert_eq!(sluice.executions().await.get(&write.event_id), Some(&1));
    assert_eq!(sluice.dead_letters().await.len(), 0);
}

/// How many of each kind of dead letter.
const OF_EACH: usize = 50;

async fn store_some(sluice: &Sluice, kind: &str) -> Vec<Write> {
    let mut writes = Vec::new();
    for number in 0..OF_EACH {
        let device = sluice.device(&format!("{kind}-{number}"));
        writes.push(sluice.store(&device, &json!({ "number": number }), "01").await);
    }
    writes
}

/// The message that the forwarder makes of a write.
pub(crate) fn message(write: &Write) -> Value {
    let event = messages::decode(&write.notification()).remove(0).unwrap();
    serde_json::from_str(&event.to_json().unwrap()).unwrap()
}

#[tokio::test]
async fn three_hundred_dead_letters_of_every_kind_each_go_their_way() {
    let sluice = Sluice::for_test("sorted").await;
    let _alone = sluice.only_redrive().await;
    let _backdated = sluice.proxy().backdate("sorted-old", 1);
    let plain = store_some(&sluice, "old-plain").await;
    let forwarder = store_some(&sluice, "old-forwarder").await;
    let failed = store_some(&sluice, "old-failed").await;
    let capped = store_some(&sluice, "old-capped").await;
    let poison = store_some(&sluice, "old-poison").await;
    let new = store_some(&sluice, "new").await;

    let bodies = |writes: &[Write], body: fn(&Write) -> Value| -> Vec<String> {
        writes.iter().map(|write| body(write).to_string()).collect()
    };
    sluice.give_up_with(&bodies(&plain, message), &[("redrives", "Number", "4")]).await;
    let destination = bodies(&forwarder, |write| {
        let notification: Value = serde_json::from_str(&write.notification()).unwrap();
        json!({ "requestPayload": notification, "responsePayload": { "errorType": "NotSent" } })
    });
    sluice.give_up_with(&destination, &[]).await;
    let executions = bodies(&failed, |write| {
        let name = &write.event_id;
        json!({ "failedExecution": { "name": name, "error": "E" }, "event": message(write) })
    });
    sluice.give_up_with(&executions, &[("errorClass", "String", "E")]).await;
    let mut given_up =
        sluice.give_up_with(&bodies(&capped, message), &[("redrives", "Number", "5")]).await;
    let not_json = [("errorClass", "String", "NotJson"), ("errorMessage", "String", "line 1")];
    given_up.extend(sluice.give_up_with(&bodies(&poison, message), &not_json).await);
    let left = sluice.give_up_with(&bodies(&new, message), &[]).await;

    let report = sluice.redrive().await;

    let count = |name: &str| report[name].as_u64().unwrap_or_default();
    assert!(count("seen") >= 6 * OF_EACH as u64, "{report}");
    assert_eq!(count("redriven"), 3 * OF_EACH as u64, "{report}");
    assert_eq!(report["archived"], json!({ "NotJson": OF_EACH, "TooManyRedrives": OF_EACH }));
    assert_eq!(count("failed"), 0, "{report}");

    // Every message is in one place: left by id, archived by id, redriven by execution.
    let letters = sluice.dead_letters().await.into_iter();
    assert_eq!(letters.map(|letter| letter.message_id).collect::<HashSet<_>>(), left);
    let documents = sluice.archived().await;
    assert_eq!(documents.len(), 2 * OF_EACH);
    let id = |document: &Value| document["messageId"].as_str().unwrap().to_owned();
    assert_eq!(documents.iter().map(id).collect::<HashSet<_>>(), given_up);
    for write in plain.iter().chain(&forwarder) {
        assert_eq!(sluice.ended(write).await, Ended::written());
    }
    for write in &failed {
        let again = format!("{}-r1", write.event_id);
        assert_eq!(sluice.ended_as(&again).await, Ended::written());
    }
    sluice.drained().await;
    let executions = sluice.executions().await;
    for write in plain.iter().chain(&forwarder).chain(&failed) {
        assert_eq!(executions.get(&write.event_id), Some(&1), "{}", write.key);
    }
    for write in capped.iter().chain(&poison).chain(&new) {
        assert_eq!(executions.get(&write.event_id), None, "{}", write.key);
    }
}
