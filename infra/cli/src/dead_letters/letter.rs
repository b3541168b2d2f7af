use std::{collections::BTreeMap, time::Duration};

use aws_sdk_sqs::types::{
    ChangeMessageVisibilityBatchRequestEntry, Message, MessageSystemAttributeName,
};
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{BAD, Manner, STRONG, Verdict, clock, columns, counted, paint, since, span},
};

/// Show one dead letter: its reason, its attributes and its events
///
/// SQS has no way to ask for one message. So letters are received until it is found, hidden for as
/// long as that takes, and shown again.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Event id, message id or object key
    letter: String,
    /// Look into the FIFO dead-letter queue, which a stack with `Ordered=true` has
    #[arg(long)]
    ordered: bool,
    /// Look at no more letters than this
    #[arg(long, value_name = "COUNT", default_value_t = 10_000)]
    max: usize,
}

/// A letter that was found.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Letter {
    message_id: String,
    sent: Option<Timestamp>,
    receive_count: u64,
    group_id: Option<String>,
    attributes: BTreeMap<String, String>,
    events: Vec<Event>,
    body: String,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    id: String,
    execution_name: String,
    key: String,
    version_id: Option<String>,
    time: Timestamp,
}

/// Long enough to look at all of them, short enough to be no harm if this is killed.
const HIDDEN: Duration = Duration::from_mins(2);

impl Show {
    pub(super) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let output = if self.ordered { "OrderedDeadLetterQueueUrl" } else { "DeadLetterQueueUrl" };
        let url = stack.output(output)?;
        let progress = manner.progress("looking through the dead-letter queue");
        let mut receipts = Vec::new();
        let found = self.search(&stack, url, &mut receipts).await;
        // Whatever the search came to.
        show_again(&stack, url, &receipts).await?;
        drop(progress);
        let looked_at = counted(receipts.len() as u64, "letter", "letters");
        let Some(letter) = found? else {
            return Err(Failure::Usage(format!(
                "there is no letter with `{}` among the {looked_at} that were looked at: `sluice trace {}` tells where it is",
                self.letter, self.letter
            )));
        };
        let zone = TimeZone::system();
        manner.print(&letter, |letter| letter.render(Timestamp::now(), &zone))?;
        manner.note(&super::receives(receipts.len() as u64));
        Ok(Verdict::Fine)
    }

    async fn search(
        &self,
        stack: &Stack,
        url: &str,
        receipts: &mut Vec<String>,
    ) -> Result<Option<Letter>, Failure> {
        let mut seen = std::collections::HashSet::new();
        while receipts.len() < self.max {
            let answer = stack
                .sqs
                .receive_message()
                .queue_url(url)
                .max_number_of_messages(10)
                .visibility_timeout(i32::try_from(HIDDEN.as_secs()).unwrap_or(i32::MAX))
                .wait_time_seconds(1)
                .message_attribute_names("All")
                .message_system_attribute_names(MessageSystemAttributeName::All)
                .send()
                .await
                .map_err(Failure::of("sqs:ReceiveMessage"))?;
            let before = seen.len();
            let messages = answer.messages.unwrap_or_default();
            receipts.extend(messages.iter().filter_map(|message| message.receipt_handle.clone()));
            for message in messages {
                seen.insert(message.message_id.clone());
                let letter = Letter::read(message);
                if letter.is(&self.letter) {
                    return Ok(Some(letter));
                }
            }
            // Nothing new: all have been seen, or those seen first come up again.
            if seen.len() == before {
                break;
            }
        }
        Ok(None)
    }
}

async fn show_again(stack: &Stack, url: &str, receipts: &[String]) -> Result<(), Failure> {
    for ten in receipts.chunks(10) {
        let entries = ten.iter().enumerate().map(|(number, receipt)| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(number.to_string())
                .receipt_handle(receipt)
                .visibility_timeout(0)
                .build()
        });
        let entries = entries
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| Failure::Usage(error.to_string()))?;
        stack
            .sqs
            .change_message_visibility_batch()
            .queue_url(url)
            .set_entries(Some(entries))
            .send()
            .await
            .map_err(Failure::of("sqs:ChangeMessageVisibility"))?;
    }
    Ok(())
}

impl Letter {
    fn read(message: Message) -> Self {
        use MessageSystemAttributeName as Name;
        let system = message.attributes.unwrap_or_default();
        let sent = system.get(&Name::SentTimestamp).and_then(|millis| millis.parse().ok());
        let receives = system.get(&Name::ApproximateReceiveCount);
        let body = message.body.unwrap_or_default();
        let events = messages::decode(&body).into_iter().filter_map(Result::ok);
        let attributes = message.message_attributes.unwrap_or_default().into_iter();
        Self {
            message_id: message.message_id.unwrap_or_default(),
            sent: sent.and_then(|millis| Timestamp::from_millisecond(millis).ok()),
            receive_count: receives.and_then(|count| count.parse().ok()).unwrap_or_default(),
            group_id: system.get(&Name::MessageGroupId).cloned(),
            attributes: attributes
                .map(|(name, value)| (name, value.string_value.unwrap_or_default()))
                .collect(),
            events: events
                .map(|event| Event {
                    execution_name: event.execution_name(),
                    id: event.id.to_string(),
                    key: event.data.key,
                    version_id: event.data.version_id,
                    time: event.time,
                })
                .collect(),
            body,
        }
    }

    fn is(&self, wanted: &str) -> bool {
        self.message_id == wanted
            || self.events.iter().any(|event| {
                [&event.id, &event.execution_name, &event.key].iter().any(|name| *name == wanted)
            })
    }

    fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        let attribute = |name: &str| self.attributes.get(name).cloned().unwrap_or_default();
        let mut rows = vec![
            vec!["class".to_owned(), paint(BAD, attribute(messages::ERROR_CLASS))],
            vec!["reason".to_owned(), attribute(messages::ERROR_MESSAGE)],
            vec!["message".to_owned(), self.message_id.clone()],
        ];
        if let Some(sent) = self.sent {
            let ago = span(since(sent, now));
            rows.push(vec!["sent".to_owned(), format!("{}, {ago} ago", clock(sent, now, zone))]);
        }
        rows.push(vec!["received".to_owned(), counted(self.receive_count, "time", "times")]);
        rows.extend(self.group_id.iter().map(|group| vec!["group".to_owned(), group.clone()]));
        let shown = [messages::ERROR_CLASS, messages::ERROR_MESSAGE];
        for (name, value) in
            self.attributes.iter().filter(|(name, _)| !shown.contains(&name.as_str()))
        {
            rows.push(vec![name.clone(), value.clone()]);
        }
        for event in &self.events {
            rows.push(vec!["event".to_owned(), paint(STRONG, &event.execution_name)]);
            rows.push(vec!["  key".to_owned(), event.key.clone()]);
            rows.extend(event.version_id.iter().map(|id| vec!["  version".to_owned(), id.clone()]));
            rows.push(vec!["  written".to_owned(), clock(event.time, now, zone)]);
        }
        if self.events.is_empty() {
            rows.push(vec!["body".to_owned(), crate::output::shortened(&self.body, 2_000)]);
        }
        columns(&rows, &[])
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::types::MessageAttributeValue;

    use super::*;

    const BODY: &str = r#"{"specversion":"1.0","id":"60a564b35e9db02ade816b779bdb953583907372",
        "source":"aws:s3.eu-west-1.b","type":"com.amazonaws.s3.ObjectCreated:Put","subject":"k",
        "time":"2026-11-20T05:00:00Z","data":{"bucket":"b","key":"k","versionId":"v"}}"#;

    fn letter(body: &str) -> Letter {
        let class = MessageAttributeValue::builder().data_type("String").string_value("NotJson");
        Letter::read(
            Message::builder()
                .message_id("m-1")
                .body(body)
                .attributes(MessageSystemAttributeName::SentTimestamp, "1795154400000")
                .attributes(MessageSystemAttributeName::ApproximateReceiveCount, "2")
                .message_attributes("errorClass", class.build().unwrap())
                .build(),
        )
    }

    #[test]
    fn a_letter_is_found_by_each_of_its_names() {
        let letter = letter(BODY);
        for name in ["m-1", "60a564b35e9db02ade816b779bdb953583907372", "k"] {
            assert!(letter.is(name), "{name}");
        }
        assert!(!letter.is("other"));
    }

    #[test]
    fn a_letter_shows_its_reason_and_its_event() {
        let now = Timestamp::from_second(1_795_154_400 + 7_200).unwrap();
        let text = letter(BODY).render(now, &TimeZone::UTC);
        let text = anstream::adapter::strip_str(&text).to_string();
        for part in ["class      NotJson", "received   2 times", "  version  v", "2 h ago"] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // What cannot be decoded is shown as it is.
        let text = letter("{ not JSON").render(now, &TimeZone::UTC);
        assert!(text.contains("{ not JSON"), "{text}");
    }
}
