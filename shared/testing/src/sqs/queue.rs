use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use fastrand::Rng;
use jiff::{SignedDuration, Timestamp};
use serde_json::Value;

use super::SimulatedQueue;
use crate::samples::key_of;

/// For how long SQS knows a deduplication id.
const DEDUPLICATION: SignedDuration = SignedDuration::from_mins(5);

/// As the template sets it, on both queues.
const RETENTION: SignedDuration = SignedDuration::from_hours(14 * 24);

/// After so many receives a message moves to the dead-letter queue, unless a test says otherwise.
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
    /// ARN of the queue from which SQS moved it here, because it was received too often there.
    pub moved_from: Option<String>,
    pub(super) first_received: Option<Timestamp>,
    pub(super) place: Place,
}

/// Where a message stands in its queue.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) enum Place {
    /// It can be received.
    #[default]
    Visible,
    /// It was received, and is hidden until then.
    InFlight(Timestamp),
    /// Its sender asked for a delay, and it is hidden until then.
    Delayed(Timestamp),
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
    pub is_cancelled: bool,
}

/// A message that SQS itself has moved to another queue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Moved {
    /// What it was called before.
    pub old_id: String,
    /// The same, unless a move task has made a new message of it.
    pub id: String,
    pub number: u64,
    pub group_id: Option<String>,
    /// The queue on which it is now.
    pub to: String,
}

/// A queue as it was when time last passed. Each step costs what it touches and not what the queue
/// holds, so that a test may have tens of thousands of messages.
#[derive(Debug)]
pub(crate) struct Queue {
    fifo: bool,
    /// By sequence number.
    messages: BTreeMap<u64, Message>,
    /// Each message is in one of these three, by its [`Place`]: its number, and until when.
    visible: BTreeSet<u64>,
    in_flight: BTreeSet<(Timestamp, u64)>,
    delayed: BTreeSet<(Timestamp, u64)>,
    /// Messages that were received as often as a redrive policy allows.
    worn: BTreeSet<u64>,
    /// No message was sent before this.
    none_sent_before: Timestamp,
    /// Ids of messages that the next receive shows and does not hide.
    pub(crate) shown_twice: BTreeSet<String>,
    /// Messages in flight beside those that are here.
    pub(crate) in_flight_elsewhere: usize,
    /// After how long its messages start executions, if they do.
    pub(crate) consumed_after: Option<Duration>,
    pub(crate) expired: Vec<Message>,
    /// Id of the message, and until when, by deduplication id.
    deduplicated: BTreeMap<String, (String, Timestamp)>,
    /// A queue by name.
    pub(crate) dead_letters_go_to: Option<String>,
    /// After so many receives.
    pub(crate) max_receives: u32,
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
            moved_from: None,
            first_received: None,
            place: Place::Visible,
        }
    }

    /// The message about a write to `key`.
    pub fn about(key: &str) -> Self {
        Self::new(&crate::message(key).to_string())
    }

    pub fn id(self, id: &str) -> Self {
        Self { id: id.to_owned(), ..self }
    }

    /// It was sent at this time.
    pub fn sent(self, time: &str) -> Self {
        Self { sent: time.parse().expect("a time"), ..self }
    }

    pub fn group(self, group: &str) -> Self {
        Self { group_id: Some(group.to_owned()), ..self }
    }

    /// SQS moved it out of this queue, where it was received too often.
    pub fn moved_from(self, queue: &SimulatedQueue) -> Self {
        Self { moved_from: Some(queue.arn()), ..self }
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

    pub(crate) fn first_received(&self) -> Timestamp {
        self.first_received.unwrap_or(self.sent)
    }

    fn is_in_flight(&self) -> bool {
        matches!(self.place, Place::InFlight(_))
    }
}

impl MoveTask {
    /// As `ListMessageMoveTasks` names it.
    pub fn status(&self) -> &'static str {
        match self {
            Self { is_cancelled: true, .. } => "CANCELLED",
            Self { moved, to_move, .. } if moved < to_move => "RUNNING",
            _ => "COMPLETED",
        }
    }

    pub(crate) fn is_running(&self) -> bool {
        self.status() == "RUNNING"
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
        Self {
            fifo,
            messages: BTreeMap::new(),
            visible: BTreeSet::new(),
            in_flight: BTreeSet::new(),
            delayed: BTreeSet::new(),
            worn: BTreeSet::new(),
            none_sent_before: Timestamp::MAX,
            shown_twice: BTreeSet::new(),
            in_flight_elsewhere: 0,
            consumed_after: None,
            expired: Vec::new(),
            deduplicated: BTreeMap::new(),
            dead_letters_go_to: None,
            max_receives: MAX_RECEIVES,
            moves: Vec::new(),
            disorder: None,
        }
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
        message.place = match message.delay_seconds {
            None | Some(0) => Place::Visible,
            Some(seconds) => Place::Delayed(now + Duration::from_secs(seconds)),
        };
        self.none_sent_before = self.none_sent_before.min(message.sent);
        self.enter(number, message.place);
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
        if self.in_flight.len() + self.in_flight_elsewhere >= MAX_IN_FLIGHT {
            return None;
        }
        // A group waits while one of its messages is hidden.
        let hidden_numbers = self.in_flight.iter().map(|(_, number)| number);
        let blocked: BTreeSet<&String> = if self.fifo {
            hidden_numbers.filter_map(|n| self.messages[n].group_id.as_ref()).collect()
        } else {
            BTreeSet::new()
        };
        let is_blocked = |number: &u64| {
            self.messages[number].group_id.as_ref().is_some_and(|group| blocked.contains(group))
        };
        let numbers = self.visible.iter().copied().filter(|number| !is_blocked(number));
        let numbers: Vec<u64> = match &mut self.disorder {
            None => numbers.take(most).collect(),
            Some(rng) => {
                let mut groups: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
                let mut numbers: Vec<u64> = numbers.collect();
                if self.fifo {
                    // Groups come in any order, and each of them in its own.
                    for number in numbers {
                        let group = self.messages[&number].group_id.as_deref();
                        groups.entry(group.unwrap_or_default()).or_default().push(number);
                    }
                    let mut groups: Vec<Vec<u64>> = groups.into_values().collect();
                    rng.shuffle(&mut groups);
                    numbers = groups.concat();
                } else {
                    rng.shuffle(&mut numbers);
                }
                numbers.truncate(most);
                numbers
            }
        };
        let received = numbers.into_iter().filter_map(|number| {
            let message = self.messages.get_mut(&number)?;
            message.receive_count += 1;
            message.first_received.get_or_insert(now);
            let received = (handle(number, message.receive_count), message.clone());
            if message.receive_count >= self.max_receives {
                self.worn.insert(number);
            }
            if !self.shown_twice.remove(&received.1.id) {
                self.place(number, Place::InFlight(now + hidden.unwrap_or(VISIBILITY)));
            }
            Some(received)
        });
        Some(received.collect())
    }

    /// Deletes a message. With the handle of an earlier receive, a standard queue confirms the
    /// deletion and keeps the message.
    pub(crate) fn delete(&mut self, handle: &str) -> Result<(), BadHandle> {
        let (number, receive) = read_handle(handle).ok_or(BadHandle::Unreadable)?;
        let Some(message) = self.messages.get(&number) else { return Ok(()) };
        let is_last = message.receive_count == receive;
        if self.fifo && !(is_last && message.is_in_flight()) {
            return Err(BadHandle::Expired);
        }
        if is_last {
            self.remove(number);
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
        let message = self.messages.get(&number).ok_or(BadHandle::NotInFlight)?;
        if message.receive_count != receive || !message.is_in_flight() {
            return Err(BadHandle::NotInFlight);
        }
        self.place(number, Place::InFlight(now + hidden));
        Ok(())
    }

    /// The body of the message that was received with this handle.
    pub(crate) fn body_of(&self, handle: &str) -> Option<&str> {
        let (number, _) = read_handle(handle)?;
        self.messages.get(&number).map(|message| message.body.as_str())
    }

    /// Lets time pass: what was hidden long enough is visible again, and what was kept long enough
    /// is deleted.
    pub(crate) fn pass(&mut self, now: Timestamp) {
        for hidden in [&mut self.in_flight, &mut self.delayed] {
            while hidden.first().is_some_and(|(until, _)| *until <= now) {
                let Some((_, number)) = hidden.pop_first() else { break };
                self.visible.insert(number);
                if let Some(message) = self.messages.get_mut(&number) {
                    message.place = Place::Visible;
                }
            }
        }
        if self.none_sent_before.checked_add(RETENTION).is_ok_and(|end| end <= now) {
            let old = self.messages.iter().filter(|(_, message)| message.sent + RETENTION <= now);
            let old: Vec<u64> = old.map(|(number, _)| *number).collect();
            let expired: Vec<Message> = old.into_iter().filter_map(|n| self.remove(n)).collect();
            self.expired.extend(expired);
            let sent = self.messages.values().map(|message| message.sent);
            self.none_sent_before = sent.min().unwrap_or(Timestamp::MAX);
        }
    }

    /// Takes out what was received too often and is visible again.
    pub(crate) fn take_dead(&mut self) -> Vec<Message> {
        if self.dead_letters_go_to.is_none() {
            return Vec::new();
        }
        let dead: Vec<u64> = self.worn.intersection(&self.visible).copied().collect();
        dead.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Takes out the oldest visible messages.
    pub(crate) fn take_visible(&mut self, most: u64) -> Vec<Message> {
        let most = usize::try_from(most).unwrap_or(usize::MAX);
        let numbers: Vec<u64> = self.visible.iter().copied().take(most).collect();
        numbers.into_iter().filter_map(|number| self.remove(number)).collect()
    }

    /// Takes out what has been consumed by now, and when it was.
    pub(crate) fn take_consumed(&mut self, now: Timestamp) -> Vec<(Timestamp, Message)> {
        let Some(after) = self.consumed_after else { return Vec::new() };
        let consumed = |message: &Message| {
            message.sent + Duration::from_secs(message.delay_seconds.unwrap_or(0)) + after
        };
        let due = self.visible.iter().map(|number| (*number, consumed(&self.messages[number])));
        let due: Vec<(u64, Timestamp)> = due.filter(|(_, at)| *at <= now).collect();
        due.into_iter().filter_map(|(number, at)| Some((at, self.remove(number)?))).collect()
    }

    /// All messages, the oldest first.
    pub(crate) fn messages(&self) -> impl Iterator<Item = &Message> {
        self.messages.values()
    }

    /// All messages are gone.
    pub(crate) fn purge(&mut self) {
        while let Some(number) = self.messages.keys().next().copied() {
            self.remove(number);
        }
    }

    /// How many messages are visible, in flight and delayed.
    pub(crate) fn counts(&self) -> [usize; 3] {
        let in_flight = self.in_flight.len() + self.in_flight_elsewhere;
        [self.visible.len(), in_flight, self.delayed.len()]
    }

    /// When the next hidden message becomes visible.
    pub(crate) fn next_visible(&self) -> Option<Timestamp> {
        let next = [&self.in_flight, &self.delayed].into_iter().filter_map(BTreeSet::first);
        next.map(|(until, _)| *until).min()
    }

    fn remove(&mut self, number: u64) -> Option<Message> {
        let message = self.messages.remove(&number)?;
        self.leave(number, message.place);
        self.worn.remove(&number);
        Some(message)
    }

    /// Moves a message to another place.
    fn place(&mut self, number: u64, place: Place) {
        let Some(message) = self.messages.get_mut(&number) else { return };
        let before = std::mem::replace(&mut message.place, place);
        self.leave(number, before);
        self.enter(number, place);
    }

    fn enter(&mut self, number: u64, place: Place) {
        match place {
            Place::Visible => self.visible.insert(number),
            Place::InFlight(until) => self.in_flight.insert((until, number)),
            Place::Delayed(until) => self.delayed.insert((until, number)),
        };
    }

    fn leave(&mut self, number: u64, place: Place) {
        match place {
            Place::Visible => self.visible.remove(&number),
            Place::InFlight(until) => self.in_flight.remove(&(until, number)),
            Place::Delayed(until) => self.delayed.remove(&(until, number)),
        };
    }
}

fn handle(number: u64, receive: u32) -> String {
    format!("receipt-{number}-{receive}")
}

fn read_handle(handle: &str) -> Option<(u64, u32)> {
    let (number, receive) = handle.strip_prefix("receipt-")?.split_once('-')?;
    Some((number.parse().ok()?, receive.parse().ok()?))
}
