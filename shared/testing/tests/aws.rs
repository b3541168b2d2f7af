//! The simulated AWS itself, by real SDK clients: what the services document, and what a test may
//! tell them to do instead.

#![expect(clippy::expect_used, reason = "a test may panic")]

use std::{collections::BTreeSet, time::Duration};

use aws_sdk_s3::primitives::ByteStream;
use aws_sdk_sqs::{
    config::{Credentials, SharedCredentialsProvider},
    error::{ProvideErrorMetadata, SdkError},
    operation::send_message_batch::SendMessageBatchOutput,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        Message as Received, MessageSystemAttributeName, QueueAttributeName,
        SendMessageBatchRequestEntry, SendMessageBatchResultEntry,
        builders::SendMessageBatchRequestEntryBuilder as Builder,
    },
};
use platform::Settings;
use testing::{Aws, Execution, Message, Object, SimulatedQueue, Status, Weather};
use tokio::time::{Instant, advance};

type Entry = SendMessageBatchRequestEntry;

fn entry(id: usize, body: &str) -> Entry {
    Entry::builder().id(id.to_string()).message_body(body).build().expect("complete")
}

fn in_group(id: usize, body: &str, group: &str) -> Entry {
    let entry = Entry::builder().id(id.to_string()).message_body(body);
    entry.message_group_id(group).message_deduplication_id(body).build().expect("complete")
}

/// The answer, or the code of the error.
async fn send(
    queue: &SimulatedQueue,
    entries: impl IntoIterator<Item = Entry>,
) -> Result<SendMessageBatchOutput, String> {
    let entries = Some(entries.into_iter().collect());
    let call = queue.client().send_message_batch().queue_url(queue.url()).set_entries(entries);
    call.send().await.map_err(|error| error.code().unwrap_or("none").to_owned())
}

async fn receive(queue: &SimulatedQueue, hidden_seconds: i32) -> Vec<Received> {
    let call = queue.client().receive_message().queue_url(queue.url()).max_number_of_messages(10);
    let call = call.visibility_timeout(hidden_seconds);
    let call = call.message_system_attribute_names(MessageSystemAttributeName::All);
    call.send().await.expect("an answer").messages.unwrap_or_default()
}

fn bodies(messages: &[Received]) -> Vec<&str> {
    messages.iter().filter_map(Received::body).collect()
}

fn receive_count(message: &Received) -> &str {
    let attributes = message.attributes().expect("attributes");
    &attributes[&MessageSystemAttributeName::ApproximateReceiveCount]
}

/// Whether the deletion is confirmed.
async fn delete(queue: &SimulatedQueue, handle: &str) -> bool {
    let entry = DeleteMessageBatchRequestEntry::builder().id("0").receipt_handle(handle).build();
    let call = queue.client().delete_message_batch().queue_url(queue.url());
    let answer = call.entries(entry.expect("complete")).send().await.expect("an answer");
    !answer.successful().is_empty()
}

async fn show(queue: &SimulatedQueue, handle: &str) {
    let entry = ChangeMessageVisibilityBatchRequestEntry::builder().id("0").receipt_handle(handle);
    let entry = entry.visibility_timeout(0).build().expect("complete");
    let call = queue.client().change_message_visibility_batch().queue_url(queue.url());
    let answer = call.entries(entry).send().await.expect("an answer");
    assert_eq!(answer.failed(), []);
}

async fn start(aws: &Aws, name: &str, input: &str) -> Result<(), String> {
    let machine = aws.step_functions();
    let call = machine.client().start_execution().state_machine_arn(machine.state_machine_arn());
    let answer = call.name(name).input(input).send().await;
    answer.map(|_| ()).map_err(|error| error.code().unwrap_or("none").to_owned())
}

#[tokio::test(start_paused = true)]
async fn a_batch_holds_ten_entries_and_a_mebibyte() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    let answer = send(&queue, (0..10).map(|n| entry(n, "a"))).await.expect("sent");
    assert_eq!((answer.successful().len(), answer.failed().len()), (10, 0));
    assert_eq!(queue.messages().len(), 10);
    let code = send(&queue, (0..11).map(|n| entry(n, "a"))).await.expect_err("too many");
    assert_eq!(code, "AWS.SimpleQueueService.TooManyEntriesInBatchRequest");

    let half = "x".repeat(524_288);
    send(&queue, [entry(0, &half), entry(1, &half)]).await.expect("sent");
    let code = send(&queue, [entry(0, &half), entry(1, &half), entry(2, "x")]).await;
    assert_eq!(code.expect_err("too long"), "AWS.SimpleQueueService.BatchRequestTooLong");
}

#[tokio::test(start_paused = true)]
async fn what_no_queue_accepts_is_refused_with_the_whole_call() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    let beside = |other: Builder| [entry(0, "a"), other.build().expect("complete")];
    let other = || Entry::builder().id("1").message_body("b");
    for (entries, code) in [
        ([entry(0, "a"), entry(0, "b")], "AWS.SimpleQueueService.BatchEntryIdsNotDistinct"),
        ([entry(0, "a"), entry(1, "\u{0}")], "InvalidMessageContents"),
        (beside(other().message_deduplication_id("d")), "InvalidParameterValue"),
        (beside(other().delay_seconds(901)), "InvalidParameterValue"),
    ] {
        assert_eq!(send(&queue, entries).await.expect_err("refused"), code);
    }
    assert!(queue.messages().is_empty());
    let fifo = Aws::with_fifo_queues().work_queue();
    assert_eq!(send(&fifo, [entry(0, "a")]).await.expect_err("refused"), "MissingParameter");
}

#[tokio::test(start_paused = true)]
async fn an_entry_fails_alone_in_an_answer_with_status_200() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    queue.rejects("bad");
    queue.when_sending().about("lost").is_ignored();
    let entries = [entry(0, "good"), entry(1, "bad"), entry(2, "lost")];
    let answer = send(&queue, entries).await.expect("an answer");
    let ids: Vec<&str> = answer.successful().iter().map(SendMessageBatchResultEntry::id).collect();
    let failed: Vec<_> = answer.failed().iter().map(|entry| (entry.id(), entry.code())).collect();
    assert_eq!((ids, failed), (vec!["0"], vec![("1", "InternalError")]));
    assert_eq!(queue.messages().len(), 1);
    assert_eq!(aws.count("SendMessageBatch"), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_received_is_hidden_and_counted() {
    let queue = Aws::new().work_queue();
    send(&queue, [entry(0, "a"), entry(1, "b")]).await.expect("sent");
    let first = receive(&queue, 60).await;
    assert_eq!(bodies(&first), ["a", "b"]);
    assert!(receive(&queue, 60).await.is_empty());

    let handle = |message: &Received| message.receipt_handle().expect("a handle").to_owned();
    show(&queue, &handle(&first[0])).await;
    let again = receive(&queue, 60).await;
    assert_eq!((bodies(&again), receive_count(&again[0])), (vec!["a"], "2"));
    // The handle of an earlier receive is accepted and deletes nothing.
    assert!(delete(&queue, &handle(&first[0])).await);
    assert_eq!(queue.messages().len(), 2);
    assert!(delete(&queue, &handle(&again[0])).await);

    advance(Duration::from_mins(1)).await;
    let late = receive(&queue, 60).await;
    assert_eq!((bodies(&late), receive_count(&late[0])), (vec!["b"], "2"));
    assert!(!delete(&queue, "somebody's").await);
}

#[tokio::test(start_paused = true)]
async fn a_receive_waits_until_something_comes() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    let begin = Instant::now();
    let call = queue.client().receive_message().queue_url(queue.url()).wait_time_seconds(20);
    let sending = async {
        tokio::time::sleep(Duration::from_secs(3)).await;
        send(&queue, [entry(0, "a")]).await.expect("sent");
    };
    let (received, ()) = tokio::join!(call.send(), sending);
    assert_eq!(bodies(received.expect("an answer").messages()), ["a"]);
    assert_eq!(begin.elapsed().as_secs(), 3);
}

#[tokio::test(start_paused = true)]
async fn what_was_received_five_times_goes_to_the_dead_letter_queue() {
    let aws = Aws::new();
    send(&aws.work_queue(), [entry(0, "a")]).await.expect("sent");
    let sent = aws.work_queue().messages()[0].sent;
    for _ in 0..5 {
        assert_eq!(receive(&aws.work_queue(), 1).await.len(), 1);
        advance(Duration::from_secs(1)).await;
    }
    assert!(receive(&aws.work_queue(), 1).await.is_empty());
    let letters = aws.dead_letter_queue().messages();
    assert_eq!((letters.len(), letters[0].sent), (1, sent), "a standard queue keeps the time");
    // Retention counts from the first send, and ends without a word.
    advance(Duration::from_hours(14 * 24)).await;
    assert!(aws.dead_letter_queue().messages().is_empty());
    assert_eq!(aws.dead_letter_queue().expired().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_letter_that_sqs_moved_says_from_where_and_one_that_was_sent_does_not() {
    let aws = Aws::new();
    let (work, dead) = (aws.work_queue(), aws.dead_letter_queue());
    send(&work, [entry(0, "a")]).await.expect("sent");
    for _ in 0..5 {
        receive(&work, 1).await;
        advance(Duration::from_secs(1)).await;
    }
    dead.has(Message::new("b").moved_from(&work));
    send(&dead, [entry(0, "c")]).await.expect("sent");
    let source = |message: &Received| {
        let attributes = message.attributes().expect("attributes");
        attributes.get(&MessageSystemAttributeName::DeadLetterQueueSourceArn).cloned()
    };
    let letters = receive(&dead, 60).await;
    assert_eq!(bodies(&letters), ["a", "b", "c"]);
    let sources: Vec<_> = letters.iter().map(source).collect();
    assert_eq!(sources, [Some(work.arn()), Some(work.arn()), None]);
}

#[tokio::test(start_paused = true)]
async fn what_is_shown_twice_is_deleted_by_its_last_handle_only() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    for id in ["once", "twice"] {
        queue.has(Message::new(id).id(id));
    }
    queue.shows_twice("twice");
    let (first, second) = (receive(&queue, 60).await, receive(&queue, 60).await);
    assert_eq!((bodies(&first), bodies(&second)), (vec!["once", "twice"], vec!["twice"]));
    assert!(receive(&queue, 60).await.is_empty());
    for (handle, left) in [(&first[1], 2), (&second[0], 1)] {
        assert!(delete(&queue, handle.receipt_handle().expect("a handle")).await);
        assert_eq!(queue.messages().len(), left);
    }
}

#[tokio::test(start_paused = true)]
async fn a_queue_hides_so_many_messages_and_tells_only_a_short_poll() {
    let aws = Aws::new();
    let queue = aws.work_queue();
    queue.has(Message::new("a"));
    queue.has_in_flight_elsewhere(120_000);
    let call = || queue.client().receive_message().queue_url(queue.url());
    let error = call().send().await.expect_err("refused");
    assert_eq!(error.code(), Some("OverLimit"));
    let begin = Instant::now();
    let nothing = call().wait_time_seconds(2).send().await.expect("an answer");
    assert_eq!((nothing.messages().len(), begin.elapsed().as_secs()), (0, 2));

    let name = QueueAttributeName::ApproximateNumberOfMessagesNotVisible;
    let attributes = queue.client().get_queue_attributes().queue_url(queue.url());
    let answer = attributes.attribute_names(name.clone()).send().await.expect("an answer");
    assert_eq!(answer.attributes().expect("attributes")[&name], "120000");
}

#[tokio::test(start_paused = true)]
async fn what_is_consumed_starts_an_execution_after_its_time() {
    let aws = Aws::new();
    let (queue, machine) = (aws.work_queue(), aws.step_functions());
    queue.is_consumed_after(Duration::from_secs(2));
    machine.executions_fail(Duration::from_secs(3), "E");
    send(&queue, [entry(0, &testing::message("k").to_string())]).await.expect("sent");
    assert!(machine.started().is_empty());
    let sent = queue.messages()[0].sent;
    // Nobody looks for long, and all has happened at its time.
    advance(Duration::from_mins(1)).await;
    let [execution] = machine.started().try_into().expect("one");
    assert_eq!((execution.key(), execution.input()), ("k".to_owned(), testing::message("k")));
    assert_eq!(execution.started, sent + Duration::from_secs(2));
    assert_eq!(execution.ended, Some(sent + Duration::from_secs(5)));
    assert!(queue.messages().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_fifo_queue_drops_what_it_knows_for_five_minutes() {
    let queue = Aws::with_fifo_queues().work_queue();
    let first = send(&queue, [in_group(0, "a", "g")]).await.expect("sent");
    let again = send(&queue, [in_group(0, "a", "g")]).await.expect("confirmed");
    assert_eq!(first.successful()[0].message_id(), again.successful()[0].message_id());
    assert_eq!(queue.messages().len(), 1);
    advance(Duration::from_mins(5)).await;
    send(&queue, [in_group(0, "a", "g")]).await.expect("sent");
    assert_eq!(queue.messages().len(), 2);
}

#[tokio::test(start_paused = true)]
async fn a_group_of_a_fifo_queue_waits_behind_what_is_hidden() {
    let queue = Aws::with_fifo_queues().work_queue();
    let a = ["a0", "a1"].map(|body| in_group(usize::from(body == "a1"), body, "a"));
    send(&queue, a).await.expect("sent");
    let first = receive(&queue, 60).await;
    assert_eq!(bodies(&first), ["a0", "a1"]);
    send(&queue, [in_group(0, "a2", "a"), in_group(1, "b0", "b")]).await.expect("sent");
    assert_eq!(bodies(&receive(&queue, 600).await), ["b0"]);

    advance(Duration::from_mins(1)).await;
    assert!(!delete(&queue, first[0].receipt_handle().expect("a handle")).await, "too late");
    assert_eq!(bodies(&receive(&queue, 60).await), ["a0", "a1", "a2"]);
}

#[tokio::test(start_paused = true)]
async fn groups_come_in_any_order_and_each_in_its_own() {
    let mut orders = BTreeSet::new();
    for seed in 0..20 {
        let queue = Aws::build(seed, Aws::new().now(), true).work_queue();
        queue.keeps_no_order();
        let entries = ["a0", "b0", "a1", "b1"].into_iter().enumerate();
        send(&queue, entries.map(|(n, body)| in_group(n, body, &body[..1]))).await.expect("sent");
        orders.insert(bodies(&receive(&queue, 60).await).concat());
    }
    assert_eq!(orders, ["a0a1b0b1", "b0b1a0a1"].map(str::to_owned).into());
}

#[tokio::test(start_paused = true)]
async fn what_sqs_moves_is_told_once() {
    let aws = Aws::with_fifo_queues();
    let queue = aws.work_queue();
    queue.is_received_at_most(1);
    send(&queue, [in_group(0, "a", "g")]).await.expect("sent");
    let id = queue.messages()[0].id.clone();
    receive(&queue, 60).await;
    advance(Duration::from_mins(1)).await;
    let moved: Vec<_> = aws.takes_moved();
    let [moved] = &moved[..] else { panic!("{moved:?}") };
    assert_eq!((&moved.old_id, &moved.id, moved.group_id.as_deref()), (&id, &id, Some("g")));
    assert_eq!(moved.to, aws.dead_letter_queue().name());
    assert_eq!(aws.takes_moved(), []);
}

#[tokio::test(start_paused = true)]
async fn an_express_machine_starts_the_same_name_again_and_tells_nothing() {
    let aws = Aws::new();
    aws.step_functions().is_express();
    start(&aws, "n", "{}").await.expect("started");
    start(&aws, "n", "[]").await.expect("started again");
    let [first, second] = &aws.step_functions().started()[..] else { panic!("two executions") };
    assert_ne!(first.arn, second.arn);
    let call = aws.step_functions_client().describe_execution().execution_arn(&first.arn);
    assert_eq!(call.send().await.expect_err("refused").code(), Some("InvalidArn"));
}

#[tokio::test(start_paused = true)]
async fn an_execution_has_its_name_for_itself() {
    let aws = Aws::new();
    let machine = aws.step_functions();
    machine.executions_succeed(Duration::from_mins(1));
    start(&aws, "n", "{}").await.expect("started");
    start(&aws, "n", "{}").await.expect("the same start while it runs");
    assert_eq!(start(&aws, "n", "[]").await.expect_err("another"), "ExecutionAlreadyExists");
    advance(Duration::from_mins(1)).await;
    assert_eq!(start(&aws, "n", "{}").await.expect_err("closed"), "ExecutionAlreadyExists");
    assert_eq!(machine.started().len(), 1);
    assert_eq!(start(&aws, "no name", "{}").await.expect_err("a space"), "InvalidName");
    assert_eq!(start(&aws, "m", "{").await.expect_err("no JSON"), "InvalidExecutionInput");
    machine.is_gone();
    assert_eq!(start(&aws, "m", "{}").await.expect_err("gone"), "StateMachineDoesNotExist");

    let old = Execution::new("old", "{}", aws.now());
    for (execution, status) in [
        (old.clone(), "RUNNING"),
        (old.clone().ended(aws.now(), Status::TimedOut), "TIMED_OUT"),
        (old.clone().pending_redrive(), "PENDING_REDRIVE"),
    ] {
        machine.has(execution);
        let call = machine.client().describe_execution().execution_arn(&old.arn);
        assert_eq!(call.send().await.expect("described").status().as_str(), status);
    }
}

#[tokio::test(start_paused = true)]
async fn objects_are_written_on_condition_and_read_by_version() {
    let aws = Aws::new();
    let (s3, client) = (aws.s3(), aws.s3().client());
    s3.has_bucket("b");
    let put = |content: &'static str| {
        let body = ByteStream::from_static(content.as_bytes());
        client.put_object().bucket("b").key("a key/1+.json").body(body)
    };
    let first = put("one").if_none_match("*").send().await.expect("created");
    let tag = first.e_tag().expect("a tag");
    let again = put("two").if_none_match("*").send().await.expect_err("there is one");
    assert_eq!(again.code(), Some("PreconditionFailed"));
    put("two").if_match(tag).send().await.expect("replaced");
    let again = put("three").if_match(tag).send().await.expect_err("another by now");
    assert_eq!(again.code(), Some("PreconditionFailed"));
    assert_eq!(s3.object("b", "a key/1+.json").expect("an object").content, b"two");

    s3.has("b", Object::new("k", b"old").version("v1"));
    s3.has("b", Object::new("k", b"new").version("v2"));
    let get = client.get_object().bucket("b").key("k");
    for (version, content) in [(Some("v1"), "old"), (Some("v2"), "new"), (None, "new")] {
        let answer = get.clone().set_version_id(version.map(str::to_owned)).send().await;
        let bytes = answer.expect("an object").body.collect().await.expect("content");
        assert_eq!(bytes.to_vec(), content.as_bytes());
    }
    let missing = get.version_id("v3").send().await.expect_err("no such version");
    assert_eq!(missing.code(), Some("NoSuchVersion"));
    let head = client.head_object().bucket("b").key("none").send().await.expect_err("nothing");
    assert!(head.into_service_error().is_not_found());
}

#[tokio::test(start_paused = true)]
async fn a_listing_has_pages() {
    let aws = Aws::new();
    for n in 0..5 {
        aws.s3().holds("b", &format!("p/<{n}>"), b"");
    }
    aws.s3().holds("b", "q", b"");
    let list = aws.s3().client().list_objects_v2().bucket("b").prefix("p/").max_keys(2);
    let mut pages = list.into_paginator().send();
    let mut keys = Vec::new();
    while let Some(page) = pages.next().await {
        keys.extend(page.expect("a page").contents.unwrap_or_default());
    }
    let keys: Vec<_> = keys.iter().filter_map(|object| object.key()).collect();
    assert_eq!(keys, ["p/<0>", "p/<1>", "p/<2>", "p/<3>", "p/<4>"]);
    assert_eq!(aws.count("ListObjectsV2"), 3);
}

#[tokio::test(start_paused = true)]
async fn the_sdk_tries_as_often_and_as_long_as_the_functions_do() {
    let aws = Aws::new();
    aws.step_functions().throttles("throttled");
    let error = start(&aws, "a", r#"{"data":{"key":"throttled"}}"#).await;
    assert_eq!(error.expect_err("throttled"), "ThrottlingException");
    assert_eq!(aws.count("StartExecution"), platform::SDK_ATTEMPTS as usize);

    // Two attempts without an answer take five seconds each.
    aws.when("StartExecution").times(2).is_never_answered();
    let begin = Instant::now();
    start(&aws, "b", "{}").await.expect("started by the third attempt");
    assert!((10..=12).contains(&begin.elapsed().as_secs()), "{:?}", begin.elapsed());

    aws.when("StartExecution").once().is_reset();
    start(&aws, "c", "{}").await.expect("started by the second attempt");

    // What has taken effect is found by the next attempt.
    aws.when("StartExecution").once().loses_its_answer();
    assert_eq!(start(&aws, "d", "{}").await.expect_err("closed"), "ExecutionAlreadyExists");
    let names: Vec<String> = aws.step_functions().started().into_iter().map(|e| e.name).collect();
    assert_eq!(names, ["b", "c", "d"]);
}

#[tokio::test(start_paused = true)]
async fn a_move_task_moves_at_its_rate() {
    let aws = Aws::new();
    let (dead, work) = (aws.dead_letter_queue(), aws.work_queue());
    for n in 0..10 {
        dead.has(Message::new(&n.to_string()));
    }
    let call = dead.client().start_message_move_task().max_number_of_messages_per_second(2);
    let call = call.source_arn(dead.arn()).destination_arn(work.arn());
    call.clone().send().await.expect("started");
    let error = call.send().await.expect_err("one at a time");
    assert!(error.message().expect("a message").contains("already a task running"));
    advance(Duration::from_secs(3)).await;
    assert_eq!((dead.messages().len(), work.messages().len()), (4, 6));
    advance(Duration::from_secs(2)).await;
    assert_eq!((dead.messages().len(), dead.move_tasks()[0].moved), (0, 10));
}

#[tokio::test(start_paused = true)]
async fn a_move_task_that_is_cancelled_moves_no_more() {
    let aws = Aws::new();
    let (dead, work) = (aws.dead_letter_queue(), aws.work_queue());
    for n in 0..10 {
        dead.has(Message::new(&n.to_string()));
    }
    let start = dead.client().start_message_move_task().max_number_of_messages_per_second(2);
    let start = start.source_arn(dead.arn()).destination_arn(work.arn());
    let handle = start.send().await.expect("started").task_handle.expect("a handle");
    advance(Duration::from_secs(3)).await;
    let cancel = dead.client().cancel_message_move_task().task_handle(handle);
    let cancelled = cancel.clone().send().await.expect("cancelled");
    assert_eq!(cancelled.approximate_number_of_messages_moved(), 6);
    advance(Duration::from_secs(3)).await;
    assert_eq!((dead.messages().len(), work.messages().len()), (4, 6));
    let list = dead.client().list_message_move_tasks().source_arn(dead.arn());
    let tasks = list.send().await.expect("an answer");
    assert_eq!(tasks.results()[0].status(), Some("CANCELLED"));
    let error = cancel.send().await.expect_err("there is none");
    assert!(error.into_service_error().is_resource_not_found_exception());
}

#[tokio::test(start_paused = true)]
async fn a_fault_happens_after_some_calls_and_to_one_in_so_many() {
    let aws = Aws::new();
    aws.when("StartExecution").after(2).one_in(2).times(2).fails("InvalidName");
    let mut failed = Vec::new();
    for n in 0..10 {
        if start(&aws, &n.to_string(), "{}").await.is_err() {
            failed.push(n);
        }
    }
    assert_eq!(failed, [3, 5]);
}

/// What happened to twenty messages in bad weather, to the millisecond.
async fn story(seed: u64) -> Vec<String> {
    fastrand::seed(seed); // The back-off of the SDK.
    let aws = Aws::with_seed(seed);
    aws.has_weather(Weather {
        errors: 0.1,
        throttles: 0.1,
        resets: 0.1,
        silences: 0.1,
        lost_answers: 0.1,
        rejected_entries: 0.2,
    });
    for n in 0..20 {
        send(&aws.work_queue(), [entry(0, &n.to_string()), entry(1, "b")]).await.ok();
    }
    aws.calls().iter().map(|call| format!("{} {:?}", call.at, call.answer)).collect()
}

#[test]
fn the_same_seed_tells_the_same_story() {
    let runtime = || {
        let mut builder = tokio::runtime::Builder::new_current_thread();
        builder.enable_time().start_paused(true).build().expect("a runtime")
    };
    let stories: Vec<_> = [1, 1, 2].map(|seed| runtime().block_on(story(seed))).into();
    assert_eq!(stories[0], stories[1]);
    assert_ne!(stories[0], stories[2]);
    let answers: BTreeSet<&str> = stories[0]
        .iter()
        .filter_map(|line| line.split_once(' ').map(|(_, answer)| answer))
        .collect();
    assert!(answers.len() >= 4, "{answers:?}");
}

#[tokio::test]
async fn over_http_there_is_the_same_aws() {
    let aws = Aws::new();
    aws.s3().has_bucket("b");
    let endpoint = aws.is_served().await.expect("a port");
    let lookup = |name: &str| match name {
        "AWS_REGION" => Some("eu-west-1".into()),
        "AWS_ENDPOINT_URL" => Some(endpoint.clone().into()),
        _ => None,
    };
    let config = Settings::from_lookup(&lookup, platform::sdk_config).expect("set up");
    let credentials = Credentials::builder().access_key_id("test").secret_access_key("test");
    let credentials = credentials.provider_name("test").build();
    let config = config
        .into_builder()
        .credentials_provider(SharedCredentialsProvider::new(credentials))
        .build();

    let (sqs, s3) = (aws_sdk_sqs::Client::new(&config), aws_sdk_s3::Client::new(&config));
    let batch = sqs.send_message_batch().queue_url(aws.work_queue().url());
    let answer = batch.entries(entry(0, "한글")).send().await.expect("an answer");
    assert_eq!(answer.successful()[0].message_id(), aws.work_queue().messages()[0].id);
    assert_eq!(aws.work_queue().messages()[0].body, "한글");

    let key = "devices/한글 +1.json";
    let put = s3.put_object().bucket("b").key(key).body(ByteStream::from_static(b"{}"));
    put.send().await.expect("an answer");
    assert_eq!(aws.s3().object("b", key).expect("an object").content, b"{}");
    let read = s3.get_object().bucket("b").key(key).send().await.expect("an answer");
    assert_eq!(read.body.collect().await.expect("its end").to_vec(), b"{}");

    aws.when("GetObject").fails("NoSuchKey");
    let error = s3.get_object().bucket("b").key(key).send().await.expect_err("an error");
    assert_eq!(error.code(), Some("NoSuchKey"));
    aws.when("GetObject").is_reset();
    let error = s3.get_object().bucket("b").key(key).send().await.expect_err("an error");
    assert!(matches!(error, SdkError::DispatchFailure(_)), "{error:?}");
}
