//! SQS deletes a letter 14 days after its first send: nothing may be in the queue by then.

use aws_sdk_sfn::types::ExecutionStatus;

use super::*;

/// What SQS deletes by then, because its retention is over.
fn expire(fake: &Fake, at: Timestamp) -> usize {
    let mut state = fake.state();
    let before = state.letters.len();
    state.letters.retain(|letter| letter.sent.checked_add((14 * 24).hours()).expect("time") > at);
    before - state.letters.len()
}

/// So many nights. Returns how many letters were archived as expiring.
async fn nights(fake: &Fake, count: i64) -> u64 {
    let mut expiring = 0;
    for n in 0..count {
        assert_eq!(expire(fake, night(n)), 0, "lost in night {n}");
        expiring += nightly_at(fake, night(n)).await.archived.get("Expiring").unwrap_or(&0);
        a_day().await;
    }
    expiring
}

#[tokio::test(start_paused = true)]
async fn a_cause_that_lasts_loses_nothing() {
    let mut fake = Fake::with((0..100).map(|n| letter(&format!("k{n:03}"))));
    let mut expiring = 0;
    for n in 0..20 {
        assert_eq!(expire(&fake, night(n)), 0, "lost in night {n}");
        fake = fake.canaries(3, night(n), ExecutionStatus::Failed);
        let report = nightly_at(&fake, night(n)).await;
        expiring += report.archived.get("Expiring").unwrap_or(&0);
        // The failed executions come back.
        let failed = fake.work();
        fake.state().work.clear();
        for event in failed {
            let id = event["id"].as_str().expect("id");
            let name = match event["attempt"].as_u64() {
                None => id.to_owned(),
                Some(attempt) => format!("{id}-r{attempt}"),
            };
            let body = json!({ "failedExecution": { "name": name }, "event": event }).to_string();
            let mut back = Letter::new(&body).sent(&night(n).to_string()).text("errorClass", "E");
            back.id = format!("back-{n}-{id}");
            fake.state().letters.push(back);
        }
        a_day().await;
    }
    assert!(expiring > 0);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_is_always_refused_is_archived_before_it_expires() {
    let fake = Fake::with([letter("refused-for-ever"), letter("b")]);
    fake.state().refused = Some("refused-for-ever".to_owned());
    assert_eq!(nights(&fake, 15).await, 1);
    let state = fake.state();
    let document = state.archive.values().next().expect("archived");
    assert_eq!(document["class"], "Expiring");
    let message = document["message"].as_str().expect("a message");
    assert!(message.starts_with("SQS would delete it at 2026-12-04T14:59:59.999Z"), "{message}");
    assert!(message.contains("InternalError"), "{message}");
    assert_eq!(document["events"][0]["data"]["key"], "refused-for-ever");
}

#[tokio::test(start_paused = true)]
async fn a_letter_whose_input_can_never_be_read_is_archived_before_it_expires() {
    let sample = sample("step-functions-status-timed-out-without-input.json");
    let fake = Fake::with([Letter::new(&sample)]);
    fake.state().broken.push("describe");
    assert_eq!(nights(&fake, 15).await, 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_run_does_not_come_to_is_swept_however_it_stops() {
    let old = || (0..40).map(|n| letter(&format!("k{n:02}")).sent("2026-11-07T23:00:00Z"));
    // The cap, the deadline, a filter, and a time before which nothing was enqueued.
    for request in [
        json!({ "maxMessages": 5 }),
        json!({ "maxPerSecond": 1 }),
        json!({ "errorClass": "E" }),
        json!({ "before": "2026-11-01T00:00:00Z" }),
    ] {
        let fake = Fake::with(old());
        let deadline = Deadline::at(Instant::now() + Duration::from_secs(40));
        let answer = fake.redriver().handle(&request.to_string(), deadline, now()).await;
        let report = report(answer.expect("a report"));
        let expiring = report.archived.get("Expiring").copied().unwrap_or_default();
        assert_eq!(report.redriven + expiring, 40, "{request}: {report:?}");
        assert!(fake.left().is_empty() && expiring > 0, "{request}: {report:?}");
        assert_eq!(fake.state().archive.len() as u64, expiring);
    }
}

#[tokio::test(start_paused = true)]
async fn a_dry_run_says_what_expires_and_leaves_it() {
    let fake = Fake::with([letter("k").sent("2026-11-07T23:00:00Z"), letter("new")]);
    let request = json!({ "dryRun": true, "errorClass": "E" });
    let report = redrive(&fake, &request).await.expect("a report");
    assert_eq!(report.archived, [("Expiring".to_owned(), 1)].into());
    assert!(fake.state().archive.is_empty());
    assert_eq!(fake.left().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn what_expires_and_cannot_be_archived_stays_and_is_a_failure() {
    let fake = Fake::with([letter("k").sent("2026-11-07T23:00:00Z")]);
    fake.state().broken.push("put");
    let report = redrive(&fake, &json!({ "errorClass": "E" })).await.expect("a report");
    assert_eq!((report.failed, fake.left().len()), (1, 1));
}

#[tokio::test(start_paused = true)]
async fn the_age_of_the_oldest_letter_that_stays_is_reported() {
    let stays = letter("stays").sent("2026-11-18T21:00:00Z");
    let fake = Fake::with([letter("goes").sent("2026-11-17T21:00:00Z"), stays]);
    fake.state().refused = Some("stays".to_owned());
    let report = nightly(&fake).await;
    assert_eq!((report.oldest_left_seconds, report.complete), (Some(2 * 86_400), true));
    fake.state().refused = None;
    let report = nightly(&fake).await;
    assert_eq!((report.oldest_left_seconds, report.complete), (Some(0), true));

    let many = Fake::with((0..1_000).map(|n| letter(&format!("k{n:04}"))));
    let deadline = Deadline::at(Instant::now() + Duration::from_secs(30));
    let answer = many.redriver().handle(r#"{ "maxPerSecond": 10 }"#, deadline, now()).await;
    let report = self::report(answer.expect("a report"));
    assert_eq!((report.stopped, report.complete), (Stopped::Deadline, false));
    assert_eq!(report.oldest_left_seconds, Some(6 * 3_600));
}
