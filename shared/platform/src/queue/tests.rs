use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

use proptest::prelude::*;
use testing::Aws;

use super::*;

/// The sender to the work queue.
fn work_queue(aws: &Aws) -> Queue {
    Queue::new(aws.work_queue().client(), aws.work_queue().url())
}

/// The bodies that the work queue has accepted.
fn accepted(aws: &Aws) -> Vec<String> {
    aws.work_queue().messages().into_iter().map(|message| message.body).collect()
}

fn calls(aws: &Aws) -> usize {
    aws.count("SendMessageBatch")
}

fn message(body: &str) -> Message {
    Message { body: body.to_owned(), ..Message::default() }
}

fn in_a_minute() -> Instant {
    Instant::now() + Duration::from_mins(1)
}

#[tokio::test(start_paused = true)]
async fn confirms_each_message_in_its_place() {
    let aws = Aws::new();
    let messages: Vec<_> = (0..25).map(|n| message(&n.to_string())).collect();
    let results = work_queue(&aws).send(messages, in_a_minute()).await;
    assert_eq!(results.len(), 25);
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(accepted(&aws).len(), 25);
    assert_eq!(calls(&aws), 3);
}

#[tokio::test(start_paused = true)]
async fn the_first_call_makes_the_client_of_all_queues_that_share_it() {
    let aws = Aws::new();
    let clients = Arc::new(AtomicUsize::new(0));
    let (client, count) = (aws.sqs_client(), Arc::clone(&clients));
    let make = move || {
        count.fetch_add(1, Relaxed);
        client
    };
    let queues = [aws.work_queue(), aws.dead_letter_queue()].map(|queue| queue.url());
    let queues = Queue::on_demand(make, queues);
    assert_eq!(clients.load(Relaxed), 0);
    for queue in queues {
        let results = queue.send(vec![message("a")], in_a_minute()).await;
        assert!(results[0].is_ok());
    }
    assert_eq!(clients.load(Relaxed), 1);
    assert_eq!(aws.dead_letter_queue().messages().len(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_rejected_entry_in_a_200_is_an_error_of_that_message_only() {
    let aws = Aws::new();
    aws.work_queue().when_sending().about("bad").is_rejected_for("InvalidMessageContents");
    let results = work_queue(&aws)
        .send(vec![message("a"), message("bad"), message("c")], in_a_minute())
        .await;
    assert!(matches!(
        &results[..],
        [Ok(()), Err(SendError::Rejected { code, .. }), Ok(())] if code == "InvalidMessageContents"
    ));
    assert_eq!(calls(&aws), 1, "it would be rejected again");
}

#[tokio::test(start_paused = true)]
async fn sends_only_the_retryable_entries_again() {
    let aws = Aws::new();
    aws.work_queue().when_sending().about("late").times(2).is_rejected();
    let results = work_queue(&aws).send(vec![message("a"), message("late")], in_a_minute()).await;
    assert!(results.iter().all(Result::is_ok));
    assert_eq!(accepted(&aws), ["a", "late"]);
    assert_eq!(calls(&aws), 3);
}

#[tokio::test(start_paused = true)]
async fn gives_up_on_an_entry_that_stays_rejected() {
    let aws = Aws::new();
    aws.work_queue().rejects_all();
    let results = work_queue(&aws).send(vec![message("a")], in_a_minute()).await;
    assert!(matches!(&results[..], [Err(SendError::Rejected { .. })]));
    assert_eq!(calls(&aws), ATTEMPTS as usize);
}

#[tokio::test(start_paused = true)]
async fn an_entry_that_the_answer_does_not_mention_is_not_confirmed() {
    let aws = Aws::new();
    aws.work_queue().when_sending().about("unanswered").is_ignored();
    let results =
        work_queue(&aws).send(vec![message("a"), message("unanswered")], in_a_minute()).await;
    assert!(matches!(&results[..], [Ok(()), Err(SendError::Unanswered)]));
}

#[tokio::test(start_paused = true)]
async fn one_entry_for_which_the_call_is_refused_does_not_take_its_neighbours_along() {
    let aws = Aws::new();
    // SQS takes no control characters.
    let messages = vec![message("a"), message("bad \u{0}"), message("c")];
    let results = work_queue(&aws).send(messages, in_a_minute()).await;
    assert!(matches!(&results[..], [Ok(()), Err(SendError::Call(_)), Ok(())]));
    assert_eq!(accepted(&aws), ["a", "c"]);
}

#[tokio::test(start_paused = true)]
async fn a_call_that_is_refused_for_no_entry_is_not_made_for_each() {
    let aws = Aws::new();
    aws.when("SendMessageBatch").fails("AccessDenied");
    let results = work_queue(&aws).send(vec![message("a"), message("b")], in_a_minute()).await;
    assert!(matches!(&results[..], [Err(SendError::Call(_)), Err(SendError::Call(_))]));
    assert_eq!(calls(&aws), 1);
}

#[test]
fn a_batch_holds_as_much_as_sqs_takes() {
    const HALF: usize = MAX_MESSAGE_BYTES / 2;
    assert_eq!(batch_lengths(&[HALF, HALF, 1]), [2, 1]);
    assert_eq!(batch_lengths(&[MAX_MESSAGE_BYTES + 1, 1]), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn what_is_not_confirmed_in_time_is_an_error() {
    let aws = Aws::new();
    aws.work_queue().rejects_all();
    let results = work_queue(&aws).send(vec![message("a")], Instant::now()).await;
    assert!(matches!(&results[..], [Err(_)]));
    assert!(accepted(&aws).is_empty());
}

#[tokio::test(start_paused = true)]
async fn on_a_fifo_queue_no_message_overtakes_another_of_its_group() {
    let aws = Aws::with_fifo_queues();
    aws.work_queue().rejects("a2");
    aws.work_queue().when_sending().about("b1").times(1).is_rejected();
    let bodies = ["a1", "b1", "a2", "b2", "a3", "b3"];
    let messages = bodies.map(|body| Message {
        group_id: Some(body[..1].to_owned()),
        deduplication_id: Some(body.to_owned()),
        ..message(body)
    });
    let results = work_queue(&aws).send(messages.to_vec(), in_a_minute()).await;
    let confirmed: Vec<bool> = results.iter().map(Result::is_ok).collect();
    assert_eq!(confirmed, [true, true, false, true, false, true]);
    assert!(matches!(results[4], Err(SendError::Behind)));
    assert_eq!(accepted(&aws), ["a1", "b1", "b2", "b3"]);
    // Three rounds, and four more tries of what was rejected.
    assert_eq!(calls(&aws), 3 + 1 + 3);
}

#[tokio::test(start_paused = true)]
async fn a_queue_that_does_not_answer_has_confirmed_nothing() {
    let aws = Aws::new();
    aws.work_queue().is_silent();
    let soon = Instant::now() + Duration::from_millis(50);
    let results = work_queue(&aws).send(vec![message("a"), message("b")], soon).await;
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
