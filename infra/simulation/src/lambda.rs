//! Lambda: asynchronous invocations of the forwarder, and the event source mapping of the consumer.

use std::{rc::Rc, sync::Arc, time::Duration};

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent};
use consumer::{Consumer, Running};
use jiff::{SignedDuration, Timestamp};
use platform::Deadline;
use serde_json::{Map, Value, json};
use testing::sample_json;
use tokio::{
    task::spawn_local,
    time::{Instant, sleep},
};

use crate::{
    Fault, Promise,
    ledger::Holder,
    state::{Caller, State},
    world::{Broken, CONCURRENCY, Ended, World},
};

/// `ForwarderTimeoutSeconds`, `ConsumerTimeoutSeconds`.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(30);

/// `VisibilityTimeout` of the work queue for that.
const HIDDEN_SECONDS: u64 = 180;

/// `BatchSize`.
pub(crate) const BATCH_SIZE: usize = 10;

/// For how long the consumer may hide what has to wait on a FIFO queue: `DeferralCapSeconds`.
const LONGEST_BACKOFF: SignedDuration = SignedDuration::from_secs(900);

/// How long the mapping waits for a message.
const POLL_SECONDS: u64 = 6 * 3600;

impl State {
    /// Somebody owes the delivery of a notification. A repetition is luck, on which nothing may rely.
    pub(crate) fn owes(&mut self, writes: &[usize], is_promised: bool) -> u64 {
        let caller = Caller { function: "delivery", writes: writes.to_vec(), ..Caller::default() };
        let delivery = self.enters(caller);
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
            let functions = self.functions();
            let handler = functions.forwarder.handle(&payload, deadline);
            let caller =
                Caller { function: "forwarder", writes: writes.clone(), ..Caller::default() };
            let ended = self.invokes(caller, TIMEOUT, handler).await;
            if !matches!(ended.result, Ok(Ok(_))) {
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
        self.sends("Lambda", &self.letters, &record.to_string(), "");
        self.state().delivered(delivery, &writes, "Lambda gives the event up");
    }

    async fn invokes_again(self: Rc<Self>, payload: String, writes: Vec<usize>, delivery: u64) {
        self.waits(Duration::ZERO, Duration::from_mins(10)).await;
        self.invokes_forwarder(payload, writes, delivery).await;
    }

    /// One poller of the event source mapping.
    pub(crate) async fn maps_events(self: Rc<Self>) {
        let work = self.aws.work_queue();
        // The consumers share what they learn of the quota, as if they were one environment, but not
        // what they know of the executions that run.
        let mut running = Arc::new(Running::default());
        loop {
            if let Some(until) = self.mapping_is_off_until() {
                self.waits_until(until).await;
                continue;
            }
            let most = {
                let mut state = self.state();
                let most = BATCH_SIZE;
                if state.happens(Fault::FewReceived) { state.rng.usize(1..=most) } else { most }
            };
            let answer = work.is_polled(poll(most, POLL_SECONDS)).await;
            self.notes_moved();
            let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
            if messages.is_empty() {
                continue;
            }
            self.state().received("Lambda", work.name(), &answer);
            self.counts_in_flight();
            self.shows_again(&messages);
            if self.invokes_consumer(&messages, &running).await.is_some() {
                running = Arc::default();
                self.state().has_lost_an_environment();
            }
        }
    }

    /// Enters what SQS itself has moved to another queue.
    pub(crate) fn notes_moved(&self) {
        for moved in self.aws.takes_moved() {
            let mut state = self.state();
            let is_back = moved.to.starts_with("work");
            state.count(if is_back { "moved back by SQS" } else { "moved away by SQS" });
            state.moved(&moved);
        }
    }

    fn counts_in_flight(&self) {
        let asked = json!({ "AttributeNames": ["All"] });
        let answer = self.aws.work_queue().does("GetQueueAttributes", asked).unwrap_or_default();
        let in_flight = answer["Attributes"]["ApproximateNumberOfMessagesNotVisible"].as_str();
        let in_flight: usize = in_flight.and_then(|number| number.parse().ok()).unwrap_or_default();
        let mut state = self.state();
        let now = state.now();
        state.left_hidden.retain(|_, until| *until > now);
        let most = CONCURRENCY as usize * BATCH_SIZE + state.left_hidden.len();
        if in_flight > most {
            let words = format!("{in_flight} messages are in flight, and {most} may be");
            state.ledger.violate(Promise::InFlightBounded, now, None, words);
        }
    }

    fn mapping_is_off_until(&self) -> Option<Timestamp> {
        self.state().outage(Fault::MappingOff, "").map(|outage| outage.until)
    }

    /// SQS may give the same message to somebody else at once.
    fn shows_again(&self, messages: &[Value]) {
        for message in messages {
            // A FIFO queue does not.
            if !self.setting.is_ordered && self.state().happens(Fault::ShownTwice) {
                self.hurts_receives([message]);
                let handle = &message["ReceiptHandle"];
                let entry = json!({ "Id": "0", "ReceiptHandle": handle, "VisibilityTimeout": 0 });
                let input = json!({ "Entries": [entry] });
                self.aws.work_queue().does("ChangeMessageVisibilityBatch", input);
            }
        }
    }

    /// In an environment that knows this of the executions that run. Returns why that is gone.
    async fn invokes_consumer(&self, messages: &[Value], running: &Arc<Running>) -> Option<Broken> {
        let ids = messages.iter().filter_map(|message| message["MessageId"].as_str());
        let mut writes: Vec<usize> = ids.flat_map(|id| self.state().ledger.writes_of(id)).collect();
        writes.sort_unstable();
        writes.dedup();
        let batch: Vec<Value> = messages.iter().map(record).collect();
        let event = serde_json::from_value(json!({ "Records": batch }));
        let event: SqsEvent = event.unwrap_or_default();
        let deadline = Deadline::at(Instant::now() + TIMEOUT);
        let consumer = Consumer { running: running.clone(), ..self.functions().consumer.clone() };
        let is_broken = self.state().outage(Fault::ConsumerBroken, "").is_some();
        let handler = async {
            if is_broken {
                return Err("the consumer does not even begin".to_owned());
            }
            let handled = consumer.handle(event, deadline, self.aws.now()).await;
            handled.map_err(|error| error.to_string())
        };
        let caller = Caller { function: "consumer", writes: writes.clone(), ..Caller::default() };
        let Ended { result, is_hurt } = self.invokes(caller, TIMEOUT, handler).await;
        let is_hurt = is_hurt || is_broken;
        let broken = result.as_ref().err().copied();
        let receipts = acknowledged(messages, result);
        let is_lost = !receipts.is_empty() && self.state().happens(Fault::AcknowledgementLost);
        let (kept, done): (Vec<&Value>, Vec<&Value>) = messages.iter().partition(|message| {
            is_lost || !receipts.iter().any(|handle| message["ReceiptHandle"] == **handle)
        });
        if is_lost {
            self.state().note(writes, "Lambda does not come to delete what is acknowledged");
        }
        let back: Vec<&Value> =
            done.into_iter().filter(|message| !self.deletes_acknowledged(message)).collect();
        if is_hurt || is_lost {
            self.hurts_receives(kept.iter().copied());
        } else if let (false, Some(first)) = (self.setting.is_ordered, kept.first()) {
            let id = first["MessageId"].as_str().unwrap_or_default();
            let words = format!("the consumer only had to wait, and {id} is to be received again");
            let mut state = self.state();
            let (now, write) = (state.now(), state.ledger.writes_of(id).first().copied());
            state.ledger.violate(Promise::WaitingCostsNoReceive, now, write, words);
        }
        let mut state = self.state();
        let until = state.now() + LONGEST_BACKOFF;
        let ids = kept.into_iter().chain(back).filter_map(|message| message["MessageId"].as_str());
        state.left_hidden.extend(ids.map(|id| (id.to_owned(), until)));
        broken
    }

    /// Whether it is gone. If not, it stays hidden for as long as if nobody had deleted it.
    fn deletes_acknowledged(&self, message: &Value) -> bool {
        let handle = message["ReceiptHandle"].as_str().unwrap_or_default();
        let work = self.aws.work_queue();
        // What a FIFO queue has deleted does not come back.
        let is_kept = !self.setting.is_ordered && self.state().happens(Fault::BackFromTheDead);
        if !is_kept {
            let input = json!({ "Entries": [{ "Id": "0", "ReceiptHandle": handle }] });
            let answer = work.does("DeleteMessageBatch", input).unwrap_or_default();
            // A FIFO queue refuses a receipt that is too old.
            if !answer["Successful"].is_array() {
                return true;
            }
        }
        self.state().deleted("Lambda", work.name(), handle, None);
        !is_kept
    }

    /// Receives of these messages end in something other than waiting.
    fn hurts_receives<'m>(&self, messages: impl IntoIterator<Item = &'m Value>) {
        let mut state = self.state();
        for id in messages.into_iter().filter_map(|message| message["MessageId"].as_str()) {
            *state.hurt_receives.entry(id.to_owned()).or_default() += 1;
        }
    }
}

/// What the event source mapping asks SQS for.
pub(crate) fn poll(most: usize, seconds: u64) -> Value {
    json!({
        "MaxNumberOfMessages": most,
        "VisibilityTimeout": HIDDEN_SECONDS,
        "WaitTimeSeconds": seconds,
        "MessageSystemAttributeNames": ["All"],
        "MessageAttributeNames": ["All"],
    })
}

/// The receipt handles of the messages that Lambda deletes:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-errorhandling.html>.
pub(crate) fn acknowledged<E>(
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
pub(crate) fn record(message: &Value) -> Value {
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
