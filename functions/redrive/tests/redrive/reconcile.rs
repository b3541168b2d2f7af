//! The ledger: what was written to the bucket, against what became of it.

use messages::EventId;
use proptest::prelude::*;
use redrive::{Ledger, Missing};
use testing::Object;

use super::*;

/// Writes were made at 21:00 on 20 November; this is some days later.
const LATER: &str = "2026-11-23T22:00:00Z";

impl Stack {
    /// Has a version of each of these keys in its bucket, written now.
    fn writes(&self, keys: &[&str]) {
        for key in keys {
            self.aws.s3().has(UPLOADS, Object::new(key, b"{}").version("v1"));
        }
    }

    fn execution(&self, name: &str, ended: Option<Status>) {
        let started = self.aws.now();
        let execution = Execution::new(name, "{}", started);
        self.aws.step_functions().has(match ended {
            Some(status) => execution.ended(started, status),
            None => execution,
        });
    }

    /// The messages of the work queue, in the order of their keys.
    fn events(&self) -> Vec<Value> {
        let messages = self.work().messages();
        let mut events: Vec<Value> = messages
            .iter()
            .map(|message| serde_json::from_str(&message.body).expect("JSON"))
            .collect();
        events.sort_by_key(|event| event["data"]["key"].as_str().map(str::to_owned));
        events
    }
}

fn id_of(key: &str) -> String {
    EventId::of_write(UPLOADS, key, "v1").to_string()
}

/// A stack with a bucket, and the time when the ledger is made.
fn stack() -> Stack {
    let stack = Stack::with([]);
    stack.aws.s3().has_bucket(UPLOADS);
    stack
}

async fn reconcile(stack: &Stack, mut request: Value) -> Ledger {
    request["mode"] = json!("reconcile");
    ledger(invoke(stack, &request).await.expect("a ledger"))
}

fn ledger(answer: Answer) -> Ledger {
    match answer {
        Answer::Ledger(ledger) => *ledger,
        other => panic!("{other:?}"),
    }
}

async fn refusal(stack: &Stack, mut request: Value) -> String {
    request["mode"] = json!("reconcile");
    invoke(stack, &request).await.expect_err("an error").to_string()
}

fn missing(keys: &[&str]) -> Vec<Missing> {
    let missing =
        |key: &&str| Missing { key: (*key).to_owned(), version_id: Some("v1".to_owned()) };
    keys.iter().map(missing).collect()
}

/// A letter about this event, or about its failed execution.
fn letter_about(key: &str, failed: Option<&str>) -> Message {
    let mut event = message(key);
    event["id"] = json!(id_of(key));
    event["data"]["versionId"] = json!("v1");
    match failed {
        None => letter_of(&event.to_string()),
        Some(name) => {
            let execution = json!({ "name": name, "error": "E", "cause": "C" });
            letter_of(&json!({ "failedExecution": execution, "event": event }).to_string())
        }
    }
}

#[tokio::test(start_paused = true)]
async fn every_write_has_one_end_and_what_has_none_is_put_on_the_work_queue() {
    let stack = stack();
    let keys =
        ["aborted", "archived", "dead", "failed", "lost", "running", "succeeded", "unlettered"];
    stack.writes(&keys);
    stack.execution(&id_of("succeeded"), Some(Status::Succeeded));
    stack.execution(&id_of("running"), None);
    stack.execution(&id_of("aborted"), Some(Status::Aborted));
    stack.execution(&id_of("failed"), Some(Status::Failed));
    stack.execution(&id_of("unlettered"), Some(Status::TimedOut));
    stack.execution(&format!("{}-r1", id_of("unlettered")), Some(Status::Failed));
    stack.execution("somebody-elses", Some(Status::Failed));
    stack.dead().has(letter_about("archived", None).class("NotJson"));
    redrive(&stack, &json!({})).await.expect("a run");
    stack.dead().has(letter_about("dead", None));
    stack.dead().has(letter_about("failed", Some(&id_of("failed"))));
    stack.reaches(LATER.parse().expect("a time")).await;

    let found = reconcile(&stack, json!({})).await;
    assert_eq!(found.first_missing, missing(&["lost", "unlettered"]));
    assert!(!found.closed && found.complete, "{found:?}");
    assert_eq!(
        found.summary,
        "8 written, 1 succeeded, 1 running, 1 failed and on their way back, 1 dead letters, not \
         started yet, 1 archived, 1 ended by a person, 2 missing"
    );
    assert_eq!((found.missing, found.fixed, stack.events().len()), (2, 0, 0));
    // The letters are where they were.
    assert_eq!(stack.left().len(), 2);
    assert_eq!(stack.dead().visible(), 2);

    let fixed = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((fixed.missing, fixed.fixed), (2, 2));
    let [lost, unlettered] = stack.events().try_into().expect("two");
    assert_eq!(lost["id"], id_of("lost"));
    assert_eq!(lost["time"], "2026-11-20T21:00:00Z");
    assert_eq!(lost["type"], "com.amazonaws.s3.ObjectCreated:Put");
    assert_eq!(lost["attempt"], Value::Null);
    assert_eq!(lost["data"]["sequencer"], Value::Null);
    assert_eq!(lost["data"]["size"], 2);
    assert_eq!(
        (&unlettered["id"], &unlettered["attempt"]),
        (&json!(id_of("unlettered")), &json!(2))
    );

    stack.work().is_consumed_after(Duration::from_secs(1));
    sleep(Duration::from_mins(1)).await;
    assert_eq!(stack.work().messages(), []);
    let next = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((next.missing, next.succeeded, next.closed), (0, 3, true));
}

/// One that ran for days is listed before those that it outlived, if executions count from their end.
#[tokio::test(start_paused = true)]
async fn executions_are_listed_up_to_the_window_whichever_of_their_times_a_listing_follows() {
    for lists_by_end in [true, false] {
        let stack = stack();
        stack.aws.s3().lists_at_once(1);
        if lists_by_end {
            stack.aws.step_functions().lists_by_end();
        }
        let written = stack.aws.now();
        let days = |days: i64| (24 * days).hours();
        stack.writes(&["first", "second"]);
        for (name, started, ended) in [
            ("outlives", written - days(2), written + days(1)),
            (&*id_of("first"), written, written),
            (&*id_of("second"), written, written),
            ("older", written - days(3), written - days(3)),
            ("oldest", written - days(4), written - days(4)),
        ] {
            let execution = Execution::new(name, "{}", started).ended(ended, Status::Succeeded);
            stack.aws.step_functions().has(execution);
        }
        stack.reaches(LATER.parse().expect("a time")).await;
        let ledger = reconcile(&stack, json!({ "since": written.to_string() })).await;
        assert_eq!((ledger.succeeded, ledger.missing), (2, 0), "{lists_by_end}");
        // And no further than the first that was over before the window.
        assert_eq!(stack.aws.count("ListExecutions"), 4, "{lists_by_end}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_id_of_a_listed_version_is_that_of_its_notification() {
    let stack = stack();
    let keys = ["a b+c%2B.json", "%25", "devices/42/상태 1.json", "x\u{1}y", "<&>\"", "a/b//c"];
    stack.writes(&keys);
    for key in keys {
        let mut notification = testing::notification(key);
        notification["Records"][0]["s3"]["object"]["versionId"] = json!("v1");
        let event = messages::decode(&notification.to_string()).remove(0).expect("an event");
        assert_eq!(event.id.as_str(), id_of(key), "{key}");
        stack.execution(event.id.as_str(), Some(Status::Succeeded));
    }
    stack.reaches(LATER.parse().expect("a time")).await;
    let ledger = reconcile(&stack, json!({})).await;
    assert_eq!((ledger.versions, ledger.succeeded, ledger.closed), (6, 6, true));
}

#[tokio::test(start_paused = true)]
async fn young_writes_may_be_on_the_queue_as_long_as_it_holds_enough_messages() {
    let stack = stack();
    stack.writes(&["a", "b"]);
    sleep(Duration::from_hours(2)).await;
    stack.work().has(Message::new("{}"));
    let ledger = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((ledger.missing, ledger.waiting, ledger.fixed), (2, 0, 2), "two, and one message");

    let stack = self::stack();
    stack.writes(&["a", "b"]);
    sleep(Duration::from_hours(2)).await;
    stack.work().has(Message::new("{}"));
    stack.work().has(Message::new("{}"));
    let ledger = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((ledger.missing, ledger.waiting, ledger.fixed), (0, 2, 0));
    assert!(!ledger.closed);
    sleep(Duration::from_hours(23)).await;
    let ledger = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((ledger.missing, ledger.fixed), (2, 2), "for too long");
}

#[tokio::test(start_paused = true)]
async fn writes_of_the_last_hour_are_left_alone() {
    let stack = stack();
    stack.writes(&["old"]);
    sleep(Duration::from_mins(45)).await;
    stack.writes(&["young"]);
    sleep(Duration::from_mins(20)).await;
    assert_eq!(reconcile(&stack, json!({})).await.versions, 1);
    let now = stack.aws.now().to_string();
    assert_eq!(reconcile(&stack, json!({ "until": now })).await.versions, 2);
}

#[tokio::test(start_paused = true)]
async fn what_nobody_can_know_is_said() {
    let stack = stack();
    stack.aws.s3().has(UPLOADS, Object::new("unversioned", b"{}"));
    stack.writes(&["ancient"]);
    sleep(Duration::from_hours(2 * 24)).await;
    stack.writes(&["old"]);
    sleep(Duration::from_hours(89 * 24)).await;
    let since = json!({ "since": "2026-01-01T00:00:00Z" });
    let ledger = reconcile(&stack, since).await;
    assert_eq!((ledger.unknown, ledger.without_version, ledger.forgotten), (2, 1, 1));
    assert!(!ledger.closed && ledger.summary.contains("turn versioning on"), "{}", ledger.summary);
    assert!(ledger.summary.contains("90 days"), "{}", ledger.summary);
    let all = json!({ "since": "2026-01-01T00:00:00Z", "startForgotten": true, "fix": true });
    let ledger = reconcile(&stack, all).await;
    assert_eq!((ledger.unknown, ledger.missing, ledger.fixed), (1, 2, 2));
    assert_eq!(stack.events()[0]["data"]["key"], "ancient");

    stack.writes(&["new"]);
    sleep(Duration::from_hours(2)).await;
    stack.aws.when("ListExecutions").fails("StateMachineTypeNotSupported");
    let error = refusal(&stack, json!({})).await;
    assert!(error.contains("EXPRESS state machine cannot be listed"), "{error}");
}

/// A stack in which none of so many writes was started.
async fn many(count: usize) -> Stack {
    let stack = stack();
    let keys: Vec<String> = (0..count).map(|n| format!("k{n:05}")).collect();
    stack.writes(&keys.iter().map(String::as_str).collect::<Vec<_>>());
    stack.reaches(LATER.parse().expect("a time")).await;
    stack
}

#[tokio::test(start_paused = true)]
async fn a_run_that_meets_its_deadline_says_where_it_stopped_and_the_next_one_goes_on() {
    let stack = many(2_500).await;
    for n in 0..2_000 {
        stack.execution(&id_of(&format!("k{n:05}")), Some(Status::Succeeded));
    }
    let mut request = json!({ "mode": "reconcile", "fix": true, "maxPerSecond": 10 });
    let mut runs = 0;
    let last = loop {
        // Some calls, and then the deadline.
        let answer = invoke_for(&stack, &request, Duration::from_secs(20)).await;
        let found = ledger(answer.expect("a ledger"));
        runs += 1;
        match &found.next {
            Some(next) => {
                assert!(!found.complete && !found.closed);
                request = json!({ "mode": "reconcile", "next": next });
            }
            None => break found,
        }
    };
    assert!(runs > 2, "{runs} runs");
    assert_eq!((last.versions, last.succeeded, last.missing, last.fixed), (2_500, 2_000, 500, 500));
    let events = stack.events();
    let mut keys: Vec<_> = events.iter().map(|event| event["data"]["key"].clone()).collect();
    keys.dedup();
    assert_eq!((events.len(), keys.len()), (500, 500), "each once");
}

#[tokio::test(start_paused = true)]
async fn a_bucket_that_does_not_fit_into_memory_is_compared_part_by_part() {
    let mut stack = many(3_500).await;
    stack.config.most_entries = 1_000;
    for n in (0..3_500).step_by(2) {
        stack.execution(&id_of(&format!("k{n:05}")), Some(Status::Succeeded));
    }
    let ledger = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((ledger.versions, ledger.succeeded), (3_500, 1_750));
    assert_eq!((ledger.missing, ledger.fixed, stack.events().len()), (1_750, 1_750, 1_750));
    let summary = "3500 written, 1750 succeeded, 1750 missing, 1750 of them put on the work queue";
    assert_eq!(ledger.summary, summary);
    assert!(stack.aws.count("ListExecutions") >= 4 * 2);
}

/// Every version is looked at once and put on the work queue once: whatever the keys are, wherever
/// the listing is cut, and wherever a run has to stop.
async fn each_once(versions: BTreeMap<String, usize>, page: usize, most_entries: usize, rate: u32) {
    let mut stack = stack();
    stack.config.most_entries = most_entries;
    stack.aws.s3().lists_at_once(page);
    let mut written = Vec::new();
    for (key, versions) in &versions {
        for version in 0..*versions {
            let version = format!("v{version}");
            stack.aws.s3().has(UPLOADS, Object::new(key, b"{}").version(&version));
            written.push(EventId::of_write(UPLOADS, key, &version).to_string());
        }
    }
    stack.reaches(LATER.parse().expect("a time")).await;
    // Two or three rounds of the listing, and a run has to stop.
    stack.aws.answers_within(Duration::from_secs(1)..=Duration::from_secs(4));
    let mut request = json!({ "mode": "reconcile", "fix": true, "maxPerSecond": rate });
    let last = loop {
        let found =
            ledger(invoke_for(&stack, &request, Duration::from_secs(20)).await.expect("one"));
        let Some(next) = found.next else { break found };
        request = json!({ "mode": "reconcile", "next": next });
    };
    let count = written.len() as u64;
    assert_eq!((last.versions, last.missing, last.fixed), (count, count, count));
    let mut started: Vec<String> = stack
        .events()
        .iter()
        .map(|event| event["id"].as_str().expect("an id").to_owned())
        .collect();
    started.sort();
    written.sort();
    assert_eq!(started, written);
}

/// Keys of odd characters, and those at which the listing is likely to be cut.
fn keys() -> impl Strategy<Value = String> {
    let odd = ["a", "/", "0", " ", "%", "+", "\u{1}", "\x7f", "상", "\u{10ffff}"];
    let odd = prop::collection::vec(prop::sample::select(odd.to_vec()), 1..5);
    prop_oneof![odd.prop_map(|characters| characters.concat()), "[a-h]{1,2}"]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(16))]

    #[test]
    fn every_version_is_listed_once_wherever_the_listing_is_cut(
        versions in prop::collection::btree_map(keys(), 1_usize..4, 1..30),
        page in 1_usize..6,
        most_entries in 10_usize..60,
        rate in 2_u32..50,
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_time()
            .start_paused(true)
            .build()
            .expect("runtime");
        runtime.block_on(each_once(versions, page, most_entries, rate));
    }
}

#[tokio::test(start_paused = true)]
async fn the_schedule_makes_one_ledger_a_night_whatever_number_of_runs_it_takes() {
    let stack = many(1_500).await;
    stack.writes(&["young"]);
    let nightly = json!({ "mode": "reconcile", "nightly": true, "fix": true, "maxPerSecond": 50 });
    let first = ledger(invoke_for(&stack, &nightly, Duration::from_secs(25)).await.expect("one"));
    assert!(!first.complete);
    assert_eq!(stack.metrics.read(), Vec::<Value>::new());
    let second = ledger(invoke(&stack, &nightly).await.expect("one"));
    assert_eq!((second.missing, second.fixed, second.complete), (1_500, 1_500, true));
    let third = ledger(invoke(&stack, &nightly).await.expect("one"));
    assert_eq!(third, second, "tonight's is made");
    assert_eq!(stack.events().len(), 1_500);
    let [metrics] = stack.metrics.read().try_into().expect("one line");
    assert_eq!((&metrics["Missing"], &metrics["NightlyLedger"]), (&json!(1_500), &json!(1)));
    let document = stack.aws.s3().object(ARCHIVE, "ledger/date=2026-11-24.json").expect("a ledger");
    assert_eq!(document.json()["missing"], 1_500);

    stack.work().is_consumed_after(Duration::from_secs(1));
    sleep(Duration::from_hours(24)).await;
    let next_night = ledger(invoke(&stack, &nightly).await.expect("one"));
    assert_eq!((next_night.succeeded, next_night.missing), (1_500, 1), "and the young one");
}

/// A deployment in the night may have changed how it is saved.
#[tokio::test(start_paused = true)]
async fn a_ledger_that_another_version_has_begun_begins_anew() {
    let stack = many(3).await;
    let saved = br#"{"begin":{"key":null},"phase":{"writes":{"key":"a"}}}"#;
    let progress = Object::new("ledger/date=2026-11-24.progress", saved);
    stack.aws.s3().has(ARCHIVE, progress);
    let nightly = json!({ "mode": "reconcile", "nightly": true, "fix": true });
    let made = ledger(invoke(&stack, &nightly).await.expect("one"));
    assert_eq!((made.missing, made.fixed, made.complete), (3, 3, true));
}

#[tokio::test(start_paused = true)]
async fn a_document_is_no_end_of_what_was_sent_again() {
    let stack = stack();
    stack.writes(&["restored"]);
    stack.dead().has(letter_about("restored", None).class("NotJson"));
    redrive(&stack, &json!({})).await.expect("a run");
    restore(&stack).await;
    stack.reaches(LATER.parse().expect("a time")).await;
    assert_eq!(stack.work().messages().len(), 1);
    stack.work().is_purged();
    let ledger = reconcile(&stack, json!({})).await;
    assert_eq!((ledger.archived, ledger.missing), (0, 1), "{ledger:?}");
    // No document from before the window, which is a week, is about one of its writes.
    let listing = stack.aws.calls_of("ListObjectsV2").pop().expect("a listing");
    assert_eq!(listing["StartAfter"], "dead-letters/date=2026-11-17");
}

#[tokio::test(start_paused = true)]
async fn a_ledger_reads_all_documents_and_only_if_it_has_to() {
    let stack = stack();
    let keys = ["a", "b", "c"];
    stack.writes(&keys);
    for key in keys {
        stack.dead().has(letter_about(key, None).class("NotJson"));
    }
    redrive(&stack, &json!({})).await.expect("a run");
    stack.reaches(LATER.parse().expect("a time")).await;
    stack.aws.s3().lists_at_once(1);
    let ledger = reconcile(&stack, json!({})).await;
    assert_eq!((ledger.archived, ledger.closed), (3, true));

    let read = stack.aws.count("GetObject");
    for key in keys {
        stack.execution(&id_of(key), Some(Status::Succeeded));
    }
    let ledger = reconcile(&stack, json!({})).await;
    assert_eq!((ledger.succeeded, stack.aws.count("GetObject")), (3, read));
}

#[tokio::test(start_paused = true)]
async fn only_what_s3_notifies_of_is_an_upload() {
    let stack = stack();
    stack.writes(&["in/a.json", "in/a.txt", "out/a.json"]);
    stack.aws.s3().has(UPLOADS, Object::new("in/large.json", &[b' '; 100]).version("v1"));
    stack.reaches(LATER.parse().expect("a time")).await;
    let mut redriver = stack.redriver();
    let uploads = redriver.uploads.as_mut().expect("uploads");
    uploads.key_prefix = "in/".to_owned();
    uploads.key_suffix = ".json".to_owned();
    uploads.max_bytes = Some(99);
    let deadline = Deadline::at(Instant::now() + Duration::from_mins(15));
    let answer = redriver.handle(r#"{"mode": "reconcile"}"#, deadline, stack.aws.now()).await;
    assert_eq!(ledger(answer.expect("a ledger")).first_missing, missing(&["in/a.json"]));
    let listings = stack.aws.calls_of("ListObjectVersions");
    assert!(listings.iter().all(|listing| listing["Prefix"] == "in/"), "{listings:?}");

    let only = reconcile(&stack, json!({ "prefix": "in/" })).await;
    assert_eq!(only.versions, 3);
}

#[tokio::test(start_paused = true)]
async fn letters_that_are_not_shown_may_be_about_what_has_no_end() {
    for is_refused in [false, true] {
        let stack = stack();
        stack.writes(&["a"]);
        stack.dead().has_in_flight_elsewhere(1);
        if is_refused {
            stack.dead().when("ReceiveMessage").fails("OverLimit");
        }
        sleep(Duration::from_hours(2)).await;
        let ledger = reconcile(&stack, json!({})).await;
        assert_eq!((ledger.dead_letters, ledger.waiting, ledger.missing), (0, 1, 0));
    }
}

#[tokio::test(start_paused = true)]
async fn what_the_services_refuse_for_a_while_is_asked_again() {
    let stack = many(3).await;
    for call in [
        "ListObjectVersions",
        "ListExecutions",
        "ListObjectsV2",
        "ReceiveMessage",
        "GetQueueAttributes",
    ] {
        stack.aws.when(call).times(7).fails("ThrottlingException");
    }
    let ledger = reconcile(&stack, json!({ "fix": true })).await;
    assert_eq!((ledger.missing, ledger.fixed), (3, 3));

    stack.writes(&["unknown"]);
    sleep(Duration::from_hours(2)).await;
    for call in ["ReceiveMessage", "ListObjectVersions"] {
        stack.aws.when(call).fails("AccessDenied");
        let error = refusal(&stack, json!({})).await;
        assert!(error.contains("AccessDenied"), "{call}: {error}");
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_has_the_ledger_and_warns_of_what_is_missing() {
    const SINCE: &str = "2026-11-20T00:00:00Z";
    let stack = many(1).await;
    for (fix, level, message, missing) in [
        (false, "WARN", "reconcile found writes missing", 1),
        (true, "WARN", "reconcile found writes missing", 1),
        (true, "INFO", "reconcile done", 0),
    ] {
        let until = stack.aws.now().to_string();
        let request = json!({ "mode": "reconcile", "fix": fix, "since": SINCE, "until": until });
        let time = Duration::from_mins(5);
        let (_, lines) = invoke_and_read_log(&stack, &request, time).await;
        let line = lines.iter().find(|line| line["message"] == message).expect("a line");
        assert_eq!(line["level"], level);
        let logged = line["ledger"].as_str().expect("a ledger");
        let logged: Value = serde_json::from_str(logged).expect("JSON");
        assert_eq!(logged["missing"], missing);
        assert_eq!((&logged["mode"], &logged["since"]), (&json!("reconcile"), &json!(SINCE)));
        assert_eq!(logged["until"], until);
        stack.work().is_consumed_after(Duration::ZERO);
        sleep(Duration::from_mins(1)).await;
    }
}

#[tokio::test(start_paused = true)]
async fn the_log_and_the_answer_name_the_first_of_many_missing_writes() {
    let stack = many(1_001).await;
    let request = json!({ "mode": "reconcile" });
    let (answer, lines) = invoke_and_read_log(&stack, &request, Duration::from_mins(15)).await;
    let found = ledger(answer.expect("a ledger"));
    assert_eq!((found.missing, found.first_missing.len()), (1_001, 20));
    assert_eq!(found.summary, "1001 written, 1001 missing");
    let message = "a write is missing: it has no execution, no dead letter and no document";
    assert_eq!(lines.iter().filter(|line| line["message"] == message).count(), 1_000);
}

#[tokio::test(start_paused = true)]
async fn a_request_that_makes_no_sense_is_refused() {
    let stack = stack();
    for (request, problem) in [
        (json!({ "dryRun": true }), "`dryRun`: has no effect in mode `reconcile`"),
        (json!({ "next": "ledger/x", "fix": true }), "`fix`: has no effect beside `next`"),
        (json!({ "next": "dead-letters/x" }), "`next`: expected the `next` of a run"),
        (json!({ "next": "ledger/x" }), "`next`: no run has stopped at ledger/x"),
        (json!({ "until": "2027-01-01T00:00:00Z" }), "`until`: expected a time that has passed"),
        (
            json!({ "since": "2026-11-02T00:00:00Z", "until": "2026-11-01T00:00:00Z" }),
            "`since`: expected a time before `until`",
        ),
        (json!({ "since": "yesterday" }), "`since`: "),
    ] {
        let error = refusal(&stack, request.clone()).await;
        assert!(error.contains(problem), "{request}: {error}");
    }
    let error = invoke(&stack, &json!({ "fix": true })).await.expect_err("an error").to_string();
    assert!(error.contains("`fix`: has no effect in mode `selective`"), "{error}");
}
