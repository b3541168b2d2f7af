//! SQS deletes a letter 14 days after its first send: nothing may be in the queue by then.

use super::*;

/// So many nights, in which SQS deletes no letter. Returns how many letters were archived as
/// expiring.
async fn nights(stack: &Stack, count: i64) -> u64 {
    let mut expiring = 0;
    for n in 0..count {
        stack.reaches(night(n)).await;
        expiring += nightly(stack).await.archived.get("Expiring").unwrap_or(&0);
        assert_eq!(stack.dead().expired(), [], "lost in night {n}");
    }
    expiring
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_lasts_loses_nothing() {
    let stack = Stack::with((0..100).map(|n| letter(&format!("k{n:03}")))).canaries(3);
    let machine = stack.aws.step_functions();
    machine.executions_fail(Duration::from_secs(2), "E");
    let (mut expiring, mut failed) = (0, 0);
    for n in 0..20 {
        stack.reaches(night(n)).await;
        let report = nightly(&stack).await;
        expiring += report.archived.get("Expiring").unwrap_or(&0);
        assert_eq!(stack.dead().expired(), [], "lost in night {n}");
        sleep(Duration::from_mins(1)).await;
        // The failed executions come back.
        for execution in machine.started().split_off(failed) {
            failed += 1;
            let failed = json!({ "name": execution.name });
            let body = json!({ "failedExecution": failed, "event": execution.input() });
            stack.dead().has(Message::new(&body.to_string()).class("E"));
        }
    }
    assert!(expiring > 0 && failed > 0, "{expiring}, {failed}");
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_always_refused_is_archived_before_it_expires() {
    let stack = Stack::with([letter("refused-for-ever"), letter("b")]);
    stack.work().rejects("refused-for-ever");
    assert_eq!(nights(&stack, 15).await, 1);
    let document = stack.document();
    assert_eq!(document["class"], "Expiring");
    let message = document["message"].as_str().expect("a message");
    assert!(message.starts_with("SQS would delete it at 2026-12-04T14:59:59.999Z"), "{message}");
    assert!(message.contains("InternalError"), "{message}");
    assert_eq!(document["events"][0]["data"]["key"], "refused-for-ever");
    // In the first night that has no three whole days behind it.
    assert_eq!(document["archivedAt"], night(11).to_string());
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_input_can_never_be_read_is_archived_before_it_expires() {
    let sample = sample("step-functions-status-timed-out-without-input.json");
    let stack = Stack::with([letter_of(&sample)]);
    stack.aws.when("DescribeExecution").fails("Broken");
    assert_eq!(nights(&stack, 15).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_does_not_come_to_is_swept_however_it_stops() {
    // The cap, the deadline, a filter, and a time before which nothing was enqueued.
    for request in [
        json!({ "maxMessages": 5 }),
        json!({ "maxPerSecond": 1 }),
        json!({ "errorClass": "E" }),
        json!({ "before": "2026-11-01T00:00:00Z" }),
    ] {
        let stack = Stack::with((0..40).map(|n| expiring_letter(&format!("k{n:02}"))));
        let report = redrive_for(&stack, &request, Duration::from_secs(40)).await;
        let report = report.expect("a report");
        let expiring = report.archived.get("Expiring").copied().unwrap_or_default();
        assert_eq!(report.redriven + expiring, 40, "{request}: {report:?}");
        assert!(stack.left().is_empty() && expiring > 0, "{request}: {report:?}");
        assert_eq!(stack.archive().len() as u64, expiring);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_expires_and_leaves_it() {
    let stack = Stack::with([expiring_letter("k"), letter("new")]);
    let request = json!({ "dryRun": true, "errorClass": "E" });
    let report = redrive(&stack, &request).await.expect("a report");
    assert_eq!(report.archived, [("Expiring".to_owned(), 1)].into());
    assert!(stack.archive().is_empty());
    assert_eq!(stack.left().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_expires_and_cannot_be_archived_stays_and_is_a_failure() {
    let stack = Stack::with([expiring_letter("k")]);
    stack.aws.when("PutObject").fails("SlowDown");
    let report = redrive(&stack, &json!({ "errorClass": "E" })).await.expect("a report");
    assert_eq!((report.failed, stack.left().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_letter_that_stays_is_reported() {
    let stays = letter("stays").sent("2026-11-18T21:00:00Z");
    let stack = Stack::with([letter("goes").sent("2026-11-17T21:00:00Z"), stays]);
    stack.work().rejects("stays");
    let report = nightly(&stack).await;
    assert_eq!((report.oldest_left_seconds, report.complete), (Some(2 * 86_400), true));
    stack.work().recovers();
    let report = nightly(&stack).await;
    assert_eq!((report.oldest_left_seconds, report.complete), (Some(0), true));

    let many = Stack::with((0..1_000).map(|n| letter(&format!("k{n:04}"))));
    let request = json!({ "maxPerSecond": 10 });
    let report = redrive_for(&many, &request, Duration::from_secs(30)).await.expect("a report");
    assert_eq!((report.stopped, report.complete), (Stopped::Deadline, false));
    assert_eq!(report.oldest_left_seconds, Some(6 * 3_600));
}
