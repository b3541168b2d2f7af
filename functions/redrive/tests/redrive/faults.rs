use testing::{Weather, When};

use super::*;

fn three() -> Stack {
    Stack::with([letter("a"), letter("b"), letter("poison").class("NotJson")])
}

fn many(count: usize) -> Stack {
    Stack::with((0..count).map(|n| letter(&format!("k{n:04}"))))
}

async fn nightly_error(stack: &Stack) -> Error {
    redrive(stack, &sample_json("scheduled-event.json")).await.expect_err("an error")
}

#[tokio::test(start_paused = true)]
async fn what_the_work_queue_does_not_confirm_stays() {
    let stack = three();
    stack.work().rejects_all();
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (0, 2));
    assert_eq!(stack.left(), ["message-0", "message-1"]);
    assert_eq!(stack.dead().visible(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_the_archive_does_not_confirm_stays() {
    let stack = three();
    stack.aws.when("PutObject").fails("SlowDown");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (2, 1));
    assert_eq!(stack.left(), ["message-2"]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_deleted_is_reported_and_goes_back_again_under_its_name() {
    let stack = three();
    stack.dead().keeps_all();
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (0, 3));
    assert_eq!(stack.left().len(), 3);
    stack.dead().recovers();
    assert_eq!(stack.dead().visible(), 3);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed), (2, 0));
    assert!(stack.left().is_empty());
    assert_eq!(stack.archive().len(), 1);
    // Sent twice, with the same id: one execution.
    assert_eq!(stack.keys(), ["a", "a", "b", "b"]);
}

#[tokio::test(start_paused = true)]
async fn one_in_ten_failing_loses_nothing() {
    let stack = many(200);
    stack.work().when_sending().one_in(10).is_rejected();
    stack.dead().when_deleting().one_in(10).is_rejected();
    for _ in 0..3 {
        nightly(&stack).await;
        sleep(Duration::from_secs(1_000)).await;
    }
    assert!(stack.left().is_empty());
    let mut keys = stack.keys();
    keys.dedup();
    assert_eq!(keys.len(), 200);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_cannot_be_read_is_an_error() {
    let stack = three();
    stack.dead().is_gone();
    let error = redrive(&stack, &json!({})).await.expect_err("an error").to_string();
    assert!(error.starts_with("cannot receive from the dead-letter queue: "), "{error}");
    assert!(error.contains("NonExistentQueue"), "{error}");
}

#[tokio::test(start_paused = true)]
async fn a_request_that_cannot_be_read_touches_nothing() {
    let stack = three();
    let error = redrive(&stack, &json!({ "dryrun": true })).await.expect_err("an error");
    assert!(matches!(error, Error::Request(_)));
    assert!(stack.aws.calls().is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_the_order_of_a_group_is_kept() {
    let letters = (0..30).map(|n| {
        let group = ["a", "b"][n % 2];
        letter(&format!("{group}-{n:02}")).group(group)
    });
    let stack = Stack::fifo(letters);
    let sent = |group: &str| {
        let keys = stack.work().keys().into_iter();
        keys.filter(|key| key.starts_with(group)).collect::<Vec<_>>()
    };
    let all = |group: &str| {
        let numbers = (0..30).filter(|n| ["a", "b"][n % 2] == group);
        numbers.map(|n| format!("{group}-{n:02}")).collect::<Vec<_>>()
    };
    stack.work().rejects("a-04");
    let report = nightly(&stack).await;
    assert_eq!(sent("a"), ["a-00", "a-02"]);
    assert_eq!(sent("b"), all("b"));
    // What was received behind it in the same answer is left, too.
    assert_eq!((report.redriven, report.failed), (17, 3));

    stack.work().recovers();
    assert_eq!(nightly(&stack).await.redriven, 13);
    assert_eq!(sent("a"), all("a"));
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_letter_without_a_group_gets_its_device_on_a_fifo_queue() {
    let stack = Stack::fifo([letter("devices/42/state.json")]);
    assert_eq!(nightly(&stack).await.redriven, 1);
    assert_eq!(stack.work().messages()[0].group_id.as_deref(), Some("devices/42"));
}

#[tokio::test(start_paused = true)]
async fn one_failed_receive_does_not_end_the_night() {
    let stack = many(1_000);
    // Too many for the SDK, which tries thrice: four receivers share twelve failures.
    stack.dead().when("ReceiveMessage").after(2).times(12).fails("ServiceUnavailable");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (1_000, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn a_run_that_could_not_read_on_is_an_error_with_its_report() {
    let stack = many(1_000);
    stack.dead().when("ReceiveMessage").after(2).fails("ServiceUnavailable");
    let error = redrive(&stack, &json!({})).await.expect_err("an error");
    let Error::Incomplete { report, .. } = &error else { panic!("{error}") };
    assert_eq!((report.redriven, report.stopped), (20, Stopped::ReceiveFailed));
    assert!(!report.complete);
    let text = error.to_string();
    assert!(text.contains("ServiceUnavailable") && text.contains(r#""redriven":20"#), "{text}");
}

/// The calls about the dead-letter queue go well again after this time.
async fn recovers_after(stack: &Stack, time: Duration) {
    sleep(time).await;
    stack.dead().recovers();
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_no_waiting_cures_ends_the_run_soon() {
    for code in [
        "AccessDenied",
        "AWS.SimpleQueueService.NonExistentQueue",
        "InvalidAddress",
        "InvalidSecurity",
        "KMS.AccessDeniedException",
        "KMS.DisabledException",
    ] {
        for canaries in [0, 3] {
            let stack = three().canaries(canaries);
            stack.dead().when("ReceiveMessage").fails(code);
            let begin = Instant::now();
            let error = nightly_error(&stack).await;
            assert!(matches!(error, Error::Receive(_)), "{error}");
            assert!(error.to_string().contains(code), "{error}");
            // A right that was just given needs some seconds.
            assert!((10..=60).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_receive_that_is_refused_in_the_midst_of_a_run_ends_it_soon_with_its_report() {
    let stack = many(1_000);
    stack.dead().when("ReceiveMessage").after(2).fails("AccessDenied");
    let begin = Instant::now();
    let error = nightly_error(&stack).await;
    let Error::Incomplete { report, .. } = &error else { panic!("{error}") };
    assert_eq!((report.redriven, report.stopped), (20, Stopped::ReceiveFailed));
    assert!(begin.elapsed() < Duration::from_mins(1), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_refusal_of_some_seconds_ends_nothing() {
    let stack = many(100);
    stack.dead().when("ReceiveMessage").after(2).fails("AccessDenied");
    let (report, ()) =
        tokio::join!(nightly(&stack), recovers_after(&stack, Duration::from_secs(10)));
    assert_eq!((report.redriven, report.stopped), (100, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn what_waiting_cures_is_waited_for() {
    let goes_wrong: [&dyn Fn(When); 6] = [
        &|receive| receive.fails("RequestThrottled"),
        &|receive| receive.fails("ThrottlingException"),
        &|receive| receive.fails("KMS.ThrottlingException"),
        &|receive| receive.fails("ServiceUnavailable"),
        &|receive| receive.is_reset(),
        &|receive| receive.is_never_answered(),
    ];
    for goes_wrong in goes_wrong {
        let stack = many(100);
        goes_wrong(stack.dead().when("ReceiveMessage").after(2));
        let outage = recovers_after(&stack, Duration::from_mins(10));
        let (report, ()) = tokio::join!(nightly(&stack), outage);
        assert_eq!((report.redriven, report.stopped), (100, Stopped::Empty));
    }
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_shown_twice_is_deleted_by_its_newest_receipt() {
    let stack = Stack::with((0..30).map(|n| letter(&format!("k{n:02}")))).at_most_per_second(5);
    stack.dead().shows_twice("message-15");
    let request = sample_json("scheduled-event.json");
    let (answer, log) = invoke_and_read_log(&stack, &request, Duration::from_mins(15)).await;
    let report = report(answer.expect("a report"));
    assert_eq!((report.redriven, report.failed, report.seen), (30, 0, 30));
    assert!(log.iter().all(|line| line["level"] == "INFO"), "{log:?}");
    assert!(stack.left().is_empty(), "{:?}", stack.left());
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_was_not_deleted_is_deleted_when_it_is_shown_again() {
    for (rejections, left) in [(3, 0), (6, 1)] {
        let letters = (0..20).map(|n| letter(&format!("k{n:02}")).group(&format!("g{n}")));
        let stack = Stack::fifo(letters);
        stack.dead().shows_twice("message-5");
        // Each deletion is tried three times.
        stack.dead().when_deleting().about("k05").times(rejections).is_rejected();
        let request = sample_json("scheduled-event.json");
        let (answer, log) = invoke_and_read_log(&stack, &request, Duration::from_mins(15)).await;
        let report = report(answer.expect("a report"));
        assert_eq!((report.redriven, report.failed, report.seen), (19, 1, 20));
        assert_eq!((stack.left().len(), stack.dead().visible()), (left, left));
        assert_eq!(stack.keys().len(), 20);
        let message = "a letter that was confirmed earlier is not deleted";
        let logged = log.iter().filter(|line| line["message"] == message).count();
        assert_eq!(logged, left, "{log:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn an_empty_answer_while_sqs_hides_all_it_may_is_not_the_end_of_the_queue() {
    let stack = Stack::with([letter("a")]);
    stack.dead().has_in_flight_elsewhere(119_900);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (1, Stopped::TooManyHidden));
    assert!(!report.complete);
}

#[tokio::test(start_paused = true)]
async fn a_run_ends_at_once_when_sqs_hides_no_more_messages() {
    let stack = many(100);
    stack.dead().when("ReceiveMessage").after(4).fails("OverLimit");
    let begin = Instant::now();
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (40, Stopped::TooManyHidden));
    assert!(!report.complete && begin.elapsed() < Duration::from_secs(10));
}

/// Letters about `k000` and so on.
fn letters_of_every_kind(count: usize) -> impl Iterator<Item = Message> {
    (0..count).map(|n| {
        let key = format!("k{n:03}");
        match n % 8 {
            0 => letter(&key).class("NotJson"),
            1 => letter(&key).sent("2026-11-20T16:00:00Z"),
            2 => failed(&id(&key), &key),
            3 => letter(&key).redrives(5),
            // SQS deletes it after three nights.
            4 => letter(&key).sent("2026-11-09T20:00:00Z"),
            5 => letter_of(&key),
            _ => letter(&key),
        }
    })
}

#[tokio::test(start_paused = true)]
async fn every_letter_has_exactly_one_fate_whatever_fails() {
    for every in 2..12 {
        let stack = Stack::with(letters_of_every_kind(120)).canaries(2);
        stack.work().when_sending().one_in(every).is_rejected();
        stack.dead().when_deleting().one_in(every).is_rejected();
        // The SDK would try again for most errors.
        stack.aws.when("PutObject").one_in(every).fails("AccessDenied");
        for n in (0..120).step_by(7) {
            let execution = execution(&stack, &format!("k{n:03}"));
            let ended = execution.clone().ended(now(), Status::Succeeded);
            stack.aws.step_functions().has([ended, execution][n % 2].clone());
            stack.dead().shows_twice(&format!("message-{n}"));
        }
        let report = nightly(&stack).await;
        let Report { redriven, too_new, filtered, failed, succeeded, running, .. } = report;
        let archived: u64 = report.archived.values().sum();
        assert_eq!(
            redriven + archived + too_new + filtered + failed + succeeded + running,
            report.seen,
            "{report:?}"
        );
        assert_eq!(report.seen + report.held_back, 120, "one in {every}: {report:?}");
        // Everything is somewhere. What is shown twice may be deleted after its fate is told.
        let gone = 120 - stack.left().len() as u64;
        assert!(gone >= redriven + archived + succeeded, "one in {every}: {report:?}");
        assert!(gone <= redriven + archived + succeeded + failed, "one in {every}: {report:?}");
        assert_eq!(stack.dead().visible(), stack.left().len(), "one in {every}");
    }
}

#[tokio::test(start_paused = true)]
async fn no_letter_is_lost_in_any_weather() {
    const COUNT: usize = 80;
    for seed in 0..8 {
        let stack = Stack::on(Aws::with_seed(seed), letters_of_every_kind(COUNT)).canaries(2);
        fastrand::seed(seed);
        let share = 0.05;
        stack.aws.has_weather(Weather {
            errors: share,
            throttles: share,
            resets: share,
            silences: share,
            lost_answers: share,
            rejected_entries: share,
        });
        for n in 0..3 {
            stack.reaches(night(n)).await;
            let report = match redrive(&stack, &sample_json("scheduled-event.json")).await {
                Ok(report) => report,
                Err(Error::Incomplete { report, .. }) => *report,
                Err(error) => panic!("seed {seed}: {error}"),
            };
            let Report { redriven, too_new, filtered, failed, succeeded, running, .. } = report;
            let archived: u64 = report.archived.values().sum();
            assert_eq!(
                redriven + archived + too_new + filtered + failed + succeeded + running,
                report.seen,
                "seed {seed}: {report:?}"
            );
        }
        let started = stack.started_keys().await;
        assert_eq!(stack.dead().expired(), [], "seed {seed}");
        let (left, archive) = (stack.dead().messages(), stack.archive());
        for n in 0..COUNT {
            let key = format!("k{n:03}");
            let is_somewhere = started.contains(&key)
                || left.iter().any(|letter| letter.body.contains(&key))
                || archive.values().any(|document| document.to_string().contains(&key));
            assert!(is_somewhere, "seed {seed}: {key}");
        }
        // What was hidden by a receive whose answer was lost waits for the next night.
        assert!(left.len() < COUNT / 4, "seed {seed}: {} letters are left", left.len());
    }
}
