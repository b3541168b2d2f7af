use std::sync::{
    Mutex,
    atomic::{AtomicUsize, Ordering},
};

use aws_sdk_sqs::{
    operation::send_message_batch::SendMessageBatchOutput, types::SendMessageBatchResultEntry,
};
use aws_smithy_mocks::{RuleMode, mock, mock_client};
use proptest::prelude::*;

use super::*;

/// A queue that decides entry by entry, by body and by how often it has seen that body, and keeps
/// what it has accepted.
fn fake(
    decide: impl Fn(&str, usize) -> Result<(), (&'static str, bool)> + Send + Sync + 'static,
) -> (Queue, Arc<Mutex<Vec<String>>>, Arc<AtomicUsize>) {
    let accepted = Arc::new(Mutex::new(Vec::new()));
    let calls = Arc::new(AtomicUsize::new(0));
    let seen = Mutex::new(HashMap::<String, usize>::new());
    let (kept, counted) = (Arc::clone(&accepted), Arc::clone(&calls));
    let rule = mock!(Client::send_message_batch).then_compute_output(move |request| {
        counted.fetch_add(1, Ordering::Relaxed);
        let mut output = SendMessageBatchOutput::builder()
            .set_successful(Some(Vec::new()))
            .set_failed(Some(Vec::new()));
        for entry in request.entries() {
            let body = entry.message_body();
            let mut seen = seen.lock().expect("lock");
            let times = seen.entry(body.to_owned()).or_default();
            *times += 1;
            if body.starts_with("unanswered") {
                continue;
            }
            output = match decide(body, *times) {
                Ok(()) => {
                    kept.lock().expect("lock").push(body.to_owned());
                    output.successful(
                        SendMessageBatchResultEntry::builder()
                            .id(entry.id())
                            .message_id("m")
                            .md5_of_message_body("d")
                            .build()
                            .expect("complete"),
                    )
                }
                Err((code, sender_fault)) => output.failed(
                    BatchResultErrorEntry::builder()
                        .id(entry.id())
                        .code(code)
                        .sender_fault(sender_fault)
                        .build()
                        .expect("complete"),
                ),
            };
        }
        output.build().expect("complete")
    });
    let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, &[&rule]);
    (Queue::new(client, "http://localhost/work"), accepted, calls)
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), ..Message::default() }
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

#[tokio::test(start_paused = true)]
async fn confirms_each_message_in_its_place() {
    let (queue, accepted, calls) = fake(|_, _| Ok(()));
    let messages: Vec<_> = (0..25).map(|n| message(&n.to_string())).collect();
    let results = queue.send(messages, in_a_minute()).await;
    assert_eq!(results.len(), 25);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(accepted.lock().expect("lock").len(), 25);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_entry_in_a_200_is_an_error_of_that_message_only() {
    let (queue, ..) = fake(|body, _| match body {
        "bad" => Err(("InvalidMessageContents", true)),
        _ => Ok(()),
    });
    let results = queue.send(vec![message("a"), message("bad"), message("c")], in_a_minute()).await;
    assert!(matches!(
        &results[..],
        [Ok(()), Err(SendError::Rejected { code, .. }), Ok(())] if code == "InvalidMessageContents"
    ));
}

#[tokio::test(start_paused = true)]
async fn sends_only_the_retryable_entries_again() {
    let (queue, accepted, calls) = fake(|body, times| match body {
        "late" if times < 3 => Err(("InternalError", false)),
        _ => Ok(()),
    });
    let results = queue.send(vec![message("a"), message("late")], in_a_minute()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(*accepted.lock().expect("lock"), ["a", "late"]);
    assert_eq!(calls.load(Ordering::Relaxed), 3);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_an_entry_that_stays_rejected() {
    let (queue, _, calls) = fake(|_, _| Err(("InternalError", false)));
    let results = queue.send(vec![message("a")], in_a_minute()).await;
    assert!(matches!(&results[..], [Err(SendError::Rejected { .. })]));
    assert_eq!(calls.load(Ordering::Relaxed), ATTEMPTS as usize);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_answer_does_not_mention_is_not_confirmed() {
    let (queue, ..) = fake(|_, _| Ok(()));
    let results = queue.send(vec![message("a"), message("unanswered")], in_a_minute()).await;
    assert!(matches!(&results[..], [Ok(()), Err(SendError::Unanswered)]));
}

#[tokio::test(start_paused = true)]
async fn one_entry_for_which_the_call_is_refused_does_not_take_its_neighbours_along() {
    let rule = mock!(Client::send_message_batch).then_compute_response(|request| {
        use aws_smithy_mocks::MockResponse;
        if request.entries().iter().any(|entry| entry.message_body() == "bad") {
            return MockResponse::Error(SendMessageBatchError::generic(
                aws_sdk_sqs::error::ErrorMetadata::builder().code("InvalidMessageContents").build(),
            ));
        }
        let mut output = SendMessageBatchOutput::builder().set_failed(Some(Vec::new()));
        for entry in request.entries() {
            output = output.successful(
                SendMessageBatchResultEntry::builder()
                    .id(entry.id())
                    .message_id("m")
                    .md5_of_message_body("d")
                    .build()
                    .expect("complete"),
            );
        }
        MockResponse::Output(output.build().expect("complete"))
    });
    let client = mock_client!(aws_sdk_sqs, RuleMode::MatchAny, &[&rule]);
    let queue = Queue::new(client, "http://localhost/work");
    let results = queue.send(vec![message("a"), message("bad"), message("c")], in_a_minute()).await;
    assert!(matches!(&results[..], [Ok(()), Err(SendError::Call(_)), Ok(())]));
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_in_time_is_an_error() {
    let (queue, accepted, _) = fake(|_, _| Err(("InternalError", false)));
    let results = queue.send(vec![message("a")], Instant::now()).await;
    assert!(matches!(&results[..], [Err(_)]));
    assert!(accepted.lock().expect("lock").is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_no_message_overtakes_another_of_its_group() {
    let decide = |body: &str, times| match body {
        "a2" => Err(("InternalError", false)),
        "b1" if times == 1 => Err(("InternalError", false)),
        _ => Ok(()),
    };
    let (queue, accepted, calls) = fake(decide);
    let queue = Queue { url: "http://localhost/work.fifo".to_owned(), ..queue };
    let bodies = ["a1", "b1", "a2", "b2", "a3", "b3"];
    let messages =
        bodies.map(|body| Message { group_id: Some(body[..1].to_owned()), ..message(body) });
    let results = queue.send(messages.to_vec(), in_a_minute()).await;
    let confirmed: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(confirmed, [true, true, false, true, false, true]);
    assert!(matches!(results[4], Err(SendError::Behind)));
    assert_eq!(*accepted.lock().expect("lock"), ["a1", "b1", "b2", "b3"]);
    // Three rounds, and four more tries of what was rejected.
    assert_eq!(calls.load(Ordering::Relaxed), 3 + 1 + 3);
}

#[tokio::test]
async fn a_queue_that_does_not_answer_has_confirmed_nothing() {
    let silent = std::net::TcpListener::bind(("127.0.0.1", 0)).expect("a port");
    let config = aws_sdk_sqs::Config::builder()
        .behavior_version(aws_config::BehaviorVersion::latest())
        .region(aws_sdk_sqs::config::Region::from_static("eu-west-1"))
        .with_test_defaults_v2()
        .endpoint_url(format!("http://{}", silent.local_addr().expect("an address")))
        .http_client(aws_smithy_http_client::Builder::new().build_http());
    let queue = Queue::new(Client::from_conf(config.build()), "http://localhost/work");
    let soon = Instant::now() + Duration::from_millis(50);
    let results = queue.send(vec![message("a"), message("b")], soon).await;
    assert!(matches!(&results[..], [Err(SendError::OutOfTime), Err(SendError::OutOfTime)]));
}

proptest! {
    #[test]
    fn batches_hold_every_message_once_within_both_limits(
        sizes in proptest::collection::vec(0..=MAX_MESSAGE_BYTES, 0..100)
    ) {
        let lengths = batch_lengths(&sizes);
        prop_assert_eq!(lengths.iter().sum::<usize>(), sizes.len());
        let mut sizes = sizes.as_slice();
        for length in lengths {
            let (batch, rest) = sizes.split_at(length);
            prop_assert!((1..=MAX_ENTRIES).contains(&length));
            prop_assert!(batch.iter().sum::<usize>() <= MAX_MESSAGE_BYTES);
            // No batch is cut short: its successor's first message did not fit.
            if let (Some(next), true) = (rest.first(), length < MAX_ENTRIES) {
                prop_assert!(batch.iter().sum::<usize>() + next > MAX_MESSAGE_BYTES);
            }
            sizes = rest;
        }
    }
}
