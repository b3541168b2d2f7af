use super::*;

fn many(count: usize) -> Stack {
    Stack::with((0..count).map(|n| letter(&format!("k{n:05}"))))
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let stack = Stack::with([letter("a"), letter("b").class("NotJson")]);
    let report = redrive(&stack, &json!({ "dryRun": true })).await.expect("a report");
    assert!(report.dry_run);
    assert_eq!((report.redriven, report.released, report.left), (1, 2, Some(2)));
    assert!(report.moved_nothing);
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());
    assert_eq!(stack.dead().visible(), 2);
    assert!(stack.work().messages().is_empty() && stack.archive().is_empty());
    assert_eq!(stack.aws.count("DeleteMessageBatch"), 0);
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_messages_are_moved() {
    let stack = many(100);
    let report = redrive(&stack, &json!({ "maxMessages": 25 })).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (25, Stopped::MaxMessages));
    assert_eq!((stack.work().messages().len(), stack.dead().visible()), (25, 75));
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_over_the_whole_run() {
    let stack = many(100);
    let report = redrive(&stack, &json!({ "maxPerSecond": 5 })).await.expect("a report");
    assert_eq!(report.redriven, 100);
    // Ten go at a time, and each ten waits until the rate has room for those before it.
    let sent: Vec<Duration> = stack
        .work()
        .messages()
        .iter()
        .map(|message| message.sent.duration_since(now()).try_into().expect("later"))
        .collect();
    for (n, sent) in (0..).zip(sent) {
        let turn = Duration::from_secs(n / 10 * 2);
        let latest = turn + Duration::from_millis(100);
        assert!((turn..latest).contains(&sent), "message {n} after {sent:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_run_stops_before_its_deadline_and_the_next_goes_on() {
    let stack = many(1_000);
    let request = json!({ "maxPerSecond": 10 });
    let report = redrive_for(&stack, &request, Duration::from_secs(30)).await.expect("a report");
    assert_eq!(report.stopped, Stopped::Deadline);
    assert!((150..=200).contains(&report.redriven), "{}", report.redriven);
    assert_eq!(report.left, Some(1_000 - report.redriven));
    // What was received and not tried is visible for the next run.
    assert_eq!(stack.dead().visible() as u64, 1_000 - report.redriven);
    assert_eq!(report.seen, report.redriven);
    assert_eq!(nightly(&stack).await.redriven, 1_000 - report.redriven);
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_error_class_that_was_asked_for_is_moved() {
    let stack = Stack::with([letter("a").class("DeferredTooLong"), letter("b")]);
    let report =
        redrive(&stack, &json!({ "errorClass": "DeferredTooLong" })).await.expect("a report");
    assert_eq!((report.redriven, report.filtered), (1, 1));
    assert_eq!(stack.keys(), ["a"]);
    assert_eq!(stack.dead().visible(), 1);
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_messages_cost_three_tenths_of_a_call_each() {
    const MANY: usize = 20_000;
    let stack = many(MANY);
    let report = nightly(&stack).await;
    assert_eq!((report.redriven, report.stopped), (MANY as u64, Stopped::Empty));
    assert!(stack.left().is_empty());
    let calls = stack.aws.calls().len();
    assert!(calls * 100 <= MANY * 35, "{calls}");
}

#[tokio::test(start_paused = true)]
async fn two_runs_at_once_do_no_harm() {
    let stack = many(300);
    let (one, other) = tokio::join!(nightly(&stack), nightly(&stack));
    assert_eq!(one.redriven + other.redriven, 300);
    assert_eq!(stack.work().messages().len(), 300);
    assert!(stack.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn letters_are_selected_by_key_by_age_and_by_id() {
    for (request, selected) in [
        (json!({ "keyPrefix": "devices/4" }), vec!["devices/42", "devices/43"]),
        (json!({ "olderThanHours": 40 }), vec!["devices/43"]),
        (json!({ "newerThanHours": 40 }), vec!["devices/42", "other"]),
        (json!({ "ids": ["message-2", id("devices/42")] }), vec!["devices/42", "other"]),
        (json!({ "ids": ["message-2"], "keyPrefix": "devices/" }), vec![]),
    ] {
        let stack = Stack::with([
            letter("devices/42"),
            letter("devices/43").sent("2026-11-18T15:00:00Z"),
            letter("other"),
        ]);
        let report = redrive(&stack, &request).await.expect("a report");
        assert_eq!(stack.keys(), selected, "{request}");
        assert_eq!(report.filtered + report.too_new, 3 - selected.len() as u64);
        assert_eq!(stack.dead().visible(), 3 - selected.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_the_classes_and_names_the_first_objects() {
    let letters = (0..20).map(|n| {
        let letter = letter(&format!("k{n:02}"));
        match n {
            7 => letter.class("E").sent("2026-11-17T02:10:00Z"),
            0..12 => letter.class("E"),
            12..15 => letter.class("NotJson"),
            _ => letter,
        }
    });
    let stack = Stack::with(letters);
    let report = redrive(&stack, &json!({ "dryRun": true })).await.expect("a report");
    let classes = [("E", 12), ("NotJson", 3), ("none", 5)];
    let classes = classes.map(|(class, count)| (class.to_owned(), count));
    assert_eq!(report.classes, classes.into());
    assert_eq!(report.oldest["E"].to_string(), "2026-11-17T02:10:00Z");
    assert!(report.oldest["NotJson"] > report.oldest["E"]);
    assert_eq!(report.first_keys.len(), 5);
    assert_eq!(report.summary, "17 would be redriven, 3 would be archived");
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_names_no_more_classes_than_a_person_reads() {
    let letters = (0..120).map(|n| letter(&format!("k{n}")).class(&format!("E{:02}", n % 60)));
    let stack = Stack::fifo(letters);
    let report = redrive(&stack, &json!({ "dryRun": true })).await.expect("a report");
    let named = (0..50).map(|n| (format!("E{n:02}"), 2));
    assert_eq!(report.classes, named.chain([("other".to_owned(), 20)]).collect());
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_the_classes_of_what_it_selects() {
    let new = letter("devices/2").class("New").sent("2026-11-20T20:59:00Z");
    let other = letter("other").class("NotJson");
    let stack = Stack::with([letter("devices/1").class("E"), other, new]);
    let request = json!({ "dryRun": true, "keyPrefix": "devices/", "olderThanHours": 1 });
    let report = redrive(&stack, &request).await.expect("a report");
    assert_eq!(report.classes, [("E".to_owned(), 1)].into());
}

#[tokio::test(start_paused = true)]
async fn an_error_class_that_no_letter_has_is_named_beside_those_that_there_are() {
    let stack = Stack::with((0..16).map(|n| letter(&format!("k{n}")).class("NotJson")));
    let report = redrive(&stack, &json!({ "errorClass": "NotJsn" })).await.expect("a report");
    assert_eq!(report.filtered, 16);
    let hint = "no letter has the error class `NotJsn`, seen were: NotJson (16)";
    assert!(report.summary.contains(hint), "{}", report.summary);
}

#[tokio::test(start_paused = true)]
async fn only_a_complete_run_of_the_rule_counts_as_a_nightly_run() {
    let published = |stack: &Stack, name: &str, value: u64| {
        stack.metrics.read().iter().any(|line| line[name] == value)
    };
    let stack = many(1_000);
    assert!(nightly(&stack).await.nightly);
    assert!(published(&stack, "NightlyRun", 1));

    let by_hand = many(10);
    assert!(!redrive(&by_hand, &json!({})).await.expect("a report").nightly);
    assert!(published(&by_hand, "Complete", 1));
    assert!(!published(&by_hand, "NightlyRun", 1));

    let cut_short = many(1_000).at_most_per_second(1);
    assert!(!nightly(&cut_short).await.complete);
    assert!(published(&cut_short, "Complete", 0));
    assert!(!published(&cut_short, "NightlyRun", 1));
}
