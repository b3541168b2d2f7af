use std::time::Duration;

use serde_json::json;

use crate::harness::{Ended, Sluice, Write};
use crate::proxy::{Fault, Injection};

const ONE_DAY: Duration = Duration::from_hours(24);

/// A dead letter that SQS says is a day old.
async fn give_up_yesterday(sluice: &Sluice, device: &str) -> (Write, Injection) {
    let device = sluice.device(device);
    let write = sluice.store(&device, &json!({ "on": true }), "01").await;
    let backdated = sluice.proxy().inject("ReceiveMessage", &device, Fault::Backdated(ONE_DAY));
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
    // A delete names receipts, not bodies: all of them, while this test is the only redrive.
    let failing = sluice.proxy().inject(
        "DeleteMessageBatch",
        "",
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
