//! AWS fails in every way it has, and no event is lost or started twice.

use std::time::Duration;

use serde_json::json;

use crate::harness::{Ended, Sluice, Write};
use crate::proxy::Fault;

/// How often the SDK makes a call that fails.
pub(crate) const SDK_ATTEMPTS: usize = platform::SDK_ATTEMPTS as usize;

/// So many calls fail that the SDK's own retries cannot hide it.
pub(crate) const MORE_THAN_RETRIES: usize = SDK_ATTEMPTS + 1;

/// Executions ended well, messages acknowledged, nothing in the dead-letter queue, nothing twice.
pub(crate) async fn assert_written_once(sluice: &Sluice, writes: &[Write]) {
    for ended in sluice.all_ended(writes).await {
        assert_eq!(ended, Ended::written());
    }
    sluice.drained().await;
    let executions = sluice.executions().await;
    for write in writes {
        assert_eq!(executions.get(&write.event_id), Some(&1), "{}", write.key);
    }
    let letters = sluice.dead_letters().await;
    assert!(letters.is_empty(), "{letters:?}");
}

pub(crate) async fn upload_some(sluice: &Sluice, count: usize) -> Vec<Write> {
    let mut writes = Vec::new();
    for number in 0..count {
        let device = sluice.device(&number.to_string());
        writes.push(sluice.upload_state(&device, &json!({ "number": number })).await);
    }
    writes
}

#[tokio::test]
async fn an_entry_that_sqs_rejects_in_a_good_answer_is_sent_again() {
    let sluice = Sluice::for_test("entry-rejected").await;
    let _fault = sluice.proxy().inject_times(
        MORE_THAN_RETRIES,
        "SendMessageBatch",
        sluice.prefix,
        Fault::EntriesFail { although_taken: false },
    );
    let writes = upload_some(&sluice, 2).await;

    assert_written_once(&sluice, &writes).await;
    assert!(sluice.calls("SendMessageBatch") > MORE_THAN_RETRIES);
}

#[tokio::test]
async fn an_entry_that_sqs_took_and_called_failed_starts_once() {
    let sluice = Sluice::for_test("entry-taken").await;
    let _fault = sluice.proxy().inject_times(
        2,
        "SendMessageBatch",
        sluice.prefix,
        Fault::EntriesFail { although_taken: true },
    );
    let writes = upload_some(&sluice, 2).await;

    assert_written_once(&sluice, &writes).await;
    sluice
        .eventually("what was sent twice is tried twice", async || {
            let tried = sluice.calls("StartExecution");
            if tried > writes.len() { Ok(()) } else { Err(format!("{tried} tries")) }
        })
        .await;
    assert_written_once(&sluice, &writes).await;
}

#[tokio::test]
async fn a_throttled_start_is_deferred_until_it_succeeds() {
    let sluice = Sluice::for_test("throttled").await;
    let throttled = sluice.proxy().inject("StartExecution", sluice.prefix, Fault::Throttled);
    let writes = upload_some(&sluice, 20).await;

    sluice
        .eventually("copies go back to the work queue", async || {
            match sluice.calls_with("SendMessageBatch", "\"deferrals\"") {
                0 => Err("none did".to_owned()),
                _ => Ok(()),
            }
        })
        .await;
    assert!(sluice.dead_letters().await.is_empty());
    drop(throttled);
    assert_written_once(&sluice, &writes).await;
}

#[tokio::test]
async fn a_failing_step_functions_lets_sqs_deliver_again() {
    let sluice = Sluice::for_test("server-error").await;
    let failing = sluice.proxy().inject(
        "StartExecution",
        sluice.prefix,
        Fault::Refused { status: 500, code: "InternalServerError" },
    );
    let writes = upload_some(&sluice, 3).await;
    sluice
        .eventually("the start was tried", async || match sluice.calls("StartExecution") {
            MORE_THAN_RETRIES.. => Ok(()),
            calls => Err(format!("{calls} calls")),
        })
        .await;
    drop(failing);

    assert_written_once(&sluice, &writes).await;
}

#[tokio::test]
async fn a_start_whose_answer_is_lost_counts_once() {
    let sluice = Sluice::for_test("answer-lost").await;
    let _fault = sluice.proxy().inject_times(3, "StartExecution", sluice.prefix, Fault::AnswerLost);
    let writes = upload_some(&sluice, 3).await;

    assert_written_once(&sluice, &writes).await;
    assert!(sluice.calls("StartExecution") > writes.len(), "asked again");
}

#[tokio::test]
async fn a_connection_that_breaks_and_an_answer_that_is_slow_do_no_harm() {
    let sluice = Sluice::for_test("broken-connection").await;
    let _broken = sluice.proxy().inject_times(2, "GetObject", sluice.prefix, Fault::Disconnected);
    let _slow = sluice.proxy().inject_times(
        2,
        "SendMessageBatch",
        sluice.prefix,
        Fault::Slow(Duration::from_secs(1)),
    );
    let writes = upload_some(&sluice, 3).await;

    assert_written_once(&sluice, &writes).await;
    assert!(sluice.calls("GetObject") > writes.len(), "asked again");
}
