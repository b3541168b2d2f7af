//! `MAX_RUNNING_EXECUTIONS`.

use std::ops::Range;

use consumer::{
    RunningLimit,
    running::{EVENTUALLY, SHARE},
};
use tokio::time::{sleep, timeout};

use super::*;

const HOUR: Duration = Duration::from_hours(1);

/// With two consumers, so that each takes half of what is free, and shares an answer for two seconds.
fn limit(executions: usize) -> RunningLimit {
    RunningLimit { executions, consumers: 2, batch_size: 10 }
}

fn limited(aws: &Aws, limit: RunningLimit) -> Config {
    Config { running_limit: Some(limit), ..config(aws) }
}

/// An environment of the consumer.
fn environment(aws: &Aws, limit: RunningLimit) -> Consumer {
    consumer(aws, limited(aws, limit), &Lines::default())
}

fn records(numbers: Range<usize>) -> Vec<Value> {
    numbers.map(|n| record(&format!("k{n}"))).collect()
}

/// The ids that SQS will deliver again.
async fn invoke(aws: &Aws, consumer: &Consumer, records: Vec<Value>) -> Vec<String> {
    let answer = handle(consumer, aws, event(&records), deadline(), now()).await;
    let failures = answer.expect("an answer").batch_item_failures;
    failures.into_iter().map(|failure| failure.item_identifier).collect()
}

fn started(aws: &Aws) -> usize {
    aws.step_functions().started().len()
}

fn asked(aws: &Aws) -> usize {
    aws.count("ListExecutions")
}

fn deferred(aws: &Aws) -> usize {
    aws.work_queue().messages().len()
}

#[tokio::test(start_paused = true)]
async fn no_more_are_started_than_may_run_and_the_others_are_deferred_by_cause() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    let metrics = Lines::default();
    let config = Config { start_concurrency: 1, ..limited(&aws, limit(3)) };
    assert!(consume_with(&aws, config, &metrics, event(&records(0..10))).await.is_empty());
    assert_eq!((started(&aws), deferred(&aws)), (3, 7));
    assert_eq!(aws.step_functions().started_keys(), ["k0", "k1", "k2"]);
    // Two places at first, and the third after another question.
    assert_eq!(asked(&aws), 2);
    assert_eq!(aws.calls_of("ListExecutions")[0]["statusFilter"], "RUNNING");
    assert_eq!(aws.count("GetObject"), 3, "what is not started need not be read");
    assert!(aws.dead_letter_queue().messages().is_empty());
    for copy in aws.work_queue().messages() {
        assert!((4..=8).contains(&copy.delay_seconds.expect("a delay")), "{copy:?}");
        // The next back-off for another cause is no longer for that.
        assert_eq!(copy.text("deferrals"), Some("0"));
    }
    let cause = metrics.read().pop().expect("a line");
    assert_eq!((&cause["Cause"], &cause["Deferred"]), (&json!("RunningLimit"), &json!(7)));
}

/// The next answer would come too late, and the wait for it is billed.
#[tokio::test(start_paused = true)]
async fn who_has_no_time_for_another_question_is_deferred_at_once() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    let metrics = Lines::default();
    let consumer = consumer(&aws, limited(&aws, limit(2)), &metrics);
    let begin = Instant::now();
    let soon = Deadline::at(begin + SHARE);
    let answer = handle(&consumer, &aws, event(&records(0..2)), soon, now()).await;
    assert!(answer.expect("an answer").batch_item_failures.is_empty());
    assert_eq!((started(&aws), asked(&aws), deferred(&aws)), (1, 1, 1));
    assert!(begin.elapsed() < SHARE / 2, "nobody has waited");
    let cause = metrics.read().pop().expect("a line");
    assert_eq!((&cause["Cause"], &cause["Deferred"]), (&json!("RunningLimit"), &json!(1)));
}

#[tokio::test(start_paused = true)]
async fn without_a_limit_nobody_asks_how_many_run() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    assert!(consume(&aws, records(0..10)).await.is_empty());
    assert_eq!((started(&aws), asked(&aws)), (10, 0));
}

#[tokio::test(start_paused = true)]
async fn while_no_place_is_free_the_batches_of_an_environment_share_an_answer() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    aws.step_functions().starts("other", "{}");
    let ten = RunningLimit { consumers: 10, ..limit(1) };
    let consumer = environment(&aws, ten);
    let begin = Instant::now();
    for batch in 0..9 {
        assert!(invoke(&aws, &consumer, records(batch..batch + 1)).await.is_empty());
        sleep(Duration::from_secs(1)).await;
    }
    assert_eq!((started(&aws), asked(&aws)), (1, 1));
    // Ten consumers together ask once a second.
    tokio::time::sleep_until(begin + Duration::from_secs(10)).await;
    invoke(&aws, &consumer, records(9..10)).await;
    assert_eq!((started(&aws), asked(&aws)), (1, 2));
}

#[tokio::test(start_paused = true)]
async fn a_place_is_free_again_however_its_execution_has_ended_and_though_nothing_tells_of_it() {
    let aws = Aws::new();
    let consumer = environment(&aws, limit(1));
    let minute = Duration::from_mins(1);
    aws.step_functions().executions_fail(minute, "States.Runtime");
    invoke(&aws, &consumer, records(0..1)).await;
    aws.step_functions().executions_succeed(minute);
    for n in 1..4 {
        sleep(minute / 2).await;
        invoke(&aws, &consumer, records(n..n + 1)).await;
        assert_eq!(started(&aws), n, "one runs");
        sleep(minute / 2).await;
        invoke(&aws, &consumer, records(n..n + 1)).await;
        assert_eq!(started(&aws), n + 1, "none runs");
    }
}

#[tokio::test(start_paused = true)]
async fn what_somebody_else_has_started_counts() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    aws.step_functions().starts("by-hand", "{}");
    invoke(&aws, &environment(&aws, limit(2)), records(0..5)).await;
    assert_eq!((started(&aws), deferred(&aws)), (2, 4));
}

/// Killed at every moment of its first seconds, an environment leaves nothing behind but what runs.
#[tokio::test(start_paused = true)]
async fn a_killed_environment_takes_no_place_with_it() {
    for millis in (0..2_500).step_by(29) {
        let aws = Aws::new();
        aws.step_functions().executions_run_for_ever();
        let killed = environment(&aws, limit(5));
        let batch = invoke(&aws, &killed, records(0..3));
        // It is killed, unless it has come to its end before.
        timeout(Duration::from_millis(millis), batch).await.ok();
        drop(killed);
        sleep(EVENTUALLY).await;
        let ran = aws.step_functions().running();
        let next = environment(&aws, limit(5));
        invoke(&aws, &next, records(10..20)).await;
        assert_eq!(aws.step_functions().running(), 5, "after {millis} ms, when {ran} ran");
    }
}

/// A start may have happened although its answer is lost, and may not have happened.
#[tokio::test(start_paused = true)]
async fn a_start_without_an_answer_takes_a_place_until_step_functions_can_tell() {
    for has_started in [true, false] {
        let aws = Aws::new();
        aws.step_functions().executions_run_for_ever();
        let start = aws.when("StartExecution").about("k0");
        if has_started {
            start.loses_its_answer();
        } else {
            start.is_never_answered();
        }
        let consumer = environment(&aws, limit(1));
        invoke(&aws, &consumer, records(0..1)).await;
        invoke(&aws, &consumer, records(1..2)).await;
        assert_eq!(aws.step_functions().running(), usize::from(has_started), "nobody knows yet");
        sleep(EVENTUALLY).await;
        invoke(&aws, &consumer, records(1..2)).await;
        assert_eq!(aws.step_functions().running(), 1, "{has_started}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_a_listing_does_not_show_yet_counts_where_it_was_started() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    aws.step_functions().listing_is_late_by(EVENTUALLY.saturating_sub(SHARE));
    let consumer = environment(&aws, limit(4));
    for batch in 0..30 {
        invoke(&aws, &consumer, records(batch * 10..batch * 10 + 10)).await;
        assert!(aws.step_functions().running() <= 4);
        sleep(Duration::from_millis(700)).await;
    }
    assert_eq!(started(&aws), 4);
}

#[tokio::test(start_paused = true)]
async fn what_a_listing_does_not_show_yet_is_not_shared_out_again() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    aws.step_functions().starts("other", "{}");
    aws.step_functions().listing_is_late_by(EVENTUALLY.saturating_sub(SHARE));
    sleep(EVENTUALLY).await;
    let consumer = environment(&aws, limit(10));
    invoke(&aws, &consumer, records(0..3)).await;
    sleep(SHARE * 2).await;
    // Six are free, and no time is left for a third question.
    let soon = Deadline::at(Instant::now() + SHARE);
    let ten = event(&records(10..20));
    handle(&consumer, &aws, ten, soon, now()).await.expect("an answer");
    assert_eq!((asked(&aws), started(&aws)), (2, 1 + 3 + 3));
}

/// The start rate spreads a batch over more time than its starts may wait for each other.
#[tokio::test(start_paused = true)]
async fn a_limit_and_a_start_rate_go_together() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    let config = Config { start_rate_per_second: Some(1), ..limited(&aws, limit(8)) };
    let config = Config { start_concurrency: 1, ..config };
    assert!(consume_with(&aws, config, &Lines::default(), event(&records(0..10))).await.is_empty());
    assert_eq!((started(&aws), deferred(&aws)), (8, 2));
}

/// Each of the other consumers may have an answer from before this one's starts, and its share of
/// what was free then.
fn most(limit: RunningLimit) -> usize {
    let RunningLimit { executions, consumers, batch_size } = limit;
    executions + (consumers - 1) * executions.div_ceil(consumers).min(batch_size)
}

#[tokio::test(start_paused = true)]
async fn consumers_that_ask_at_the_same_moment_share_what_is_free() {
    for (executions, running) in [(100, 100), (1_000, 100), (25, 30), (3, 10)] {
        let aws = Aws::new();
        aws.step_functions().executions_run_for_ever();
        let limit = RunningLimit { executions, consumers: 10, batch_size: 10 };
        let consumers: Vec<Consumer> = (0..10).map(|_| environment(&aws, limit)).collect();
        let batches = consumers.iter().enumerate().map(|(n, consumer)| {
            let records = records(n * 10..n * 10 + 10);
            timeout(Duration::from_millis(500), invoke(&aws, consumer, records))
        });
        futures::future::join_all(batches).await;
        assert_eq!(aws.step_functions().running(), running, "of {executions}");
        assert!(running <= most(limit));
    }
}

/// Consumers that know nothing of each other, batches at random times, executions of random length,
/// faults, and environments that are killed and replaced.
#[tokio::test(start_paused = true)]
async fn what_runs_beyond_the_limit_is_bounded_by_concurrency_and_batch_size() {
    for seed in 0..5 {
        let mut rng = fastrand::Rng::with_seed(seed);
        let limit = RunningLimit {
            executions: rng.usize(1..=30),
            consumers: rng.usize(2..=6),
            batch_size: rng.usize(1..=10),
        };
        let most = most(limit);
        assert!(most <= limit.executions + limit.consumers * limit.batch_size);
        let aws = Aws::with_seed(seed);
        let seconds = rng.u64(1..20);
        aws.step_functions().executions_succeed(Duration::from_secs(seconds));
        let begin = Instant::now();
        let run_out = begin + Duration::from_mins(1);
        let environments = (0..limit.consumers).map(|number| {
            let (aws, mut rng) = (aws.clone(), rng.fork());
            async move {
                let mut consumer = environment(&aws, limit);
                let mut next = number * 1_000_000;
                while Instant::now() < run_out {
                    // Often at the same moment, and with whole batches.
                    let millis = begin.elapsed().as_millis() % 2_000;
                    sleep(Duration::from_millis(2_000 - u64::try_from(millis).unwrap_or(0))).await;
                    let count = [limit.batch_size, rng.usize(1..=limit.batch_size)][rng.usize(..2)];
                    let batch = invoke(&aws, &consumer, records(next..next + count));
                    next += count;
                    // Killed now and then, once what it has started is in the listings.
                    let patience = if rng.u8(..8) == 0 { rng.u64(0..2_000) } else { 60_000 };
                    if timeout(Duration::from_millis(patience), batch).await.is_err() {
                        sleep(EVENTUALLY).await;
                        consumer = environment(&aws, limit);
                    }
                    // What was deferred is of no interest here.
                    aws.work_queue().is_purged();
                    let running = aws.step_functions().running();
                    assert!(running <= most, "{running} run, {limit:?}, seed {seed}");
                }
            }
        });
        futures::future::join_all(environments).await;
        assert!(started(&aws) > 2 * limit.executions.min(5), "{limit:?}, seed {seed}");
        sleep(Duration::from_mins(2)).await;
        invoke(&aws, &environment(&aws, limit), vec![record("last")]).await;
        assert_eq!(aws.step_functions().running(), 1, "it does not stick");
    }
}

#[tokio::test(start_paused = true)]
async fn what_is_refused_gives_its_place_to_the_next() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    aws.step_functions().fails("k0", "InvalidName");
    aws.s3().fails("k1", "AccessDenied");
    aws.step_functions().starts("other", "{}");
    let config = Config { start_concurrency: 1, ..limited(&aws, limit(2)) };
    consume_with(&aws, config, &Lines::default(), event(&records(0..3))).await;
    assert_eq!(aws.step_functions().running(), 2);
    assert_eq!(aws.step_functions().tried_keys(), ["k0", "k2"]);
    // Out of the share that the first answer gave.
    assert_eq!(asked(&aws), 1);
}

#[tokio::test(start_paused = true)]
async fn a_duplicate_of_what_runs_needs_no_place() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    let consumer = environment(&aws, limit(1));
    invoke(&aws, &consumer, records(0..1)).await;
    // At once, and when it is in the listing.
    for wait in [0, 60] {
        sleep(Duration::from_secs(wait)).await;
        assert!(invoke(&aws, &consumer, records(0..1)).await.is_empty());
    }
    assert_eq!((started(&aws), deferred(&aws)), (1, 0));
}

#[tokio::test(start_paused = true)]
async fn pages_that_hold_fewer_than_there_are_are_read_on_as_far_as_the_limit_needs() {
    let aws = Aws::new();
    aws.step_functions().executions_run_for_ever();
    (0..20).for_each(|n| aws.step_functions().starts(&format!("other-{n}"), "{}"));
    aws.s3().lists_at_once(3);
    invoke(&aws, &environment(&aws, limit(21)), records(0..5)).await;
    assert_eq!((started(&aws), deferred(&aws)), (21, 4));
    let before = asked(&aws);
    invoke(&aws, &environment(&aws, limit(7)), records(0..5)).await;
    assert_eq!(asked(&aws) - before, 3, "seven are enough to know");
}

#[tokio::test(start_paused = true)]
async fn if_nobody_can_tell_how_many_run_nothing_is_started_and_the_reason_says_what_to_do() {
    for (code, cause, words) in [
        ("ThrottlingException", "Throttled", "ThrottlingException"),
        ("InternalFailure", "Unavailable", "InternalFailure"),
        ("AccessDeniedException", "AccessDenied", "needs states:ListExecutions"),
        ("StateMachineDoesNotExist", "StateMachineMissing", "StateMachineDoesNotExist"),
        ("StateMachineTypeNotSupported", "StateMachineMissing", "has to be 0"),
    ] {
        let aws = Aws::new();
        aws.when("ListExecutions").fails(code);
        let consumer = environment(&aws, limit(5));
        assert!(invoke(&aws, &consumer, records(0..10)).await.is_empty(), "{code}");
        let once = asked(&aws);
        assert!(invoke(&aws, &consumer, records(10..20)).await.is_empty(), "{code}");
        assert_eq!((started(&aws), deferred(&aws)), (0, 20), "{code}");
        assert_eq!(asked(&aws), once, "{code} is not asked for with each message");

        // It says so at the end, which is not before that of everything that waits.
        let aws = Aws::new();
        aws.when("ListExecutions").fails(code);
        let consumer = environment(&aws, limit(5));
        for hours in [71, 72] {
            invoke(&aws, &consumer, vec![deferred_for(hours, record("k"))]).await;
        }
        let [letter] = &aws.dead_letter_queue().messages()[..] else { panic!("{code}") };
        assert_eq!(letter.text("errorClass"), Some("DeferredTooLong"));
        let reason = letter.text("errorMessage").expect("a reason");
        assert!(reason.starts_with(&format!("{cause} for 72 hours: ")), "{reason}");
        assert!(reason.contains(words), "{reason}");

        aws.recovers();
        sleep(Duration::from_secs(2)).await;
        invoke(&aws, &consumer, records(0..1)).await;
        assert_eq!(started(&aws), 1, "{code} is over");
    }
}

#[tokio::test(start_paused = true)]
async fn only_what_found_no_place_itself_is_given_up_and_not_before_the_end_of_all_deferrals() {
    let old = |hours| ["a", "b", "c"].map(|key| deferred_for(hours, record(key))).to_vec();
    for (others, hours, dead) in [(2, 72, 3), (2, 71, 0), (1, 72, 0)] {
        let aws = Aws::new();
        aws.step_functions().executions_run_for_ever();
        (0..others).for_each(|n| aws.step_functions().starts(&format!("other-{n}"), "{}"));
        invoke(&aws, &environment(&aws, limit(2)), old(hours)).await;
        let letters = aws.dead_letter_queue().messages();
        assert_eq!(letters.len(), dead, "{others} others, {hours} hours");
        if let Some(letter) = letters.first() {
            let reason = letter.text("errorMessage").expect("a reason");
            let words =
                "RunningLimit for 72 hours: 2 executions run, and MAX_RUNNING_EXECUTIONS is 2";
            assert_eq!(reason, words);
        }
    }
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_the_head_of_a_group_waits_hidden_and_nothing_overtakes_it() {
    let aws = Aws::with_fifo_queues();
    aws.step_functions().executions_succeed(HOUR);
    let consumer = environment(&aws, limit(2));
    let in_group = |key: &str| {
        let mut record = record(key);
        record["attributes"]["MessageGroupId"] = json!(&key[..1]);
        record
    };
    let records = || ["a1", "b1", "a2", "b2"].map(in_group).to_vec();
    let failures = invoke(&aws, &consumer, records()).await;
    let mut keys = aws.step_functions().started_keys();
    keys.sort();
    let first_of_each = ["a1", "b1"];
    assert_eq!(
        (&keys[..], &failures[..]),
        (&first_of_each.map(str::to_owned)[..], &["a2", "b2"].map(str::to_owned)[..])
    );
    assert_eq!(deferred(&aws), 0);
    let hidden = aws.calls_of("ChangeMessageVisibilityBatch");
    assert_eq!(hidden.len(), 2, "each group backs off instead of the whole visibility timeout");

    sleep(HOUR).await;
    let rest = records().split_off(2);
    assert!(invoke(&aws, &consumer, rest).await.is_empty());
    assert_eq!(started(&aws), 4);
}

#[test]
fn a_limit_that_cannot_be_kept_is_refused_with_a_reason() {
    let read = |limit: &str, machine: &str| {
        let lookup = |name: &str| match name {
            "STATE_MACHINE_ARN" => Some("arn".into()),
            "MAX_RUNNING_EXECUTIONS" => Some(limit.into()),
            "STATE_MACHINE_TYPE" => Some(machine.into()),
            "MAXIMUM_CONCURRENCY" => Some("4".into()),
            "BATCH_SIZE" => Some("20".into()),
            _ => None,
        };
        let config = Settings::from_lookup(&lookup, Config::read);
        config.map(|config| config.running_limit).map_err(|error| error.to_string())
    };
    let limit = RunningLimit { executions: 5, consumers: 4, batch_size: 20 };
    assert_eq!(read("5", "STANDARD"), Ok(Some(limit)));
    assert_eq!(read("0", "EXPRESS"), Ok(None));
    let error = read("5", "EXPRESS").expect_err("refused");
    assert_eq!(
        error,
        "environment variable MAX_RUNNING_EXECUTIONS is \"5\": it has to be 0 with \
         STATE_MACHINE_TYPE=EXPRESS, because executions of an EXPRESS state machine cannot be listed"
    );
    let error = read("1001", "STANDARD").expect_err("refused");
    assert!(error.ends_with("expected a number from 0 to 1000"), "{error}");
}
