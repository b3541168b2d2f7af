use super::*;

fn many(count: usize) -> Fake {
    Fake::with((0..count).map(|n| letter(&format!("k{n:05}"))))
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_it_would_do_and_does_nothing() {
    let fake = Fake::with([letter("a"), letter("b").text("errorClass", "NotJson")]);
    let report = redrive(&fake, &json!({ "dryRun": true })).await.expect("a report");
    assert!(report.dry_run);
    assert_eq!((report.redriven, report.released, report.left), (1, 2, Some(2)));
    assert!(report.moved_nothing);
    assert_eq!(report.archived, [("NotJson".to_owned(), 1)].into());
    assert_eq!(fake.visible(), 2);
    let state = fake.state();
    assert!(state.work.is_empty() && state.archive.is_empty());
    assert!(!state.calls.contains_key("delete"));
}

#[tokio::test(start_paused = true)]
async fn no_more_than_max_messages_are_moved() {
    let fake = many(100);
    let report = redrive(&fake, &json!({ "maxMessages": 25 })).await.expect("a report");
    assert_eq!((report.redriven, report.stopped), (25, Stopped::MaxMessages));
    assert_eq!((fake.work().len(), fake.visible()), (25, 75));
}

#[tokio::test(start_paused = true)]
async fn the_rate_holds_over_the_whole_run() {
    let fake = many(100);
    let begin = Instant::now();
    let report = redrive(&fake, &json!({ "maxPerSecond": 5 })).await.expect("a report");
    assert_eq!(report.redriven, 100);
    // The last ten wait for the ninety before them.
    assert_eq!(begin.elapsed().as_secs(), 18);
}

#[tokio::test(start_paused = true)]
async fn a_run_stops_before_its_deadline_and_the_next_goes_on() {
    let fake = many(1_000);
    let deadline = || Deadline::at(Instant::now() + Duration::from_secs(30));
    let request = json!({ "maxPerSecond": 10 }).to_string();
    let answer = fake.redriver().handle(&request, deadline(), now()).await;
    let report = report(answer.expect("a report"));
    assert_eq!(report.stopped, Stopped::Deadline);
    assert!((150..=200).contains(&report.redriven), "{}", report.redriven);
    assert_eq!(report.left, Some(1_000 - report.redriven));
    // What was received and not tried is visible for the next run.
    assert_eq!(fake.visible() as u64, 1_000 - report.redriven);
    assert_eq!(report.seen, report.redriven);
    assert_eq!(nightly(&fake).await.redriven, 1_000 - report.redriven);
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn only_the_error_class_that_was_asked_for_is_moved() {
    let fake = Fake::with([letter("a").text("errorClass", "DeferredTooLong"), letter("b")]);
    let report =
        redrive(&fake, &json!({ "errorClass": "DeferredTooLong" })).await.expect("a report");
    assert_eq!((report.redriven, report.filtered), (1, 1));
    assert_eq!(fake.keys(), ["a"]);
    assert_eq!(fake.visible(), 1);
}

#[tokio::test(start_paused = true)]
async fn twenty_thousand_messages_cost_three_tenths_of_a_call_each() {
    const MANY: u32 = 20_000;
    let fake = many(MANY as usize);
    let report = nightly(&fake).await;
    assert_eq!((report.redriven, report.stopped), (MANY.into(), Stopped::Empty));
    assert!(fake.left().is_empty());
    let calls: u32 = fake.state().calls.values().sum();
    assert!(calls * 100 <= MANY * 35, "{:?}", fake.state().calls);
}

#[tokio::test(start_paused = true)]
async fn two_runs_at_once_do_no_harm() {
    let fake = many(300);
    let (one, other) = tokio::join!(nightly(&fake), nightly(&fake));
    assert_eq!(one.redriven + other.redriven, 300);
    assert_eq!(fake.work().len(), 300);
    assert!(fake.left().is_empty());
}

#[tokio::test(start_paused = true)]
async fn letters_are_selected_by_key_by_age_and_by_id() {
    let id = |key: &str| message(key)["id"].clone();
    for (request, selected) in [
        (json!({ "keyPrefix": "devices/4" }), vec!["devices/42", "devices/43"]),
        (json!({ "olderThanHours": 40 }), vec!["devices/43"]),
        (json!({ "newerThanHours": 40 }), vec!["devices/42", "other"]),
        (json!({ "ids": ["message-2", id("devices/42")] }), vec!["devices/42", "other"]),
        (json!({ "ids": ["message-2"], "keyPrefix": "devices/" }), vec![]),
    ] {
        let fake = Fake::with([
            letter("devices/42"),
            letter("devices/43").sent("2026-11-18T15:00:00Z"),
            letter("other"),
        ]);
        let report = redrive(&fake, &request).await.expect("a report");
        assert_eq!(fake.keys(), selected, "{request}");
        assert_eq!(report.filtered + report.too_new, 3 - selected.len() as u64);
        assert_eq!(fake.visible(), 3 - selected.len());
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_counts_the_classes_and_names_the_first_objects() {
    let letters = (0..20).map(|n| letter(&format!("k{n:02}")));
    let letters = letters.enumerate().map(|(n, letter)| match n {
        0..12 => letter.text("errorClass", "E"),
        12..15 => letter.text("errorClass", "NotJson"),
        _ => letter,
    });
    let fake = Fake::with(letters);
    let report = redrive(&fake, &json!({ "dryRun": true })).await.expect("a report");
    let classes = [("E", 12), ("NotJson", 3), ("none", 5)];
    let classes = classes.map(|(class, count)| (class.to_owned(), count));
    assert_eq!(report.classes, classes.into());
    assert_eq!(report.first_keys.len(), 5);
    assert_eq!(report.summary, "17 would be redriven, 3 would be archived");
}

#[tokio::test(start_paused = true)]
async fn an_error_class_that_no_letter_has_is_named_beside_those_that_there_are() {
    let fake = Fake::with((0..16).map(|n| letter(&format!("k{n}")).text("errorClass", "NotJson")));
    let report = redrive(&fake, &json!({ "errorClass": "NotJsn" })).await.expect("a report");
    assert_eq!(report.filtered, 16);
    let hint = "no letter has the error class `NotJsn`, seen were: NotJson (16)";
    assert!(report.summary.contains(hint), "{}", report.summary);
}

#[tokio::test(start_paused = true)]
async fn only_a_complete_run_of_the_rule_counts_as_a_nightly_run() {
    let nightly_run = |fake: &Fake| fake.metrics().contains(r#""NightlyRun":1"#);
    let fake = many(1_000);
    assert!(nightly(&fake).await.nightly);
    assert!(nightly_run(&fake));

    let by_hand = many(10);
    assert!(!redrive(&by_hand, &json!({})).await.expect("a report").nightly);
    assert!(by_hand.metrics().contains(r#""Complete":1"#));
    assert!(!nightly_run(&by_hand));

    let mut cut_short = many(1_000);
    cut_short.max_per_second = Some(1);
    assert!(!nightly(&cut_short).await.complete);
    assert!(cut_short.metrics().contains(r#""Complete":0"#));
    assert!(!nightly_run(&cut_short));
}
