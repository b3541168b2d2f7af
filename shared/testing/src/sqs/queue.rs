use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use crate::samples::key_of;

/// For how long SQS knows a deduplication id.
const DEDUPLICATION: SignedDuration = SignedDuration::from_mins(5);

/// As the template sets it, on both queues.
const RETENTION: SignedDuration = SignedDuration::from_hours(14 * 24);
const MAX_RECEIVES: u32 = 5;

/// SQS' own default.
const VISIBILITY: Duration = Duration::from_secs(30);

/// Messages that may be hidden at a time:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>
const MAX_IN_FLIGHT: usize = 120_000;

/// A message on a queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    pub id: String,
    pub body: String,
    pub attributes: BTreeMap<String, Attribute>,
    pub group_id: Option<String>,
    pub deduplication_id: Option<String>,
    /// As the sender asked for it.
    pub delay_seconds: Option<u64>,
    /// When it was sent.
    pub sent: Timestamp,
    pub receive_count: u32,
    pub(super) first_received: Option<Timestamp>,
    pub(super) visible_from: Timestamp,
    /// Whether it is hidden because it was received.
    pub(super) in_flight: bool,
}

/// A message attribute.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub data_type: String,
    pub text: Option<String>,
    pub binary: Option<Vec<u8>>,
}

/// A task by which SQS moves the messages of a dead-letter queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MoveTask {
    pub handle: String,
    pub destination_arn: String,
    pub max_per_second: Option<u64>,
    pub started: Timestamp,
    pub moved: u64,
    pub to_move: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Queue {
    fifo: bool,
    /// By sequence number.
    pub(crate) messages: BTreeMap<u64, Message>,
    pub(crate) expired: Vec<Message>,
    /// Id of the message, and until when, by deduplication id.
    deduplicated: BTreeMap<String, (String, Timestamp)>,
    /// A queue by name.
    pub(crate) dead_letters_go_to: Option<String>,
    pub(crate) moves: Vec<MoveTask>,
    /// Decides in which order a receive shows messages, if it is not the oldest first.
    pub(crate) disorder: Option<Rng>,
}

impl Message {
    /// A message with this body.
    pub fn new(body: &str) -> Self {
        Self {
            id: String::new(),
            body: body.to_owned(),
            attributes: BTreeMap::new(),
            group_id: None,
            deduplication_id: None,
            delay_seconds: None,
            sent: Timestamp::MIN,
            receive_count: 0,
            first_received: None,
            visible_from: Timestamp::MIN,
            in_flight: false,
        }
    }

    /// The message about a write to `key`.
    pub fn about(key: &str) -> Self {
        Self::new(&crate::message(key).to_string())
    }

    /// It was sent at this time.
    pub fn sent(self, time: &str) -> Self {
        Self { sent: time.parse().expect("a time"), ..self }
    }

    pub fn group(self, group: &str) -> Self {
        Self { group_id: Some(group.to_owned()), ..self }
    }

    pub fn with(mut self, name: &str, attribute: Attribute) -> Self {
        self.attributes.insert(name.to_owned(), attribute);
        self
    }

    /// The value of a text or number attribute.
    pub fn text(&self, name: &str) -> Option<&str> {
        self.attributes.get(name)?.text.as_deref()
    }

    /// Its body as JSON.
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.body).expect("JSON")
    }

    /// The key of the object that it is about.
    pub fn key(&self) -> String {
        key_of(&self.body).expect("a key")
    }

    pub(crate) fn is_visible(&self, now: Timestamp) -> bool {
        self.visible_from <= now
    }

    fn is_in_flight(&self, now: Timestamp) -> bool {
        self.in_flight && !self.is_visible(now)
    }
}

/// What a sender gets for a message.
pub(crate) struct Sent {
    pub(crate) message_id: String,
    /// FIFO queues only.
    pub(crate) sequence_number: Option<u64>,
}

/// Why a receipt handle is not accepted.
pub(crate) enum BadHandle {
    Unreadable,
    /// FIFO queues only: what is visible again can no longer be deleted with it.
    Expired,
    NotInFlight,
}

impl Queue {
    pub(crate) fn new(fifo: bool) -> Self {
        Self { fifo, ..Self::default() }
    }

    pub(crate) fn is_fifo(&self) -> bool {
        self.fifo
    }

    /// Puts a message into the queue. On a FIFO queue one whose deduplication id is known is
    /// confirmed and dropped.
    pub(crate) fn put(&mut self, mut message: Message, number: u64, now: Timestamp) -> Sent {
        if message.id.is_empty() {
            message.id = format!("message-{number}");
        }
        if message.sent == Timestamp::MIN {
            message.sent = now;
        }
        let sent =
            Sent { message_id: message.id.clone(), sequence_number: self.fifo.then_some(number) };
        if let (true, Some(id)) = (self.fifo, &message.deduplication_id) {
            self.deduplicated.retain(|_, (_, until)| *until > now);
            if let Some((message_id, _)) = self.deduplicated.get(id) {
                return Sent { message_id: message_id.clone(), ..sent };
            }
            self.deduplicated.insert(id.clone(), (message.id.clone(), now + DEDUPLICATION));
        }
        message.visible_from = now + Duration::from_secs(message.delay_seconds.unwrap_or(0));
        message.in_flight = false;
        self.messages.insert(number, message);
        sent
    }

    /// Receives up to so many messages and hides them, the oldest first: receipt handles and
    /// messages. None if too many are hidden already. A standard queue of AWS promises no order.
    pub(crate) fn receive(
        &mut self,
        most: usize,
        hidden: Option<Duration>,
        now: Timestamp,
    ) -> Option<Vec<(String, Message)>> {
        let in_flight = |message: &&Message| message.is_in_flight(now);
        if self.messages.values().filter(in_flight).count() >= MAX_IN_FLIGHT {
            return None;
        }
        // Behind a hidden message its group waits.
        let mut blocked = BTreeSet::new();
        let mut received = Vec::new();
        let mut numbers: Vec<u64> = self.messages.keys().copied().collect();
        if let Some(rng) = &mut self.disorder {
            rng.shuffle(&mut numbers);
        }
        for number in &numbers {
            let Some(message) = self.messages.get_mut(number) else { continue };
            if received.len() == most {
                break;
            }
            if self.fifo && !message.is_visible(now) {
                blocked.insert(message.group_id.clone());
            }
            if !message.is_visible(now) || (self.fifo && blocked.contains(&message.group_id)) {
                continue;
            }
            message.visible_from = now + hidden.unwrap_or(VISIBILITY);
            message.in_flight = true;
            message.receive_count += 1;
            message.first_received.get_or_insert(now);
            received.push((handle(*number, message.receive_count), message.clone()));
        }
        Some(received)
    }

    /// Deletes a message. With the handle of an earlier receive, a standard queue confirms the
    /// deletion and keeps the message.
    pub(crate) fn delete(&mut self, handle: &str, now: Timestamp) -> Result<(), BadHandle> {
        let (number, receive) = read_handle(handle).ok_or(BadHandle::Unreadable)?;
        let Some(message) = self.messages.get(&number) else { return Ok(()) };
        let is_last = message.receive_count == receive;
        if self.fifo && !(is_last && message.is_in_flight(now)) {
            return Err(BadHandle::Expired);
        }
        if is_last {
            self.messages.remove(&number);
        }
        Ok(())
    }

    /// Hides a message that was received for so long from now.
    pub(crate) fn change_visibility(
        &mut self,
        handle: &str,
        hidden: Duration,
        now: Timestamp,
    ) -> Result<(), BadHandle> {
        let (number, receive) = read_handle(handle).ok_or(BadHandle::Unreadable)?;
        let message = self.messages.get_mut(&number).ok_or(BadHandle::NotInFlight)?;
        if message.receive_count != receive || !message.is_in_flight(now) {
            return Err(BadHandle::NotInFlight);
        }
        message.visible_from = now + hidden;
        Ok(())
    }

    /// The body of the message that was received with this handle.
    pub(crate) fn body_of(&self, handle: &str) -> Option<&str> {
        let (number, _) = read_handle(handle)?;
        self.messages.get(&number).map(|message| message.body.as_str())
    }

    /// Takes out what was received too often and is visible again.
    pub(crate) fn take_dead(&mut self, now: Timestamp) -> Vec<Message> {
        if self.dead_letters_go_to.is_none() {
            return Vec::new();
        }
        let is_dead =
            |message: &Message| message.receive_count >= MAX_RECEIVES && message.is_visible(now);
        self.messages.extract_if(.., |_, message| is_dead(message)).map(|(_, m)| m).collect()
    }

    /// Takes out the oldest visible messages.
    pub(crate) fn take_visible(&mut self, most: u64, now: Timestamp) -> Vec<Message> {
        let mut left = most;
        let taken = self.messages.extract_if(.., |_, message| {
            let take = left > 0 && message.is_visible(now);
            left -= u64::from(take);
            take
        });
        taken.map(|(_, message)| message).collect()
    }

    /// Deletes what has been kept long enough.
    pub(crate) fn expire(&mut self, now: Timestamp) {
        let expired = self.messages.extract_if(.., |_, message| now >= message.sent + RETENTION);
        self.expired.extend(expired.map(|(_, message)| message));
    }

    /// How many messages are visible, in flight and delayed.
    pub(crate) fn counts(&self, now: Timestamp) -> [usize; 3] {
        let count = |f: &dyn Fn(&Message) -> bool| self.messages.values().filter(|m| f(m)).count();
        let (visible, in_flight) = (count(&|m| m.is_visible(now)), count(&|m| m.is_in_flight(now)));
        [visible, in_flight, self.messages.len() - visible - in_flight]
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_visible(&self, now: Timestamp) -> Option<Timestamp> {
        let hidden = self.messages.values().filter(|message| !message.is_visible(now));
        hidden.map(|message| message.visible_from).min()
    }
}

impl Message {
    pub(crate) fn first_received(&self) -> Timestamp {
        self.first_received.unwrap_or(self.sent)
    }
}

fn handle(number: u64, receive: u32) -> String {
    format!("receipt-{number}-{receive}")
}

fn read_handle(handle: &str) -> Option<(u64, u32)> {
    let (number, receive) = handle.strip_prefix("receipt-")?.split_once('-')?;
    Some((number.parse().ok()?, receive.parse().ok()?))
}
