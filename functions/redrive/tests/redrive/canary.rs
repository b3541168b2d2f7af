use redrive::Canary;

use super::*;

const ERROR: &str = "DynamoDB.ResourceNotFoundException";

/// How long executions run.
const RUN: Duration = Duration::from_secs(2);

fn many_with_canaries(count: u64) -> Stack {
    let stack = Stack::with((0..100).map(|n| letter(&format!("k{n:03}")))).canaries(count);
    stack.aws.step_functions().executions_succeed(RUN);
    stack
}

/// The same, and all executions fail.
fn many_with_failing_canaries(count: u64) -> Stack {
    let stack = many_with_canaries(count);
    stack.aws.step_functions().executions_fail(RUN, ERROR);
    stack
}

#[tokio::test(start_paused = true)]
async fn canaries_that_succeed_let_the_others_follow() {
    let stack = many_with_canaries(3);
    let report = nightly(&stack).await;
    assert_eq!(report.canary, Some(Canary { succeeded: 3, ..Canary::default() }));
    assert_eq!((report.redriven, report.stopped), (100, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_fail_stop_the_run_and_save_the_redrives_of_the_others() {
    let stack = many_with_failing_canaries(3);
    let report = nightly(&stack).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.succeeded, canary.failed), (0, 3));
    let error = canary.error.expect("an error");
    assert_eq!(error, "DynamoDB.ResourceNotFoundException: no cause was given");
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!((stack.started_keys().await.len(), stack.dead().visible()), (3, 97));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_do_not_end_in_time_stop_nothing() {
    let stack = many_with_canaries(12);
    stack.aws.step_functions().executions_run_for_ever();
    let begin = Instant::now();
    let report = nightly(&stack).await;
    assert_eq!(report.canary, Some(Canary { undecided: 12, ..Canary::default() }));
    assert_eq!(report.redriven, 100);
    assert!(begin.elapsed() <= Duration::from_secs(250), "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_failure_of_an_earlier_day_is_none_of_today() {
    let stack = many_with_failing_canaries(3);
    let yesterday = "2026-11-19T12:00:00Z".parse().expect("time");
    for n in 0..100 {
        let execution = execution(&stack, &format!("k{n:03}"));
        let execution = Execution { started: yesterday, ..execution };
        stack.aws.step_functions().has(execution.ended(yesterday, Status::Failed));
    }
    let report = nightly(&stack).await;
    assert_eq!(report.canary, Some(Canary { undecided: 3, ..Canary::default() }));
    assert_eq!(report.redriven, 100);
}

#[tokio::test(start_paused = true)]
async fn no_canary_is_sent_where_none_is_wanted() {
    for request in [json!({ "canaryMessages": 0 }), json!({ "dryRun": true })] {
        let stack = many_with_failing_canaries(3);
        let report = redrive(&stack, &request).await.expect("a report");
        assert_eq!((report.redriven, report.canary), (100, None));
    }
}

#[tokio::test(start_paused = true)]
async fn poison_is_no_canary() {
    let stack = Stack::with([letter("poison").class("NotJson"), letter("a")]).canaries(3);
    let report = nightly(&stack).await;
    assert_eq!(report.canary, Some(Canary { succeeded: 1, ..Canary::default() }));
    assert_eq!(report.archived.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn canaries_that_the_work_queue_refuses_stop_the_run() {
    let stack = many_with_canaries(3);
    stack.work().rejects_all();
    let report = nightly(&stack).await;
    let canary = report.canary.expect("canaries");
    // None was taken of as many as were in hand.
    assert_eq!((canary.refused, canary.succeeded, canary.failed), (100, 0, 0));
    assert!(canary.error.expect("an error").contains("InternalError"));
    assert_eq!((report.stopped, report.failed, report.seen), (Stopped::Canary, 100, 100));
    assert!(report.moved_nothing);
    assert_eq!(stack.dead().visible(), 100);
    assert_eq!(stack.metrics.read()[0]["CanaryFailed"], 100);
}

#[tokio::test(start_paused = true)]
async fn canaries_of_which_one_is_taken_and_succeeds_stop_nothing() {
    let stack = many_with_canaries(4);
    // Of four entries each is sent four times; the last try of the last one succeeds.
    stack.work().when_sending().times(15).is_rejected();
    let report = nightly(&stack).await;
    let canary = report.canary.expect("canaries");
    // Three others took the places of those that were refused.
    assert_eq!((canary.refused, canary.succeeded), (3, 4));
    assert_eq!((report.redriven, report.failed, report.stopped), (97, 3, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn what_is_received_with_the_canaries_costs_no_call_of_its_own() {
    let stack = many_with_canaries(3);
    assert_eq!(nightly(&stack).await.redriven, 100);
    let letters = (0..100).map(|n| letter_of_today(&format!("k{n:03}")));
    let new = Stack::with(letters).canaries(3);
    assert_eq!(nightly(&new).await.too_new, 100);
    for stack in [stack, new] {
        let received = stack.aws.count("ReceiveMessage");
        // Ten full answers, and two empty ones for the canaries and for each receiver at most.
        assert!((10..=20).contains(&received), "{received}");
    }
}

/// How many letters are not in hand while the canaries run.
async fn not_in_hand(letters: impl IntoIterator<Item = Message>) -> usize {
    let stack = Stack::with(letters).canaries(3);
    stack.aws.step_functions().executions_succeed(Duration::from_mins(1));
    let halfway = async {
        sleep(Duration::from_secs(30)).await;
        stack.dead().visible()
    };
    let (report, left) = tokio::join!(nightly(&stack), halfway);
    assert_eq!((report.failed, stack.left().len()), (0, 0));
    left
}

#[tokio::test(start_paused = true)]
async fn no_more_letters_are_in_hand_than_memory_has_room_for() {
    assert_eq!(not_in_hand((0..300).map(|n| letter(&format!("k{n:03}")))).await, 200);
    // No more are received when eight mebibytes are in hand.
    let large = |n: u32| {
        let body = message(&format!("k{n:03}")).to_string();
        letter_of(&format!("{body}{}", " ".repeat(500_000)))
    };
    assert_eq!(not_in_hand((0..50).map(large)).await, 30);
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_execution_has_succeeded_since_is_no_refused_canary() {
    let stack = Stack::with([failed(&id("k"), "k")]).canaries(3);
    let execution = execution(&stack, "k").ended(now(), Status::Succeeded);
    stack.aws.step_functions().has(execution);
    let report = nightly(&stack).await;
    assert_eq!((report.succeeded, report.stopped), (1, Stopped::Empty));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_never_start_save_the_others() {
    let letters = (0..100).map(|n| letter(&format!("k{n:03}")).class("DeferredTooLong"));
    let mut stack = Stack::with(letters);
    // And nobody consumes them.
    stack.config.canary_messages = 3;
    let begin = Instant::now();
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!(report.canary.expect("canaries").not_started, 3);
    assert_eq!(stack.metrics.read()[0]["CanaryFailed"], 3);
    // What has not started soon is not waited for as long as what runs.
    assert!(begin.elapsed() < Duration::from_mins(2), "{:?}", begin.elapsed());
    assert_eq!((stack.work().messages().len(), stack.dead().visible()), (3, 97));
}

#[tokio::test(start_paused = true)]
async fn canaries_are_watched_for_longer_than_the_machine_itself_retries() {
    let stack = many_with_canaries(3);
    stack.aws.step_functions().executions_fail(Duration::from_secs(183), ERROR);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
}

#[tokio::test(start_paused = true)]
async fn canaries_that_run_are_watched_on_where_others_have_not_started() {
    let mut stack = Stack::with((0..10).map(|n| letter(&format!("k{n}"))));
    // Nobody consumes them, and the first one's execution runs already.
    stack.config.canary_messages = 2;
    let end = now() + SignedDuration::from_secs(183);
    stack.aws.step_functions().has(execution(&stack, "k0").ended(end, Status::Failed));
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (2, Stopped::Canary));
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.failed, canary.not_started), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn a_run_without_time_for_its_canaries_leaves_what_it_has_in_hand_to_the_next() {
    let request = sample_json("scheduled-event.json");
    // More canaries than go in one batch.
    let letters = (0..100).map(|n| letter(&format!("k{n:03}")).class(&format!("E{}", n % 5)));
    let slow = Stack::with(letters).canaries(3).at_most_per_second(1);
    let report = redrive_for(&slow, &request, Duration::from_secs(12)).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (10, Stopped::Deadline));
    assert_eq!((report.seen, report.released, slow.dead().visible()), (10, 90, 90));

    // Nobody says in time how they are doing.
    let silent = many_with_canaries(3);
    silent.aws.when("DescribeExecution").is_never_answered();
    let report = redrive_for(&silent, &request, Duration::from_mins(1)).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Deadline));
    assert_eq!((report.seen, report.released, silent.dead().visible()), (3, 97, 97));
}

#[tokio::test(start_paused = true)]
async fn a_canary_that_was_seen_to_fail_has_failed() {
    let stack = many_with_failing_canaries(3);
    // The first look finds none, the second finds all three running, and the third sees two of them
    // to have failed. After that, nobody is told anything.
    stack.aws.when("DescribeExecution").after(8).fails("Broken");
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (3, Stopped::Canary));
    assert_eq!(report.canary.expect("canaries").failed, 2);
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_refused_do_not_hold_back_the_others() {
    // With one behind each in its group.
    let bad = (0..6).map(|n| letter(&format!("bad{n}")).group(&format!("bad{}", n / 2)));
    let good = (0..50).map(|n| letter(&format!("k{n}")).group(&format!("k{n}")));
    let stack = Stack::fifo(bad.chain(good)).canaries(3);
    for n in 0..6 {
        stack.work().rejects(&format!("bad{n}"));
    }
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.failed, report.stopped), (50, 6, Stopped::Empty));
    assert_eq!(report.canary.expect("canaries").refused, 3);
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_lasts_holds_back_its_own_class_only() {
    let letters = (0..200).map(|n| {
        // The second class shows only after many letters of the first.
        letter(&format!("k{n:03}")).class(if n < 150 { "Lasting" } else { "Gone" })
    });
    let stack = Stack::with(letters).canaries(3);
    for n in 0..150 {
        stack.aws.step_functions().execution_fails(&format!("k{n:03}"), RUN, ERROR);
    }
    let report = nightly(&stack).await;
    let canary = report.canary.expect("canaries");
    assert_eq!((canary.failed, canary.succeeded), (3, 3), "{canary:?}");
    assert_eq!((report.redriven, report.held_back), (53, 147));
    assert_eq!((report.stopped, report.complete), (Stopped::Canary, true));
    assert_eq!(stack.dead().visible(), 147);
}

#[tokio::test(start_paused = true)]
async fn no_time_is_lost_where_executions_cannot_be_asked_for() {
    for refusal in ["AccessDeniedException", "InvalidArn"] {
        let stack = many_with_canaries(3);
        stack.aws.when("DescribeExecution").fails(refusal);
        let begin = Instant::now();
        assert_eq!(nightly(&stack).await.redriven, 100);
        assert!(begin.elapsed() < Duration::from_secs(10), "{:?}", begin.elapsed());
    }
}

#[tokio::test(start_paused = true)]
async fn archiving_costs_a_tenth_of_a_delete_for_each_letter_with_canaries_too() {
    let letters = (0..1_000).map(|n| letter(&format!("k{n:04}")).class("NotJson"));
    let stack = Stack::with(letters).canaries(3);
    assert_eq!(nightly(&stack).await.archived["NotJson"], 1_000);
    let deletes = stack.aws.count("DeleteMessageBatch");
    assert!(deletes <= 110, "{deletes}");
}

/// One group: five letters of a first class, then five of a second.
fn two_classes() -> impl Iterator<Item = Message> {
    (0..10).map(|n| {
        let class = if n < 5 { "First" } else { "Second" };
        letter(&format!("k{n}")).group("g").class(class)
    })
}

fn one_group_of_two_classes() -> Stack {
    Stack::fifo(two_classes()).canaries(2)
}

#[tokio::test(start_paused = true)]
async fn a_canary_does_not_overtake_a_letter_of_its_group() {
    let stack = one_group_of_two_classes();
    assert_eq!(nightly(&stack).await.redriven, 10);
    let all: Vec<String> = (0..10).map(|n| format!("k{n}")).collect();
    assert_eq!(stack.started_keys().await, all);
}

#[tokio::test(start_paused = true)]
async fn what_is_behind_a_letter_that_is_held_back_waits_with_it() {
    let first_fails = |stack: &Stack| {
        for n in 0..5 {
            stack.aws.step_functions().execution_fails(&format!("k{n}"), RUN, ERROR);
        }
    };
    let stack = one_group_of_two_classes();
    first_fails(&stack);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.held_back), (2, 8));
    assert_eq!(stack.started_keys().await, ["k0", "k1"]);

    // A standard queue has no order, whatever the groups.
    let stack = Stack::with(two_classes()).canaries(2);
    first_fails(&stack);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.held_back), (7, 3));

    // Only what is to be sent has an order.
    let poison = letter("poison").group("g").class("NotJson");
    let letters = ["canary", "behind"].map(|key| letter(key).group("g").class("Lasting"));
    let stack = Stack::fifo(letters.into_iter().chain([poison])).canaries(1);
    stack.aws.step_functions().execution_fails("canary", RUN, ERROR);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.held_back, report.archived.len()), (1, 1, 1));
}

#[tokio::test(start_paused = true)]
async fn what_goes_to_the_archive_waits_for_nothing_ahead_of_it() {
    // So many that the last group is received after the canary.
    let lasting = |key: &str, group: &str| letter(key).group(group).class("Lasting");
    let hand = (0..100).map(|n| lasting(&format!("k{n:03}"), &format!("g{}", n / 10)));
    let poison = letter("poison").group("last").class("NotJson");
    let letters = hand.chain([lasting("ahead", "last"), poison]);
    let stack = Stack::fifo(letters).canaries(1);
    stack.aws.step_functions().executions_fail(RUN, ERROR);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.held_back, report.archived.len()), (1, 100, 1));
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_held_back_do_not_use_up_the_cap() {
    let letters =
        (0..60).map(|n| letter(&format!("k{n:02}")).class(if n < 50 { "Lasting" } else { "Gone" }));
    let stack = Stack::with(letters).canaries(3);
    for n in 0..50 {
        stack.aws.step_functions().execution_fails(&format!("k{n:02}"), RUN, ERROR);
    }
    let report = redrive(&stack, &json!({ "maxMessages": 5 })).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (5, Stopped::MaxMessages));
    assert_eq!(stack.started_keys().await, ["k00", "k01", "k02", "k50", "k51"]);
}
