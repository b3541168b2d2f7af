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
    assert!(begin.elapsed() <= Duration::from_secs(250));
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
    // None was taken of as many as were in hand.
    assert_eq!((canary.refused, canary.succeeded, canary.failed), (100, 0, 0));
    assert!(canary.error.expect("an error").contains("InternalError"));
    assert_eq!((report.stopped, report.failed, report.seen), (Stopped::Canary, 100, 100));
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
    // Three others took the places of those that were refused.
    assert_eq!((canary.refused, canary.succeeded), (3, 4));
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

#[tokio::test(start_paused = true)]
async fn canaries_that_never_start_save_the_others() {
    let letters = (0..100).map(|n| letter(&format!("k{n:03}")));
    let letters = letters.map(|letter| letter.text("errorClass", "DeferredTooLong"));
    let fake = Fake::with(letters).canaries(3, now(), ExecutionStatus::Failed);
    fake.state().never_started = true;
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!(report.canary.expect("canaries").not_started, 3);
    assert_eq!(fake.visible(), 97);
}

#[tokio::test(start_paused = true)]
async fn canaries_are_watched_for_longer_than_the_machine_itself_retries() {
    let fake = many_with_canaries(3, ExecutionStatus::Failed);
    fake.state().runs_until = Some(Instant::now() + Duration::from_secs(183));
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_was_seen_to_fail_has_failed() {
    let fake = many_with_canaries(3, ExecutionStatus::Failed);
    // Two are seen to fail in the third look. After that, nobody is told anything.
    fake.state().describe_breaks_from = Some(9);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!(report.canary.expect("canaries").failed, 2);
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_refused_do_not_hold_back_the_others() {
    // With one behind each in its group.
    let bad = (0..6).map(|n| letter(&format!("bad{n}")).group(&format!("bad{}", n / 2)));
    let good = (0..50).map(|n| letter(&format!("k{n}")).group(&format!("k{n}")));
    let fake = Fake::with(bad.chain(good)).fifo().canaries(3, now(), ExecutionStatus::Succeeded);
    fake.state().refused = Some("\"bad".to_owned());
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed, report.stopped), (50, 6, Stopped::Empty));
    assert_eq!(report.canary.expect("canaries").refused, 3);
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_lasts_holds_back_its_own_class_only() {
    let letters = (0..200).map(|n| letter(&format!("k{n:03}")));
    let letters = letters.enumerate().map(|(n, letter)| match n {
        // The second class shows only after many letters of the first.
        0..150 => letter.text("errorClass", "Lasting"),
        _ => letter.text("errorClass", "Gone"),
    });
    let fake = Fake::with(letters).canaries(3, now(), ExecutionStatus::Succeeded);
    for n in 0..150 {
        let id = message(&format!("k{n:03}"))["id"].as_str().expect("id").to_owned();
        fake.state().executions.insert(id, ExecutionStatus::Failed);
    }
    let report = nightly(&fake).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.failed, canary.succeeded), (3, 3), "{canary:?}");
    assert_eq!((report.redriven, report.held_back), (53, 147));
    assert_eq!((report.stopped, report.complete), (Stopped::Canary, true));
    assert_eq!(fake.visible(), 147);
}

#[tokio::test(start_paused = true)]
async fn no_time_is_lost_where_executions_cannot_be_asked_for() {
    for refusal in ["AccessDeniedException", "InvalidArn"] {
        let fake = many_with_canaries(3, ExecutionStatus::Succeeded);
        fake.state().describe_refused = Some(refusal);
        let begin = Instant::now();
        assert_eq!(nightly(&fake).await.redriven, 100);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn archiving_costs_a_tenth_of_a_delete_for_each_letter_with_canaries_too() {
    let letters = (0..1_000).map(|n| letter(&format!("k{n:04}")).text("errorClass", "NotJson"));
    let fake = Fake::with(letters).canaries(3, now(), ExecutionStatus::Succeeded);
    assert_eq!(nightly(&fake).await.archived["NotJson"], 1_000);
    assert!(fake.state().calls["delete"] <= 110, "{:?}", fake.state().calls);
}

/// One group: five letters of a first class, then five of a second.
fn one_group_of_two_classes() -> Fake {
    let letters = (0..10).map(|n| {
        let class = if n < 5 { "First" } else { "Second" };
        letter(&format!("k{n}")).group("g").text("errorClass", class)
    });
    Fake::with(letters).fifo().canaries(2, now(), ExecutionStatus::Succeeded)
}

fn sent(fake: &Fake) -> Vec<String> {
    let key = |body: &Value| body["data"]["key"].as_str().expect("key").to_owned();
    fake.work().iter().map(key).collect()
}

#[tokio::test(start_paused = true)]
async fn a_canary_does_not_overtake_a_letter_of_its_group() {
    let fake = one_group_of_two_classes();
    assert_eq!(nightly(&fake).await.redriven, 10);
    assert_eq!(sent(&fake), (0..10).map(|n| format!("k{n}")).collect::<Vec<_>>());
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_letter_that_is_held_back_waits_with_it() {
    let fake = one_group_of_two_classes();
    for n in 0..5 {
        let id = message(&format!("k{n}"))["id"].as_str().expect("id").to_owned();
        fake.state().executions.insert(id, ExecutionStatus::Failed);
    }
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.held_back), (2, 8));
    assert_eq!(sent(&fake), ["k0", "k1"]);
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_held_back_do_not_use_up_the_cap() {
    let letters = (0..60).map(|n| {
        let class = if n < 50 { "Lasting" } else { "Gone" };
        letter(&format!("k{n:02}")).text("errorClass", class)
    });
    let fake = Fake::with(letters).canaries(3, now(), ExecutionStatus::Succeeded);
    for n in 0..50 {
        let id = message(&format!("k{n:02}"))["id"].as_str().expect("id").to_owned();
        fake.state().executions.insert(id, ExecutionStatus::Failed);
    }
    let report = redrive(&fake, &json!({ "maxMessages": 5 })).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (5, Stopped::MaxMessages));
    assert_eq!(sent(&fake), ["k00", "k01", "k02", "k50", "k51"]);
}
