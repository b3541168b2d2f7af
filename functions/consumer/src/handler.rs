use std::time::Duration;

use aws_lambda_events::event::sqs::{SqsBatchResponse, SqsEvent, SqsMessage, SqsMessageAttribute};
use futures::{StreamExt, stream};
use jiff::Timestamp;
use messages::{DEFERRALS, DEFERRED_SINCE, ERROR_CLASS, ERROR_MESSAGE, ErrorClass};
use platform::{Attribute, Deadline, Message, Metrics, Queue, SendError};
use tokio::time::Instant;

use crate::{
    Config, Outcome,
    batch::{Batch, Item},
    decision::Decision,
    metrics,
};

/// Kept for sending copies and dead letters, and behind that for the answer.
const SETTLE_RESERVE: Duration = Duration::from_secs(4);
const ANSWER_RESERVE: Duration = Duration::from_millis(500);

/// Starts executions for the messages of the work queue.
#[derive(Debug, Clone)]
pub struct Consumer {
    pub config: Config,
    pub metrics: Metrics,
    pub step_functions: aws_sdk_sfn::Client,
    pub s3: aws_sdk_s3::Client,
    pub work_queue: Queue,
    pub dead_letter_queue: Queue,
}

#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("a record that failed has no message id, so the whole batch has to come back")]
    UnnamedRecord,
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        Self { error_type: "UnnamedRecord".to_owned(), error_message: error.to_string() }
    }
}

impl Consumer {
    /// Consumes a batch and names the records that SQS has to deliver again. Every record has
    /// exactly one [`Outcome`]; nothing is acknowledged that is not confirmed to be elsewhere.
    pub async fn handle(
        &self,
        event: SqsEvent,
        deadline: Deadline,
        now: Timestamp,
    ) -> Result<SqsBatchResponse, Error> {
        let items: Vec<Item<'_>> = event.records.iter().map(Item::new).collect();
        let outcomes = self.consume(&items, deadline, now).await;

        let reported = items.iter().map(|item| item.events.as_slice()).zip(&outcomes);
        metrics::publish(&self.metrics, now, reported);
        let mut response = SqsBatchResponse::default();
        for (item, outcome) in items.iter().zip(&outcomes) {
            outcome.report(item.record, &item.events);
            if outcome.is_settled() {
                continue;
            }
            match item.record.message_id.as_deref() {
                // An empty identifier would fail the whole batch in any case, and less clearly.
                Some(id) if !id.is_empty() => response.add_failure(id),
                _ => return Err(Error::UnnamedRecord),
            }
        }
        Ok(response)
    }

    /// One outcome for each item, in their order.
    async fn consume(
        &self,
        items: &[Item<'_>],
        deadline: Deadline,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let batch = Batch::new(self, deadline.before(SETTLE_RESERVE));
        let settle_by = deadline.before(ANSWER_RESERVE);
        let concurrency = self.config.start_concurrency;
        if self.work_queue.is_fifo() {
            let groups = groups(items);
            let outcomes = stream::iter(groups)
                .map(|group| self.consume_group(&batch, group, items, settle_by, now))
                .buffer_unordered(concurrency);
            return in_order(outcomes.collect::<Vec<_>>().await.concat());
        }
        // Decide first, settle last: a crash in between leaves a copy and its original, so the time
        // in between is as short as one call.
        let decisions: Vec<_> = stream::iter(items.iter().enumerate())
            .map(async |(index, item)| (index, batch.decide(item).await))
            .buffer_unordered(concurrency)
            .collect()
            .await;
        let decided = items.iter().zip(in_order(decisions)).collect();
        self.settle(decided, settle_by, now).await
    }

    /// One FIFO group, strictly in order: what stands behind a failure must not overtake it.
    async fn consume_group(
        &self,
        batch: &Batch<'_>,
        group: Vec<usize>,
        items: &[Item<'_>],
        settle_by: Instant,
        now: Timestamp,
    ) -> Vec<(usize, Outcome)> {
        let mut outcomes = Vec::with_capacity(group.len());
        let mut blocked = false;
        for index in group {
            let item = &items[index];
            let outcome = if blocked {
                Outcome::Failed { error: "behind a failed message of its group".to_owned() }
            } else {
                let decision = match batch.decide(item).await {
                    // A delayed copy would be overtaken, and FIFO queues allow no delay anyway.
                    Decision::Defer { cause, message, .. } => {
                        Decision::fail(format_args!("{cause}: {message}"))
                    }
                    decision => decision,
                };
                let settled = self.settle(vec![(item, decision)], settle_by, now).await;
                settled
                    .into_iter()
                    .next()
                    .unwrap_or(Outcome::Failed { error: "not settled".to_owned() })
            };
            blocked = !outcome.is_settled();
            outcomes.push((index, outcome));
        }
        outcomes
    }

    /// Turns decisions into outcomes: copies and dead letters go out together, and what their queue
    /// does not confirm has failed.
    async fn settle(
        &self,
        decided: Vec<(&Item<'_>, Decision)>,
        until: Instant,
        now: Timestamp,
    ) -> Vec<Outcome> {
        let mut outcomes = Vec::with_capacity(decided.len());
        let (mut copies, mut deferred) = (Vec::new(), Vec::new());
        let (mut letters, mut buried) = (Vec::new(), Vec::new());
        for (index, (item, decision)) in decided.into_iter().enumerate() {
            let outcome = match self.expire(item.record, decision, now) {
                Decision::Executed { started: 0, duplicates: 1.. } => Outcome::Duplicate,
                Decision::Executed { started, .. } => Outcome::Started { executions: started },
                Decision::Fail { error } => Outcome::Failed { error },
                Decision::DeadLetter { class, message } => {
                    letters.push(self.dead_letter(item.record, class, &message));
                    buried.push(index);
                    Outcome::DeadLettered { class, message }
                }
                Decision::Defer { cause, message, .. } => {
                    let (copy, delay_seconds) = self.deferred_copy(item.record, now);
                    copies.push(copy);
                    deferred.push(index);
                    Outcome::Deferred { cause, message, delay_seconds }
                }
            };
            outcomes.push(outcome);
        }
        let (copies, letters) = futures::join!(
            self.work_queue.send(copies, until),
            self.dead_letter_queue.send(letters, until)
        );
        let sent = deferred.into_iter().zip(copies).chain(buried.into_iter().zip(letters));
        for (index, confirmation) in sent {
            if let Err(error) = confirmation {
                outcomes[index] = unconfirmed(&outcomes[index], &error);
            }
        }
        outcomes
    }

    /// Ends a deferral that has lasted too long in the dead-letter queue, from where the nightly
    /// redrive takes over. What counts is the time since the first deferral and not the age of the
    /// event, which may have waited for days in a queue that nobody read. And only a record that was
    /// itself refused can expire: its neighbours have not been tried.
    fn expire(&self, record: &SqsMessage, decision: Decision, now: Timestamp) -> Decision {
        let Decision::Defer { cause, message, tried: true } = &decision else { return decision };
        let Some(since) = deferred_since(record) else { return decision };
        let spent = now.duration_since(since).unsigned_abs();
        if now < since || spent < self.config.max_deferral {
            return decision;
        }
        Decision::dead_letter(
            ErrorClass::DeferredTooLong,
            format_args!("{cause} for {} hours: {message}", spent.as_secs() / 3600),
        )
    }

    fn deferred_copy(&self, record: &SqsMessage, now: Timestamp) -> (Message, u64) {
        let mut copy = Self::copy(record, &self.work_queue);
        let deferrals = copy.number(DEFERRALS);
        let delay = self.config.deferral_seconds(deferrals, fastrand::f64());
        copy.set(DEFERRALS, Attribute::number(deferrals.saturating_add(1)));
        let since = deferred_since(record).unwrap_or(now);
        copy.set(DEFERRED_SINCE, Attribute::text(&since.to_string()));
        copy.delay_seconds = i32::try_from(delay).ok();
        (copy, delay)
    }

    fn dead_letter(&self, record: &SqsMessage, class: ErrorClass, message: &str) -> Message {
        let mut letter = Self::copy(record, &self.dead_letter_queue);
        letter.set(ERROR_CLASS, Attribute::text(class.as_str()));
        letter.set(ERROR_MESSAGE, Attribute::text(message));
        letter
    }

    /// The same body, attributes and group.
    fn copy(record: &SqsMessage, to: &Queue) -> Message {
        let body = record.body.clone().filter(|body| !body.is_empty());
        let attributes = record.message_attributes.iter();
        Message {
            // SQS takes no empty body, and would refuse its neighbours with it.
            body: body.unwrap_or_else(|| "(empty body)".to_owned()),
            attributes: attributes.map(|(name, value)| (name.clone(), attribute(value))).collect(),
            group_id: record.attributes.get("MessageGroupId").cloned(),
            deduplication_id: to.is_fifo().then(|| record.message_id.clone()).flatten(),
            delay_seconds: None,
        }
    }
}

/// When the record was first deferred. None if it never was, or if that cannot be read: then its
/// time begins anew, which keeps the event a while longer and loses nothing.
fn deferred_since(record: &SqsMessage) -> Option<Timestamp> {
    record.message_attributes.get(DEFERRED_SINCE)?.string_value.as_ref()?.parse().ok()
}

fn attribute(attribute: &SqsMessageAttribute) -> Attribute {
    Attribute {
        data_type: attribute.data_type.clone().unwrap_or_else(|| "String".to_owned()),
        text: attribute.string_value.clone(),
        binary: attribute.binary_value.as_ref().map(|data| data.0.clone()),
    }
}

fn unconfirmed(outcome: &Outcome, error: &SendError) -> Outcome {
    let error = match outcome {
        Outcome::DeadLettered { class, message } => format!("{class} ({message}), and {error}"),
        Outcome::Deferred { cause, message, .. } => format!("{cause} ({message}), and {error}"),
        _ => error.to_string(),
    };
    Outcome::Failed { error }
}

/// The indices of each FIFO group, in order. A record without a group is one of its own.
fn groups(items: &[Item<'_>]) -> Vec<Vec<usize>> {
    let mut groups: Vec<(Option<&String>, Vec<usize>)> = Vec::new();
    for (index, item) in items.iter().enumerate() {
        let id = item.record.attributes.get("MessageGroupId");
        match groups.iter_mut().find(|(group, _)| id.is_some() && *group == id) {
            Some((_, indices)) => indices.push(index),
            None => groups.push((id, vec![index])),
        }
    }
    groups.into_iter().map(|(_, indices)| indices).collect()
}

fn in_order<T>(mut indexed: Vec<(usize, T)>) -> Vec<T> {
    indexed.sort_by_key(|(index, _)| *index);
    indexed.into_iter().map(|(_, value)| value).collect()
}
