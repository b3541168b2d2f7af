use redrive::Moved;

use super::{
    sorting::{WITHOUT_INPUT, has_execution_without_input},
    *,
};

fn many(count: usize) -> Stack {
    Stack::with((0..count).map(|n| letter(&format!("k{n:04}"))))
}

#[tokio::test(start_paused = true)]
async fn managed_mode_has_sqs_move_all_and_watches() {
    let stack = many(90);
    let request = json!({ "mode": "managed", "maxPerSecond": 7 });
    let answer = invoke(&stack, &request).await.expect("an answer");
    let [task] = stack.dead().move_tasks().try_into().expect("one task");
    assert_eq!(task.destination_arn, stack.work().arn());
    assert_eq!(task.max_per_second, Some(7));
    let moved = Moved {
        task_handle: task.handle,
        status: "COMPLETED".to_owned(),
        moved: 90,
        to_move: Some(90),
        failure_reason: None,
    };
    assert_eq!(answer, Answer::Moved(moved));
    assert_eq!((stack.work().messages().len(), stack.left().len()), (90, 0));
    assert_eq!(stack.aws.count("ReceiveMessage"), 0);
    assert!(stack.aws.count("ListMessageMoveTasks") >= 3);
}

#[tokio::test(start_paused = true)]
async fn managed_mode_answers_before_its_deadline_with_the_handle() {
    let stack = many(1_000);
    let request = json!({ "mode": "managed", "maxPerSecond": 1 });
    let Answer::Moved(moved) = invoke(&stack, &request).await.expect("an answer") else {
        panic!("another mode")
    };
    let handle = &stack.dead().move_tasks()[0].handle;
    assert_eq!((moved.status.as_str(), &moved.task_handle), ("RUNNING", handle));
}

#[tokio::test(start_paused = true)]
async fn managed_mode_says_why_sqs_refuses() {
    let arn = Aws::new().dead_letter_queue().arn();
    let refused = async |stack: &Stack| {
        let answer = invoke_for(stack, &json!({ "mode": "managed" }), Duration::from_secs(1)).await;
        answer.expect_err("an error").to_string()
    };
    let busy = many(1_000);
    let slowly = json!({ "mode": "managed", "maxPerSecond": 1 });
    invoke_for(&busy, &slowly, Duration::from_secs(1)).await.expect("a task");
    let error = refused(&busy).await;
    let sentence = format!("a move task is active already, and {arn} may have one at a time");
    assert!(error.contains(&sentence), "{error}");

    let alone = many(1);
    alone.work().has_no_dead_letter_queue();
    let error = refused(&alone).await;
    assert!(error.contains(&format!("no queue has {arn} as its dead-letter queue")), "{error}");

    let other = many(1);
    let start = other.aws.when("StartMessageMoveTask");
    start.fails_with("InvalidParameterValue", "Something else.");
    let error = refused(&other).await;
    assert!(error.contains("cannot start a move task: "), "{error}");
    assert!(error.contains("Something else."), "{error}");
}

/// The counts of a restore, without what it says of them in words.
fn counts(mut restored: Restored) -> Restored {
    restored.summary.clear();
    restored.problems.clear();
    restored
}

/// Two archived messages: poison, and an event whose executions failed.
async fn archived() -> Stack {
    let mut failed = message("failed");
    failed["attempt"] = json!(5);
    let failed = json!({ "failedExecution": {}, "event": failed }).to_string();
    let poison = letter("poison").class("NotJson").redrives(3);
    let stack = Stack::with([poison, letter_of(&failed), letter_of("hello")]);
    assert_eq!(nightly(&stack).await.archived.values().sum::<u64>(), 3);
    stack
}

#[tokio::test(start_paused = true)]
async fn archived_messages_go_back_with_their_failures_forgiven() {
    let stack = archived().await;
    let request = json!({ "mode": "restore", "prefix": "dead-letters/date=2026-11-20/" });
    let now = stack.aws.now().to_string();
    let answer = invoke(&stack, &request).await.expect("an answer");
    assert_eq!(counts(restored(answer)), Restored { restored: 3, ..Restored::default() });
    let (work, archive) = (stack.work().messages(), stack.archive());
    assert!(work.iter().all(|message| message.attributes.is_empty()));
    assert!(archive.values().all(|document| document["restoredAt"] == now));
    let marks = |body: bool| {
        let marks = archive.values().map(|document| &document["restored"]);
        marks.filter(|mark| mark["body"] == body).cloned().collect::<Vec<_>>()
    };
    let [as_it_came] = marks(true).try_into().expect("one");
    assert_eq!(as_it_came["executions"], json!([]));
    let mut names: Vec<Value> =
        marks(false).iter().map(|mark| mark["executions"].clone()).collect();
    names.sort_by_key(|names| names.to_string().len());
    assert_eq!(names, [json!([id("poison")]), json!([format!("{}-r6", id("failed"))])]);
    assert!(work.iter().any(|message| message.body == "hello"));
    let event = |key: &str| {
        let events = work.iter().filter_map(|sent| serde_json::from_str::<Value>(&sent.body).ok());
        events.into_iter().find(|body| body["data"]["key"] == key).expect("sent")
    };
    assert_eq!(event("poison"), message("poison"));
    assert_eq!((&event("failed")["attempt"], &event("failed")["restored"]), (&json!(6), &json!(6)));
}

#[tokio::test(start_paused = true)]
async fn what_was_restored_is_not_restored_again() {
    let stack = archived().await;
    let key = format!("dead-letters/date=2026-11-20/{}.json", id("poison"));
    let request = json!({ "mode": "restore", "keys": [key, "dead-letters/none.json"] });
    let one = invoke(&stack, &request).await.expect("an answer");
    assert_eq!(counts(restored(one)), Restored { restored: 1, failed: 1, ..Restored::default() });
    let again = invoke(&stack, &request).await.expect("an answer");
    let expected = Restored { restored_before: 1, failed: 1, ..Restored::default() };
    assert_eq!(counts(restored(again)), expected);
    assert_eq!(stack.work().messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_the_work_queue_does_not_confirm_is_not_marked() {
    let stack = archived().await;
    stack.work().rejects_all();
    assert_eq!(counts(restore(&stack).await), Restored { failed: 3, ..Restored::default() });
    assert!(stack.archive().values().all(|document| document.get("restoredAt").is_none()));
}

#[tokio::test(start_paused = true)]
async fn what_cannot_be_decoded_is_not_marked_as_restored() {
    let body = sample("s3-two-records.json");
    let stack = Stack::with([letter_of(&body.replacen("\"2.1\"", "\"3.1\"", 1))]);
    nightly(&stack).await;
    stack.work().is_purged();

    // The second record was redriven when the first was archived.
    let nothing = Restored { nothing_to_send: 1, ..Restored::default() };
    assert_eq!(counts(restore(&stack).await), nothing);
    assert!(stack.archive().values().all(|document| document.get("restored").is_none()));

    // As newer code would decode it.
    stack.edits_archive(|document| document["body"] = json!(body));
    let restored = Restored { restored: 1, ..Restored::default() };
    assert_eq!(counts(restore(&stack).await), restored);
    assert_eq!(stack.keys(), ["devices/42/state 2026-11-20T21:00:00Z.json"]);
    let before = Restored { restored_before: 1, ..Restored::default() };
    assert_eq!(counts(restore(&stack).await), before);
}

#[tokio::test(start_paused = true)]
async fn what_newer_code_decodes_in_part_is_restored_in_part() {
    let body = sample("s3-two-records.json");
    let stack = Stack::with([letter_of(&body.replace("\"2.1\"", "\"3.1\""))]);
    nightly(&stack).await;
    let half = body.replacen("\"2.1\"", "\"3.1\"", 1);
    stack.edits_archive(|document| document["body"] = json!(half));
    let in_part = Restored { restored_in_part: 1, ..Restored::default() };
    assert_eq!(counts(restore(&stack).await), in_part);
    let second = messages::decode(&body).remove(1).expect("decodable");
    let mark = stack.document()["restored"].clone();
    assert_eq!(mark["executions"], json!([second.execution_name()]));
    assert_eq!(mark["body"], false);
    let left = mark["left"][0].as_str().expect("a reason");
    assert!(left.contains("expected version 2.x, found `3.1`"), "{left}");
    // The same code finds no more in it.
    let before = Restored { restored_before: 1, ..Restored::default() };
    assert_eq!(counts(restore(&stack).await), before);
}

#[tokio::test(start_paused = true)]
async fn a_restore_can_be_tried_bounded_and_slowed() {
    let stack = archived().await;
    let restore_with = async |request: Value| {
        let mut whole = whole_archive();
        let fields = whole.as_object_mut().expect("an object");
        fields.extend(request.as_object().expect("an object").clone());
        restored(invoke(&stack, &whole).await.expect("an answer"))
    };
    let dry = restore_with(json!({ "dryRun": true })).await;
    assert_eq!((dry.restored, dry.dry_run), (3, true));
    assert_eq!(dry.summary, "3 would be restored");
    assert!(stack.work().messages().is_empty());
    let one = counts(restore_with(json!({ "maxMessages": 1 })).await);
    assert_eq!(one, Restored { restored: 1, left: 2, ..Restored::default() });
    let begin = Instant::now();
    let slow = counts(restore_with(json!({ "maxPerSecond": 1 })).await);
    assert_eq!((slow.restored, slow.restored_before), (2, 1));
    // The second of the two waits for a second.
    assert_eq!(begin.elapsed().as_secs(), 1, "{:?}", begin.elapsed());
}

#[tokio::test(start_paused = true)]
async fn an_input_that_was_read_when_it_was_archived_is_all_that_there_is_to_restore() {
    let half = sample("s3-two-records.json").replacen("\"2.1\"", "\"3.1\"", 1);
    let whole = Restored { restored: 1, ..Restored::default() };
    let in_part = Restored { restored_in_part: 1, ..Restored::default() };
    for (body, expected) in [(sample(WITHOUT_INPUT), whole), (half, in_part)] {
        let stack = Stack::with([letter_of(&body)]);
        has_execution_without_input(&stack, message("large"));
        redrive(&stack, &json!({ "mode": "archive" })).await.expect("a report");
        assert_eq!(counts(restore(&stack).await), expected, "{body}");
    }
}

/// Twelve archived messages.
async fn archived_dozen() -> Stack {
    let stack = Stack::with((0..12).map(|n| letter(&format!("k{n:02}")).class("NotJson")));
    assert_eq!(nightly(&stack).await.archived["NotJson"], 12);
    stack
}

#[tokio::test(start_paused = true)]
async fn a_restore_without_time_for_all_leaves_the_rest_to_the_next() {
    let stack = archived_dozen().await;
    let mut slowly = whole_archive();
    slowly["maxPerSecond"] = json!(1);
    let one = invoke_for(&stack, &slowly, Duration::from_secs(10)).await.expect("an answer");
    let one = restored(one);
    assert!((1..12).contains(&one.restored), "{one:?}");
    assert_eq!(one.left, 12 - one.restored);
    assert_eq!(stack.work().messages().len() as u64, one.restored);
    let other = restored(invoke(&stack, &slowly).await.expect("an answer"));
    assert_eq!((other.restored, other.restored_before), (one.left, one.restored));
}

#[tokio::test(start_paused = true)]
async fn a_restore_says_what_is_wrong_with_the_first_that_fail() {
    let stack = archived_dozen().await;
    stack.work().rejects_all();
    let restored = restore(&stack).await;
    assert_eq!((restored.failed, restored.problems.len()), (12, 10));
    assert_eq!(restored.summary, "0 restored, 12 failed");
}

#[tokio::test(start_paused = true)]
async fn a_restore_says_what_is_wrong_with_a_key_or_a_prefix() {
    let stack = archived().await;
    for (request, problem) in [
        (json!({ "keys": ["dead-letters/none.json"] }), "has no document with this key"),
        (json!({ "prefix": "dead-letters/date=2025" }), "has no document with this prefix"),
    ] {
        let mut request = request;
        request["mode"] = json!("restore");
        let restored = restored(invoke(&stack, &request).await.expect("an answer"));
        let [found] = restored.problems.as_slice() else { panic!("{restored:?}") };
        assert!(found.problem.contains(problem), "{found:?}");
        assert!(found.key.starts_with("dead-letters/"));
    }
}

#[tokio::test(start_paused = true)]
async fn a_move_task_can_be_asked_for_and_cancelled() {
    let stack = many(10);
    let slowly = json!({ "mode": "managed", "maxPerSecond": 1 });
    invoke_for(&stack, &slowly, Duration::from_secs(1)).await.expect("a task");
    let handle = stack.dead().move_tasks()[0].handle.clone();
    let moved = async |mode: &str| match invoke(&stack, &json!({ "mode": mode })).await? {
        Answer::Moved(moved) => Ok::<_, Error>((moved.status, moved.task_handle)),
        other => panic!("{other:?}"),
    };
    let running = ("RUNNING".to_owned(), handle.clone());
    assert_eq!(moved("moveState").await.expect("a task"), running);
    let cancelled = moved("cancelMove").await.expect("a task");
    assert_eq!(cancelled, ("CANCELLING".to_owned(), handle));
    assert_eq!(stack.aws.count("CancelMessageMoveTask"), 1);
    let error = moved("cancelMove").await.expect_err("an error").to_string();
    assert!(error.contains("the newest is CANCELLED"), "{error}");

    // A task that has come to its end.
    invoke(&stack, &slowly).await.expect("a task");
    let error = moved("cancelMove").await.expect_err("an error").to_string();
    assert!(error.contains("the newest is COMPLETED"), "{error}");
    assert_eq!(stack.aws.count("CancelMessageMoveTask"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_person_can_archive_without_sending() {
    let stack = Stack::with([letter("a").class("E"), letter("b")]).canaries(3);
    let report = redrive(&stack, &json!({ "mode": "archive" })).await.expect("a report");
    let archived = [("ArchivedByHand".to_owned(), 1), ("E".to_owned(), 1)];
    assert_eq!(report.archived, archived.into());
    assert_eq!(stack.aws.count("SendMessageBatch"), 0);
    assert!(stack.left().is_empty());
    let archive = stack.archive();
    let reasons: Vec<_> = archive.values().map(|document| &document["message"]).collect();
    assert!(reasons.contains(&&json!("archived by hand: no reason was given")), "{reasons:?}");
}
