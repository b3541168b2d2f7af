//! What is sent to a queue: the one place that knows how a message of Sluice is put together.

use std::collections::HashMap;

use aws_sdk_sqs::{
    error::BuildError,
    primitives::Blob,
    types::{MessageAttributeValue, SendMessageBatchRequestEntry},
};
use messages::{DEFERRALS, DEFERRED_SINCE, ERROR_CLASS, ERROR_MESSAGE, Event, REDRIVES};
use tracing::warn;

/// Bytes of a message and of all messages of a call, attributes included, and attributes of a
/// message: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>.
pub const MAX_MESSAGE_BYTES: usize = 1_048_576;
const MAX_ATTRIBUTES: usize = 10;

/// The most characters of an attribute that explains something.
const MAX_TEXT_CHARS: usize = 1_000;

/// Attributes that describe one journey from the work queue to where it ends. They do not travel on
/// to the next one, which begins with a redrive, a restore or a split.
const OF_ONE_JOURNEY: [&str; 4] = [DEFERRALS, DEFERRED_SINCE, ERROR_CLASS, ERROR_MESSAGE];

/// A message to send.
#[derive(Debug, Clone, Default)]
pub struct Message {
    pub body: String,
    pub attributes: HashMap<String, Attribute>,
    /// On a standard queue the tenant of fair queuing, on a FIFO queue the group that keeps order.
    pub group_id: Option<String>,
    /// Sent to FIFO queues only.
    pub deduplication_id: Option<String>,
    /// Sent to standard queues only, 900 seconds at most. A FIFO queue has no delay for a single
    /// message.
    pub delay_seconds: Option<i32>,
}

/// A message attribute. SQS knows the types String, Number and Binary, each with an optional label
/// after a dot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Attribute {
    pub data_type: String,
    pub text: Option<String>,
    pub binary: Option<Vec<u8>>,
}

impl Attribute {
    /// Text that explains: cut short, and made to fit, since SQS refuses an empty value and most
    /// control characters.
    pub fn text(value: &str) -> Self {
        let clean = value.chars().take(MAX_TEXT_CHARS).map(|c| match c {
            '\t' | '\n' | '\r' | '\u{20}'..='\u{FFFD}' | '\u{10000}'.. => c,
            _ => char::REPLACEMENT_CHARACTER,
        });
        let text = Some(clean.collect()).filter(|text: &String| !text.is_empty());
        let text = text.or_else(|| Some("-".to_owned()));
        Self { data_type: "String".to_owned(), text, binary: None }
    }

    pub fn number(value: u64) -> Self {
        Self { data_type: "Number".to_owned(), text: Some(value.to_string()), binary: None }
    }

    fn to_sdk(&self) -> Result<MessageAttributeValue, BuildError> {
        MessageAttributeValue::builder()
            .data_type(&self.data_type)
            .set_string_value(self.text.clone())
            .set_binary_value(self.binary.clone().map(Blob::new))
            .build()
    }
}

impl Message {
    /// The message of an event: its group is the device, and on a FIFO queue SQS takes one message
    /// under each execution name in five minutes.
    pub fn of_event(event: &Event, group_key_segments: usize) -> Result<Self, serde_json::Error> {
        Ok(Self {
            body: event.to_json()?,
            group_id: Some(event.group(group_key_segments)),
            deduplication_id: Some(event.execution_name()),
            ..Self::default()
        })
    }

    /// The message as a dead letter, with the reason. The reason is shortened or left out where the
    /// message has no room for it: a letter without a reason is better than none.
    #[must_use]
    pub fn dead_letter(mut self, class: &str, reason: &str) -> Self {
        self.delay_seconds = None;
        self.set(ERROR_CLASS, Attribute::text(class));
        let room =
            MAX_MESSAGE_BYTES.saturating_sub(self.size() + ERROR_MESSAGE.len() + "String".len());
        let mut reason = Attribute::text(reason);
        if let Some(text) = &mut reason.text {
            text.truncate(text.floor_char_boundary(room));
        }
        self.attributes.remove(ERROR_MESSAGE);
        if reason.text.as_ref().is_some_and(|text| !text.is_empty()) {
            self.set(ERROR_MESSAGE, reason);
        }
        if self.size() > MAX_MESSAGE_BYTES {
            self.attributes.remove(ERROR_MESSAGE);
            self.attributes.remove(ERROR_CLASS);
        }
        self
    }

    /// Removes the attributes that describe the journey so far.
    pub fn begin_journey(&mut self) {
        self.attributes.retain(|name, _| !OF_ONE_JOURNEY.contains(&name.as_str()));
    }

    /// What SQS counts: body, and of each attribute name, type and value, in bytes of UTF-8.
    pub fn size(&self) -> usize {
        let attribute = |(name, attribute): (&String, &Attribute)| {
            name.len()
                + attribute.data_type.len()
                + attribute.text.as_ref().map_or(0, String::len)
                + attribute.binary.as_ref().map_or(0, Vec::len)
        };
        self.body.len() + self.attributes.iter().map(attribute).sum::<usize>()
    }

    /// The value of an attribute that counts something; 0 without one.
    pub fn number(&self, name: &str) -> u64 {
        let attribute = self.attributes.get(name).and_then(|attribute| attribute.text.as_ref());
        attribute.and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// Sets an attribute of ours. A message has ten at most, so one that came from elsewhere may
    /// have to go: it describes the message, and is not the message.
    pub fn set(&mut self, name: &str, attribute: Attribute) {
        if self.attributes.len() >= MAX_ATTRIBUTES && !self.attributes.contains_key(name) {
            let foreign = self.attributes.keys().filter(|name| !is_ours(name));
            if let Some(dropped) = foreign.max().cloned() {
                warn!(attribute = dropped, "message attribute dropped to make room");
                self.attributes.remove(&dropped);
            }
        }
        self.attributes.insert(name.to_owned(), attribute);
    }

    pub(crate) fn entry(
        &self,
        id: String,
        fifo: bool,
    ) -> Result<SendMessageBatchRequestEntry, BuildError> {
        let mut entry = SendMessageBatchRequestEntry::builder();
        for (name, attribute) in &self.attributes {
            entry = entry.message_attributes(name, attribute.to_sdk()?);
        }
        entry
            .id(id)
            .message_body(&self.body)
            .set_message_group_id(self.group_id.clone())
            .set_message_deduplication_id(self.deduplication_id.clone().filter(|_| fifo))
            .set_delay_seconds(self.delay_seconds.filter(|_| !fifo))
            .build()
    }
}

fn is_ours(attribute: &str) -> bool {
    attribute == REDRIVES || OF_ONE_JOURNEY.contains(&attribute)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn explaining_text_is_always_one_that_the_queue_accepts() {
        let text = |value| Attribute::text(value).text.expect("text");
        assert_eq!(text(""), "-");
        assert_eq!(text("a\0b\u{FFFF}c"), "a\u{FFFD}b\u{FFFD}c");
        assert_eq!(text(&"한".repeat(MAX_TEXT_CHARS + 1)).chars().count(), MAX_TEXT_CHARS);
    }

    #[test]
    fn the_message_of_an_event_has_a_group_and_goes_out_once() {
        let event = messages::decode(&testing::message("in/42/a.json").to_string());
        let event = event.into_iter().next().expect("one").expect("an event");
        let message = Message::of_event(&event, 2).expect("JSON");
        assert_eq!(message.body, event.to_json().expect("JSON"));
        assert_eq!(message.group_id.as_deref(), Some("in/42"));
        assert_eq!(message.deduplication_id.as_deref(), Some(event.id.as_str()));
    }

    #[test]
    fn a_reason_takes_the_room_that_is_left() {
        let image = Attribute { data_type: "Binary".into(), text: None, binary: Some(vec![0; 3]) };
        let attributes = [("n".to_owned(), image)].into();
        let body = "b".repeat(MAX_MESSAGE_BYTES - 100);
        let message = Message { body, attributes, ..Message::default() };
        assert_eq!(message.size(), MAX_MESSAGE_BYTES - 100 + "n".len() + "Binary".len() + 3);
        assert_eq!(message.dead_letter("C", &"x".repeat(200)).size(), MAX_MESSAGE_BYTES);
    }

    #[test]
    fn an_attribute_of_ours_finds_room_among_ten_others() {
        let attributes = (0..MAX_ATTRIBUTES).map(|n| (n.to_string(), Attribute::text("theirs")));
        let mut message = Message { attributes: attributes.collect(), ..Message::default() };
        message.set(DEFERRALS, Attribute::number(1));
        message.set(REDRIVES, Attribute::number(2));
        message.set(DEFERRALS, Attribute::number(3));
        assert_eq!(message.attributes.len(), MAX_ATTRIBUTES);
        assert_eq!((message.number(DEFERRALS), message.number(REDRIVES)), (3, 2));
    }
}
