//! Lambda: asynchronous invocations of the forwarder, and the event source mapping of the consumer.

use std::{rc::Rc, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use platform::Deadline;
use serde_json::{Map, Value, json};
use testing::sample_json;
use tokio::{
    task::spawn_local,
    time::{Instant, sleep},
};

use crate::{
    Fault,
    ledger::Holder,
    state::State,
    world::{Broken, World},
};

/// `ForwarderTimeoutSeconds`, `ConsumerTimeoutSeconds`.
const TIMEOUT: Duration = Duration::from_secs(30);

/// `VisibilityTimeout` of the work queue for that.
const HIDDEN_SECONDS: u64 = 180;

/// How long the mapping waits for a message.
const POLL_SECONDS: u64 = 6 * 3600;

impl State {
    /// Somebody owes the delivery of a notification. A repetition is luck, on which nothing may rely.
    pub(crate) fn owes(&mut self, writes: &[usize], is_promised: bool) -> u64 {
        let delivery = self.enters("delivery", writes.to_vec());
        if is_promised {
            self.ledger.holds(&Holder::Delivery(delivery), writes);
        }
        delivery
    }

    pub(crate) fn delivered(&mut self, delivery: u64, writes: &[usize], how: &str) {
        let now = self.now();
        self.ledger.lets_go(now, &Holder::Delivery(delivery), writes, how);
    }
}

impl World {
    /// Invokes the forwarder asynchronously: two retries, and then the on-failure destination.
    pub(crate) async fn invokes_forwarder(
        self: Rc<Self>,
        payload: String,
        writes: Vec<usize>,
        delivery: u64,
    ) {
        for minutes in [0, 1, 2] {
            sleep(Duration::from_mins(minutes)).await;
            let deadline = Deadline::at(Instant::now() + TIMEOUT);
            let handler = self.forwarder.handle(&payload, deadline);
            let result = self.invokes("forwarder", writes.clone(), TIMEOUT, handler).await;
            if !matches!(result, Ok(Ok(_))) {
                continue;
            }
            let mut state = self.state();
            state.delivered(delivery, &writes, "the forwarder has succeeded");
            if state.happens(Fault::InvokedAgain) {
                let delivery = state.owes(&writes, false);
                drop(state);
                spawn_local(Box::pin(self.clone().invokes_again(payload, writes, delivery)));
            }
            return;
        }
        let mut record = sample_json("lambda-on-failure-destination-body.json");
        record["requestPayload"] = serde_json::from_str(&payload).unwrap_or_default();
        self.sends("Lambda", &self.aws.dead_letter_queue(), &record.to_string(), "");
        self.state().delivered(delivery, &writes, "Lambda gives the event up");
    }

    async fn invokes_again(self: Rc<Self>, payload: String, writes: Vec<usize>, delivery: u64) {
        self.waits(Duration::ZERO, Duration::from_mins(10)).await;
        self.invokes_forwarder(payload, writes, delivery).await;
    }

    /// One poller of the event source mapping.
    pub(crate) async fn maps_events(self: Rc<Self>) {
        let work = self.aws.work_queue();
        loop {
            if let Some(until) = self.mapping_is_off_until() {
                self.waits_until(until).await;
                continue;
            }
            let most = {
                let mut state = self.state();
                if state.happens(Fault::FewReceived) { state.rng.u64(1..=10) } else { 10 }
            };
            let answer = work.is_polled(json!({
                "MaxNumberOfMessages": most,
                "VisibilityTimeout": HIDDEN_SECONDS,
                "WaitTimeSeconds": POLL_SECONDS,
                "MessageSystemAttributeNames": ["All"],
                "MessageAttributeNames": ["All"],
            }));
            let answer = answer.await;
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                continue;
            }
            self.state().received("Lambda", work.name(), &answer);
            self.shows_again(&messages);
            self.invokes_consumer(&messages).await;
        }
    }

    fn mapping_is_off_until(&self) -> Option<jiff::Timestamp> {
        self.state().outage(Fault::MappingOff, "").map(|outage| outage.until)
    }

    /// SQS may give the same message to somebody else at once.
    fn shows_again(&self, messages: &[Value]) {
        for message in messages {
            if self.state().happens(Fault::ShownTwice) {
                let handle = &message["ReceiptHandle"];
                let entry = json!({ "Id": "0", "ReceiptHandle": handle, "VisibilityTimeout": 0 });
                let input = json!({ "Entries": [entry] });
                self.aws.work_queue().does("ChangeMessageVisibilityBatch", input);
            }
        }
    }

    async fn invokes_consumer(&self, messages: &[Value]) {
        let ids = messages.iter().filter_map(|message| message["MessageId"].as_str());
        let mut writes: Vec<usize> = ids.flat_map(|id| self.state().ledger.writes_of(id)).collect();
        writes.sort_unstable();
        writes.dedup();
        let batch: Vec<Value> = messages.iter().map(record).collect();
        let event = serde_json::from_value(json!({ "Records": batch }));
        let event: SqsEvent = event.unwrap_or_default();
        let deadline = Deadline::at(Instant::now() + TIMEOUT);
        let handler = self.consumer.handle(event, deadline, self.aws.now());
        let result = self.invokes("consumer", writes.clone(), TIMEOUT, handler).await;
        let receipts = acknowledged(messages, result);
        if receipts.is_empty() {
            return;
        }
        if self.state().happens(Fault::AcknowledgementLost) {
            self.state().note(writes, "Lambda does not come to delete what is acknowledged");
            return;
        }
        for handle in receipts {
            let is_kept = self.state().happens(Fault::BackFromTheDead);
            let work = self.aws.work_queue();
            if !is_kept {
                let input = json!({ "Entries": [{ "Id": "0", "ReceiptHandle": handle }] });
                work.does("DeleteMessageBatch", input);
            }
            self.state().deleted("Lambda", work.name(), &handle);
        }
    }
}

/// The receipt handles of the messages that Lambda deletes:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>.
fn acknowledged<E>(
    messages: &[Value],
    result: Result<Result<SqsBatchResponse, E>, Broken>,
) -> Vec<String> {
    let Ok(Ok(response)) = result else { return Vec::new() };
    let failed: Vec<&str> =
        response.batch_item_failures.iter().map(|one| one.item_identifier.as_str()).collect();
    let is_one_of = |id: &str| messages.iter().any(|message| message["MessageId"] == id);
    if !failed.iter().all(|id| is_one_of(id)) {
        return Vec::new();
    }
    let left = messages
        .iter()
        .filter(|message| message["MessageId"].as_str().is_some_and(|id| !failed.contains(&id)));
    left.filter_map(|message| message["ReceiptHandle"].as_str().map(str::to_owned)).collect()
}

/// A message as Lambda gives it to a function.
fn record(message: &Value) -> Value {
    let attributes = message["MessageAttributes"].as_object().into_iter().flatten();
    let attributes: Map<String, Value> = attributes
        .map(|(name, value)| {
            let attribute = json!({
                "stringValue": value["StringValue"],
                "dataType": value["DataType"],
                "stringListValues": [],
                "binaryListValues": [],
            });
            (name.clone(), attribute)
        })
        .collect();
    json!({
        "messageId": message["MessageId"],
        "receiptHandle": message["ReceiptHandle"],
        "body": message["Body"],
        "attributes": message["Attributes"],
        "messageAttributes": attributes,
        "md5OfBody": message["MD5OfBody"],
        "eventSource": "aws:sqs",
        "eventSourceARN": "arn:aws:sqs:eu-west-1:111122223333:work",
        "awsRegion": "eu-west-1",
    })
}
