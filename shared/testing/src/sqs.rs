//! SQS: standard and FIFO queues, with the limits that its documentation gives.

mod api;
mod queue;

use std::time::Duration;

use aws_smithy_types::base64;
use serde_json::Value;

pub(crate) use api::{NO_MESSAGES, next_change, serve, settle, wait};
pub(crate) use queue::Queue;
pub use queue::{Attribute, Message, MoveTask, Moved};

use crate::{
    Aws, When,
    aws::{ACCOUNT, REGION},
    fault::Turns,
    samples::is_about,
};

/// A queue of the simulated AWS.
#[derive(Debug, Clone)]
pub struct SimulatedQueue {
    aws: Aws,
    name: String,
}

/// What becomes of an entry of a batch call that does not go well.
#[derive(Debug, Clone)]
pub(crate) enum EntryFault {
    /// Listed as failed in an answer with status 200.
    Rejected { code: String, sender_fault: bool },
    /// Not mentioned in the answer, and nothing is done.
    Ignored,
}

/// A fault, and the entries that it happens to.
#[derive(Debug, Clone)]
pub(crate) struct EntryRule {
    operation: &'static str,
    queue: String,
    about: Option<String>,
    turns: Turns,
    fault: EntryFault,
}

/// Entries of batch calls for which something is to go wrong: all of them, until a test narrows them
/// down. The last word says what. Where several apply, the newest does.
#[derive(Debug, Clone)]
#[must_use = "nothing goes wrong until the last word"]
pub struct WhenEntry {
    aws: Aws,
    rule: EntryRule,
}

impl WhenEntry {
    /// Only entries about this key.
    pub fn about(mut self, key: &str) -> Self {
        self.rule.about = Some(key.to_owned());
        self
    }

    /// Only so many of the next entries.
    pub fn times(mut self, times: u32) -> Self {
        self.rule.turns.left = times;
        self
    }

    /// Only every nth entry.
    pub fn one_in(mut self, n: u32) -> Self {
        self.rule.turns.one_in = n;
        self
    }

    /// Listed as failed, by a fault of SQS, which a repeat may cure.
    pub fn is_rejected(self) {
        let code = "InternalError".to_owned();
        self.then(EntryFault::Rejected { code, sender_fault: false });
    }

    /// Listed as failed with this code, by a fault of the sender.
    pub fn is_rejected_for(self, code: &str) {
        self.then(EntryFault::Rejected { code: code.to_owned(), sender_fault: true });
    }

    /// Not mentioned in the answer, and nothing is done.
    pub fn is_ignored(self) {
        self.then(EntryFault::Ignored);
    }

    fn then(mut self, fault: EntryFault) {
        self.rule.fault = fault;
        self.aws.world().entry_rules.push(self.rule);
    }
}

impl SimulatedQueue {
    pub(crate) fn new(aws: &Aws, name: String) -> Self {
        Self { aws: aws.clone(), name }
    }

    pub(crate) fn aws(&self) -> &Aws {
        &self.aws
    }

    pub fn client(&self) -> aws_sdk_sqs::Client {
        self.aws.sqs_client()
    }

    pub fn name(&self) -> &str {
        &self.name
    }

    pub fn url(&self) -> String {
        format!("https://sqs.{REGION}.amazonaws.com/{ACCOUNT}/{}", self.name)
    }

    pub fn arn(&self) -> String {
        arn(&self.name)
    }

    /// The messages that it holds, hidden ones included, the oldest first.
    pub fn messages(&self) -> Vec<Message> {
        self.with(|queue| queue.messages().cloned().collect())
    }

    /// The keys of the objects that its messages are about.
    pub fn keys(&self) -> Vec<String> {
        self.messages().iter().map(Message::key).collect()
    }

    /// How many messages it holds that can be received now.
    pub fn visible(&self) -> usize {
        self.with(|queue| queue.counts()[0])
    }

    /// The messages whose retention has ended, which SQS deletes without a word.
    pub fn expired(&self) -> Vec<Message> {
        self.with(|queue| queue.expired.clone())
    }

    /// A message that is in it. Without an id or a time of sending it gets them now.
    pub fn has(&self, message: Message) {
        let mut world = self.aws.world();
        let (now, number) = (world.now(), world.messages_made);
        world.messages_made += 1;
        if let Some(queue) = world.queues.get_mut(&self.name) {
            queue.put(message, number, now);
        }
        drop(world);
        self.aws.changed().notify_waiters();
    }

    /// The message with this id is received twice: the next receive shows it and does not hide it,
    /// as a standard queue may do.
    pub fn shows_twice(&self, id: &str) {
        self.with(|queue| {
            queue.shown_twice.insert(id.to_owned());
        });
    }

    /// So many further messages are in flight, because somebody else has received them.
    pub fn has_in_flight_elsewhere(&self, count: usize) {
        self.with(|queue| queue.in_flight_elsewhere = count);
    }

    /// What is sent to it starts an execution after this time and is gone, as if a consumer were at
    /// work that nothing hinders.
    pub fn is_consumed_after(&self, time: Duration) {
        self.with(|queue| queue.consumed_after = Some(time));
    }

    /// All messages are gone.
    pub fn is_purged(&self) {
        self.with(Queue::purge);
    }

    /// The queue itself is gone.
    pub fn is_gone(&self) {
        self.aws.world().queues.remove(&self.name);
    }

    /// Messages that were received so often go to its dead-letter queue.
    pub fn is_received_at_most(&self, times: u32) {
        self.with(|queue| queue.max_receives = times);
    }

    /// Messages that were received five times go there.
    pub fn has_dead_letter_queue(&self, other: &Self) {
        self.with(|queue| queue.dead_letters_go_to = Some(other.name.clone()));
    }

    pub fn has_no_dead_letter_queue(&self) {
        self.with(|queue| queue.dead_letters_go_to = None);
    }

    /// The tasks that move its messages, the newest first.
    pub fn move_tasks(&self) -> Vec<MoveTask> {
        self.with(|queue| queue.moves.iter().rev().cloned().collect())
    }

    /// Messages about `key` are rejected in answers with status 200, by a fault of SQS.
    pub fn rejects(&self, key: &str) {
        self.when_sending().about(key).is_rejected();
    }

    /// All messages are rejected so.
    pub fn rejects_all(&self) {
        self.when_sending().is_rejected();
    }

    /// Deletions are rejected, and the messages stay.
    pub fn keeps_all(&self) {
        self.when_deleting().is_rejected();
    }

    /// Entries of `SendMessageBatch`.
    pub fn when_sending(&self) -> WhenEntry {
        self.when_entry("SendMessageBatch")
    }

    /// Entries of `DeleteMessageBatch`.
    pub fn when_deleting(&self) -> WhenEntry {
        self.when_entry("DeleteMessageBatch")
    }

    /// Entries of `ChangeMessageVisibilityBatch`.
    pub fn when_changing_visibility(&self) -> WhenEntry {
        self.when_entry("ChangeMessageVisibilityBatch")
    }

    /// Whole calls about this queue.
    pub fn when(&self, operation: &str) -> When {
        self.aws.when(operation).of_queue(self.url())
    }

    /// No call about this queue is ever answered.
    pub fn is_silent(&self) {
        When::new(&self.aws, None).of_queue(self.url()).is_never_answered();
    }

    /// Takes back everything that a test said should go wrong with this queue.
    pub fn recovers(&self) {
        let mut world = self.aws.world();
        world.entry_rules.retain(|rule| rule.queue != self.name);
        let url = self.url();
        world.rules.retain(|rule| rule.queue_url.as_ref() != Some(&url));
    }

    fn when_entry(&self, operation: &'static str) -> WhenEntry {
        WhenEntry {
            aws: self.aws.clone(),
            rule: EntryRule {
                operation,
                queue: self.name.clone(),
                about: None,
                turns: Turns::ALL,
                fault: EntryFault::Ignored,
            },
        }
    }

    fn with<T: Default>(&self, f: impl FnOnce(&mut Queue) -> T) -> T {
        self.aws.world().queues.get_mut(&self.name).map(f).unwrap_or_default()
    }
}

impl EntryRule {
    /// What happens to this entry, if anything does.
    fn takes(&mut self, operation: &str, queue: &str, body: &str) -> Option<EntryFault> {
        let is_about_it = self.operation == operation
            && self.queue == queue
            && self.about.as_ref().is_none_or(|key| is_about(body, key));
        (is_about_it && self.turns.take()).then(|| self.fault.clone())
    }
}

impl Attribute {
    pub fn text(value: &str) -> Self {
        Self { data_type: "String".to_owned(), text: Some(value.to_owned()), binary: None }
    }

    pub fn number(value: u64) -> Self {
        Self { data_type: "Number".to_owned(), text: Some(value.to_string()), binary: None }
    }

    pub fn binary(value: &[u8]) -> Self {
        Self { data_type: "Binary".to_owned(), text: None, binary: Some(value.to_vec()) }
    }

    fn read(value: &Value) -> Self {
        let text = |name: &str| value[name].as_str().map(str::to_owned);
        Self {
            data_type: text("DataType").unwrap_or_default(),
            text: text("StringValue"),
            binary: text("BinaryValue").map(|binary| base64::decode(binary).expect("Base64")),
        }
    }
}

fn arn(name: &str) -> String {
    format!("arn:aws:sqs:{REGION}:{ACCOUNT}:{name}")
}
