use aws_lambda_events::event::sqs::{SqsMessage, SqsMessageAttribute};
use jiff::Timestamp;
use messages::{DEFERRALS, DEFERRED_SINCE, Event, REDRIVES};
use platform::{Attribute, Message};

/// A message of the batch and what its body says.
#[derive(Debug)]
pub(crate) struct Record<'a> {
    message: &'a SqsMessage,
    /// The events that could be decoded.
    pub(crate) events: Vec<Event>,
    /// Why the others could not.
    pub(crate) undecodable: Option<String>,
}

impl<'a> Record<'a> {
    pub(crate) fn decode(message: &'a SqsMessage) -> Self {
        let mut record = Self { message, events: Vec::new(), undecodable: None };
        let redrives = record.attribute(REDRIVES).and_then(|text| text.parse().ok()).unwrap_or(0);
        for event in messages::decode(message.body.as_deref().unwrap_or_default()) {
            match event {
                Ok(mut event) => {
                    // The dead letter of a failed execution has no attributes; its event has the
                    // count.
                    event.redrives = event.redrives.max(redrives);
                    record.events.push(event);
                }
                Err(error) => record.undecodable = Some(error.to_string()),
            }
        }
        record
    }

    /// `None` for an empty id as well, because an empty identifier in the answer fails the whole
    /// batch.
    pub(crate) fn message_id(&self) -> Option<&'a str> {
        self.message.message_id.as_deref().filter(|id| !id.is_empty())
    }

    pub(crate) fn receipt_handle(&self) -> Option<&'a str> {
        self.message.receipt_handle.as_deref()
    }

    /// The FIFO group, or the tenant of fair queuing.
    pub(crate) fn group(&self) -> Option<&'a str> {
        self.system("MessageGroupId")
    }

    pub(crate) fn receive_count(&self) -> Option<u64> {
        self.system("ApproximateReceiveCount")?.parse().ok()
    }

    pub(crate) fn first_received(&self) -> Option<Timestamp> {
        let millis = self.system("ApproximateFirstReceiveTimestamp")?.parse().ok()?;
        Timestamp::from_millisecond(millis).ok()
    }

    pub(crate) fn deferrals(&self) -> u64 {
        self.attribute(DEFERRALS).and_then(|text| text.parse().ok()).unwrap_or(0)
    }

    /// When the message was first deferred. None if it never was, or if that cannot be read: then
    /// its time begins anew, which keeps the event a while longer and loses nothing.
    pub(crate) fn deferred_since(&self) -> Option<Timestamp> {
        self.attribute(DEFERRED_SINCE)?.parse().ok()
    }

    /// A message with the same body, attributes and group.
    pub(crate) fn copy(&self) -> Message {
        let body = self.message.body.clone().filter(|body| !body.is_empty());
        Message {
            // SQS takes no empty body, and would refuse its neighbours with it.
            body: body.unwrap_or_else(|| "(empty body)".to_owned()),
            attributes: self
                .message
                .message_attributes
                .iter()
                .map(|(name, value)| (name.clone(), attribute(value)))
                .collect(),
            group_id: self.group().map(str::to_owned),
            deduplication_id: self.message_id().map(str::to_owned),
            delay_seconds: None,
        }
    }

    fn attribute(&self, name: &str) -> Option<&'a str> {
        self.message.message_attributes.get(name)?.string_value.as_deref()
    }

    fn system(&self, name: &str) -> Option<&'a str> {
        self.message.attributes.get(name).map(String::as_str)
    }
}

fn attribute(attribute: &SqsMessageAttribute) -> Attribute {
    Attribute {
        data_type: attribute.data_type.clone().unwrap_or_else(|| "String".to_owned()),
        text: attribute.string_value.clone(),
        binary: attribute.binary_value.as_ref().map(|data| data.0.clone()),
    }
}
