use aws_sdk_sfn::types::ExecutionStatus;
use redrive::Canary;

use super::*;

fn many_with_canaries(count: u64, ends: ExecutionStatus) -> Fake {
    let letters = (0..100).map(|n| letter(&format!("k{n:03}")));
    Fake::with(letters).canaries(count, now(), ends)
}

#[tokio::test(start_paused = true)]
async fn canaries_that_succeed_let_the_others_follow() {
    let fake = many_with_canaries(3, ExecutionStatus::Succeeded);
    let report = nightly(&fake).await;
    assert_eq!(report.canary, Some(Canary { succeeded: 3, ..Canary::default() }));
    assert_eq!((report.redriven, report.stopped), (100, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_fail_stop_the_run_and_save_the_redrives_of_the_others() {
    let fake = many_with_canaries(3, ExecutionStatus::Failed);
    let report = nightly(&fake).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.succeeded, canary.failed), (0, 3));
    let error = canary.error.expect("an error");
    assert_eq!(error, "DynamoDB.ResourceNotFoundException: no cause was given");
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!((fake.work().len(), fake.visible()), (3, 97));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_do_not_end_in_time_stop_nothing() {
    let fake = many_with_canaries(12, ExecutionStatus::Running);
    let begin = Instant::now();
    let report = nightly(&fake).await;
    assert_eq!(report.canary, Some(Canary { undecided: 12, ..Canary::default() }));
    assert_eq!(report.redriven, 100);
    assert!(begin.elapsed() <= Duration::from_secs(65));
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_earlier_day_is_none_of_today() {
    let yesterday = "2026-11-19T12:00:00Z".parse().expect("time");
    let fake = many_with_canaries(3, ExecutionStatus::Failed);
    let fake = fake.canaries(3, yesterday, ExecutionStatus::Failed);
    let report = nightly(&fake).await;
    assert_eq!(report.canary, Some(Canary { undecided: 3, ..Canary::default() }));
    assert_eq!(report.redriven, 100);
}

#[tokio::test(start_paused = true)]
async fn no_canary_is_sent_where_none_is_wanted() {
    for request in [json!({ "canaryMessages": 0 }), json!({ "dryRun": true })] {
        let fake = many_with_canaries(3, ExecutionStatus::Failed);
        let report = redrive(&fake, &request).await.expect("a report");
        assert_eq!((report.redriven, report.canary), (100, None));
    }
}

#[tokio::test(start_paused = true)]
async fn poison_is_no_canary() {
    let poison = letter("poison").text("errorClass", "NotJson");
    let fake = Fake::with([poison, letter("a")]).canaries(3, now(), ExecutionStatus::Succeeded);
    let report = nightly(&fake).await;
    assert_eq!(report.canary, Some(Canary { succeeded: 1, ..Canary::default() }));
    assert_eq!(report.archived.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn canaries_that_the_work_queue_refuses_stop_the_run() {
    let fake = many_with_canaries(3, ExecutionStatus::Succeeded);
    fake.state().fails_every.insert("send", 1);
    let report = nightly(&fake).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.refused, canary.succeeded, canary.failed), (3, 0, 0));
    assert!(canary.error.expect("an error").contains("InternalError"));
    assert_eq!((report.stopped, report.failed, report.seen), (Stopped::Canary, 3, 3));
    assert!(report.moved_nothing);
    assert_eq!(fake.visible(), 100);
}

#[tokio::test(start_paused = true)]
async fn canaries_of_which_one_is_taken_and_succeeds_stop_nothing() {
    let fake = many_with_canaries(4, ExecutionStatus::Succeeded);
    // Of four entries each is sent four times; the last try of the last one succeeds.
    fake.state().fails_until.insert("send", 16);
    let report = nightly(&fake).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.refused, canary.succeeded), (3, 1));
    assert_eq!((report.redriven, report.failed, report.stopped), (97, 3, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn what_is_received_with_the_canaries_costs_no_call_of_its_own() {
    let fake = many_with_canaries(3, ExecutionStatus::Succeeded);
    assert_eq!(nightly(&fake).await.redriven, 100);
    let letters = (0..100).map(|n| letter(&format!("k{n:03}")).sent("2026-11-20T15:00:00Z"));
    let new = Fake::with(letters).canaries(3, now(), ExecutionStatus::Succeeded);
    assert_eq!(nightly(&new).await.too_new, 100);
    for fake in [fake, new] {
        let received = fake.state().calls["receive"];
        // Ten full answers, and two empty ones for the canaries and for each receiver at most.
        assert!((10..=20).contains(&received), "{received}");
    }
}
