use super::*;

fn three() -> Fake {
    let poison = letter("poison").text("errorClass", "NotJson");
    Fake::with([letter("a"), letter("b"), poison])
}

#[tokio::test(start_paused = true)]
async fn what_the_work_queue_does_not_confirm_stays() {
    let fake = three();
    fake.state().fails_every.insert("send", 1);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (0, 2));
    assert_eq!(fake.left(), ["message-0", "message-1"]);
    assert_eq!(fake.visible(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_archive_does_not_confirm_stays() {
    let fake = three();
    fake.state().broken.push("put");
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (2, 1));
    assert_eq!(fake.left(), ["message-2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_deleted_is_reported_and_goes_back_again_under_its_name() {
    let fake = three();
    fake.state().fails_every.insert("delete", 1);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (0, 3));
    assert_eq!(fake.left().len(), 3);
    fake.state().fails_every.clear();
    assert_eq!(fake.visible(), 3);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed), (2, 0));
    assert!(fake.left().is_empty());
    assert_eq!(fake.state().archive.len(), 1);
    // Sent twice, with the same id: one execution.
    assert_eq!(fake.keys(), ["a", "a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn one_in_ten_failing_loses_nothing() {
    let letters = (0..200).map(|n| letter(&format!("k{n:03}")));
    let fake = Fake::with(letters);
    for call in ["send", "delete"] {
        fake.state().fails_every.insert(call, 10);
    }
    for _ in 0..3 {
        nightly(&fake).await;
        tokio::time::advance(Duration::from_secs(1_000)).await;
    }
    assert!(fake.left().is_empty());
    let mut keys = fake.keys();
    keys.dedup();
    assert_eq!(keys.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_an_error() {
    let fake = three();
    fake.state().broken.push("receive");
    let error = redrive(&fake, &json!({})).await.expect_err("an error").to_string();
    assert!(error.starts_with("cannot receive from the dead-letter queue: "), "{error}");
    assert!(error.contains("NonExistentQueue"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_touches_nothing() {
    let fake = three();
    let error = redrive(&fake, &json!({ "dryrun": true })).await.expect_err("an error");
    assert!(matches!(error, Error::Request(_)));
    assert!(fake.state().calls.is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_the_order_of_a_group_is_kept() {
    let letters = (0..30).map(|n| {
        let group = ["a", "b"][n % 2];
        letter(&format!("{group}-{n:02}")).group(group)
    });
    let fake = Fake::with(letters).fifo();
    let sent = |group: &str| {
        let key = |body: &Value| body["data"]["key"].as_str().expect("key").to_owned();
        let keys = fake.work().iter().map(key).collect::<Vec<_>>();
        keys.into_iter().filter(|key| key.starts_with(group)).collect::<Vec<_>>()
    };
    let all = |group: &str| {
        let numbers = (0..30).filter(|n| ["a", "b"][n % 2] == group);
        numbers.map(|n| format!("{group}-{n:02}")).collect::<Vec<_>>()
    };
    fake.state().refused = Some("a-04".to_owned());
    let report = nightly(&fake).await;
    assert_eq!(sent("a"), ["a-00", "a-02"]);
    assert_eq!(sent("b"), all("b"));
    // What was received behind it in the same answer is left, too.
    assert_eq!((report.redriven, report.failed), (17, 3));

    fake.state().refused = None;
    assert_eq!(nightly(&fake).await.redriven, 13);
    assert_eq!(sent("a"), all("a"));
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_letter_without_a_group_gets_its_device_on_a_fifo_queue() {
    let fake = Fake::with([letter("devices/42/state.json")]).fifo();
    assert_eq!(nightly(&fake).await.redriven, 1);
    assert_eq!(fake.state().work[0].message_group_id(), Some("devices/42"));
}

#[tokio::test(start_paused = true)]
async fn one_failed_receive_does_not_end_the_night() {
    let fake = Fake::with((0..1_000).map(|n| letter(&format!("k{n:04}"))));
    fake.state().receive_breaks_at = Some(3);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (1_000, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_could_not_read_on_is_an_error_with_its_report() {
    let fake = Fake::with((0..1_000).map(|n| letter(&format!("k{n:04}"))));
    fake.state().receive_breaks_from = Some(3);
    let error = redrive(&fake, &json!({})).await.expect_err("an error");
    let Error::Incomplete { report, .. } = &error else { panic!("{error}") };
    assert_eq!((report.redriven, report.stopped), (20, Stopped::ReceiveFailed));
    assert!(!report.complete);
    let text = error.to_string();
    assert!(text.contains("ServiceUnavailable") && text.contains(r#""redriven":20"#), "{text}");
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_shown_twice_is_deleted_by_its_newest_receipt() {
    let mut fake = Fake::with((0..30).map(|n| letter(&format!("k{n:02}"))));
    fake.max_per_second = Some(5);
    fake.state().shown_twice.insert("message-15".to_owned());
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.failed, report.seen), (30, 0, 30));
    assert!(fake.left().is_empty(), "{:?}", fake.left());
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_while_sqs_hides_all_it_may_is_not_the_end_of_the_queue() {
    let fake = Fake::with([letter("a")]);
    fake.state().hidden_messages = Some(119_900);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (1, Stopped::TooManyHidden));
    assert!(!report.complete);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_once_when_sqs_hides_no_more_messages() {
    let fake = Fake::with((0..100).map(|n| letter(&format!("k{n:03}"))));
    fake.state().receive_breaks_from = Some(5);
    fake.state().receive_refused = Some("OverLimit");
    let begin = Instant::now();
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (40, Stopped::TooManyHidden));
    assert!(!report.complete && begin.elapsed() < Duration::from_secs(10));
}

#[tokio::test(start_paused = true)]
async fn every_letter_has_exactly_one_fate_whatever_fails() {
    use aws_sdk_sfn::types::ExecutionStatus;
    for every in 2..12 {
        let letters = (0..120).map(|n| {
            let key = format!("k{n:03}");
            let name = message(&key)["id"].clone();
            let failed = json!({ "failedExecution": { "name": name }, "event": message(&key) });
            match n % 8 {
                0 => letter(&key).text("errorClass", "NotJson"),
                1 => letter(&key).sent("2026-11-20T16:00:00Z"),
                2 => Letter::new(&failed.to_string()).text("errorClass", "E"),
                3 => letter(&key).redrives(5),
                4 => letter(&key).sent("2026-11-07T23:00:00Z"),
                5 => Letter::new(&key),
                _ => letter(&key),
            }
        });
        let fake = Fake::with(letters).canaries(2, now(), ExecutionStatus::Succeeded);
        for call in ["send", "delete", "put"] {
            fake.state().fails_every.insert(call, every);
        }
        for n in (0..120).step_by(7) {
            let id = message(&format!("k{n:03}"))["id"].as_str().expect("id").to_owned();
            let status = [ExecutionStatus::Succeeded, ExecutionStatus::Running][n % 2].clone();
            fake.state().executions.insert(id, status);
            fake.state().shown_twice.insert(format!("message-{n}"));
        }
        let report = nightly(&fake).await;
        let Report { redriven, too_new, filtered, failed, succeeded, running, .. } = report;
        let archived: u64 = report.archived.values().sum();
        assert_eq!(
            redriven + archived + too_new + filtered + failed + succeeded + running,
            report.seen,
            "{report:?}"
        );
        assert_eq!(report.seen + report.held_back, 120, "one in {every}: {report:?}");
        // Everything is somewhere. What is shown twice may be deleted after its fate is told.
        let gone = 120 - fake.left().len() as u64;
        assert!(gone >= redriven + archived + succeeded, "one in {every}: {report:?}");
        assert!(gone <= redriven + archived + succeeded + failed, "one in {every}: {report:?}");
        assert_eq!(fake.visible(), fake.left().len(), "one in {every}");
    }
}
