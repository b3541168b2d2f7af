//! The one place that sends to a queue: batched by both limits, retried entry by entry, and
//! confirmed entry by entry.

use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, LazyLock},
    time::Duration,
};

use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        get_queue_attributes::GetQueueAttributesError, send_message_batch::SendMessageBatchError,
    },
    types::{BatchResultErrorEntry, ChangeMessageVisibilityBatchRequestEntry, QueueAttributeName},
};
use futures::{StreamExt, stream};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::warn;

use crate::{InWords, MAX_MESSAGE_BYTES, Message};

/// Entries in one `SendMessageBatch` call: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>.
const MAX_ENTRIES: usize = 10;

const FIFO_SUFFIX: &str = ".fifo";

/// How often the rejected entries of one batch are sent, and how long to wait in between at most,
/// doubled each time.
const ATTEMPTS: u32 = 4;
const BACKOFF: Duration = Duration::from_millis(100);

/// Calls under way at once. A call takes some 10 ms, so four carry 4,000 messages a second.
const CONCURRENCY: usize = 4;

/// Whether this is the URL of a FIFO queue. Its name ends in `.fifo`, and the name of no other queue
/// has a dot.
pub fn is_fifo(queue_url: &str) -> bool {
    queue_url.ends_with(FIFO_SUFFIX)
}

/// How full a queue is, approximately.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Depth {
    /// All messages, hidden and delayed ones included.
    pub messages: u64,
    pub hidden: u64,
}

/// How full a queue is.
pub async fn depth(
    client: &Client,
    queue_url: &str,
) -> Result<Depth, SdkError<GetQueueAttributesError>> {
    let names = [
        QueueAttributeName::ApproximateNumberOfMessages,
        QueueAttributeName::ApproximateNumberOfMessagesNotVisible,
        QueueAttributeName::ApproximateNumberOfMessagesDelayed,
    ];
    let call = client.get_queue_attributes().queue_url(queue_url);
    let answer = call.set_attribute_names(Some(names.to_vec())).send().await?;
    let attributes = answer.attributes.unwrap_or_default();
    let count = |name| attributes.get(name).and_then(|text: &String| text.parse::<u64>().ok());
    let hidden = count(&QueueAttributeName::ApproximateNumberOfMessagesNotVisible);
    Ok(Depth { messages: names.iter().filter_map(count).sum(), hidden: hidden.unwrap_or(0) })
}

/// Why a message is not known to be on the queue. It may be there all the same: a repeat is
/// harmless, a loss is not.
#[derive(Debug, Clone, thiserror::Error)]
pub enum SendError {
    #[error("the queue rejected the message: {code}: {message}")]
    Rejected { code: String, message: String, sender_fault: bool },
    #[error("the call failed: {}", InWords(&**.0))]
    Call(Arc<SdkError<SendMessageBatchError>>),
    #[error("the answer neither confirms nor rejects the message")]
    Unanswered,
    #[error("no confirmation in time")]
    OutOfTime,
    /// FIFO queues only: the message ahead of it in its group is not confirmed, so this one was not
    /// sent.
    #[error("a message before it in its group is not confirmed")]
    Behind,
}

/// A queue that messages are sent to.
#[derive(Debug, Clone)]
pub struct Queue {
    client: Arc<OnDemand>,
    url: String,
}

type OnDemand = LazyLock<Client, Box<dyn FnOnce() -> Client + Send>>;

impl Queue {
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        let [queue] = Self::on_demand(|| client, [url.into()]);
        queue
    }

    /// Queues that share a client, which their first call makes. It is for a function that mostly
    /// makes no call to them: a client takes as long to make as half of all else that a cold start
    /// does.
    pub fn on_demand<const N: usize>(
        client: impl FnOnce() -> Client + Send + 'static,
        urls: [String; N],
    ) -> [Self; N] {
        let client: Arc<OnDemand> = Arc::new(LazyLock::new(Box::new(client)));
        urls.map(|url| Self { client: Arc::clone(&client), url })
    }

    pub fn is_fifo(&self) -> bool {
        is_fifo(&self.url)
    }

    pub fn url(&self) -> &str {
        &self.url
    }

    /// How full it is.
    pub async fn depth(&self) -> Result<Depth, SdkError<GetQueueAttributesError>> {
        depth(&self.client, &self.url).await
    }

    /// Sends all messages and tells for each, in their order, whether the queue has confirmed it.
    /// Ends by `until`; what is not confirmed then is an error.
    pub async fn send(&self, messages: Vec<Message>, until: Instant) -> Vec<Result<(), SendError>> {
        if self.is_fifo() {
            return self.send_in_order(messages, until).await;
        }
        self.send_batches(messages, until).await
    }

    /// Sends to a FIFO queue: no message before the one ahead of it in its group is confirmed. An
    /// entry that a batch rejects would be overtaken by those behind it in the batch, so a round
    /// holds one message of each group.
    async fn send_in_order(
        &self,
        messages: Vec<Message>,
        until: Instant,
    ) -> Vec<Result<(), SendError>> {
        let mut results = vec![Err(SendError::Behind); messages.len()];
        let mut waiting: Vec<(usize, Message)> = messages.into_iter().enumerate().collect();
        while !waiting.is_empty() {
            let mut groups = HashSet::new();
            let (round, rest): (Vec<_>, Vec<_>) = waiting
                .into_iter()
                .partition(|(_, message)| groups.insert(message.group_id.clone()));
            let (indices, round): (Vec<usize>, Vec<Message>) = round.into_iter().unzip();
            let in_round: Vec<_> = round.iter().map(|message| message.group_id.clone()).collect();
            let answers = self.send_batches(round, until).await;
            for ((index, group), answer) in indices.into_iter().zip(in_round).zip(answers) {
                if answer.is_err() {
                    groups.remove(&group);
                }
                results[index] = answer;
            }
            waiting = rest;
            waiting.retain(|(_, message)| groups.contains(&message.group_id));
        }
        results
    }

    /// Makes received messages visible again after `seconds` instead of at the end of the queue's
    /// visibility timeout. If a call fails, the message comes back when that timeout ends, which is
    /// later but does no harm, so the failure is only logged.
    pub async fn show_after(&self, seconds: u64, receipt_handles: Vec<&str>, until: Instant) {
        let seconds = i32::try_from(seconds).unwrap_or(i32::MAX);
        for receipts in receipt_handles.chunks(MAX_ENTRIES) {
            let entries = receipts.iter().enumerate().map(|(index, receipt)| {
                ChangeMessageVisibilityBatchRequestEntry::builder()
                    .id(index.to_string())
                    .receipt_handle(*receipt)
                    .visibility_timeout(seconds)
                    .build()
            });
            let call = match entries.collect::<Result<Vec<_>, _>>() {
                Ok(entries) => self
                    .client
                    .change_message_visibility_batch()
                    .queue_url(&self.url)
                    .set_entries(Some(entries))
                    .send(),
                Err(error) => {
                    warn!(%error, "visibility not shortened");
                    continue;
                }
            };
            match timeout_at(until, call).await {
                Ok(Ok(answer)) => {
                    for entry in answer.failed {
                        warn!(error = entry.message, "visibility not shortened");
                    }
                }
                Ok(Err(error)) => warn!(error = %InWords(&error), "visibility not shortened"),
                Err(_) => warn!("visibility not shortened: no answer in time"),
            }
        }
    }

    async fn send_batches(
        &self,
        messages: Vec<Message>,
        until: Instant,
    ) -> Vec<Result<(), SendError>> {
        let sizes: Vec<usize> = messages.iter().map(Message::size).collect();
        let mut messages = messages.into_iter();
        let batches: Vec<Vec<Message>> = batch_lengths(&sizes)
            .into_iter()
            .map(|n| messages.by_ref().take(n).collect())
            .collect();
        stream::iter(batches)
            .map(|batch| self.send_batch(batch, until))
            .buffered(CONCURRENCY)
            .collect::<Vec<_>>()
            .await
            .concat()
    }

    /// One batch, the retryable rejections of which are sent again.
    async fn send_batch(&self, batch: Vec<Message>, until: Instant) -> Vec<Result<(), SendError>> {
        let mut results = vec![Err(SendError::OutOfTime); batch.len()];
        let mut left: Vec<usize> = (0..batch.len()).collect();
        for attempt in 0..ATTEMPTS {
            let entries = left.iter().map(|&index| (index, &batch[index]));
            let Ok(answers) = timeout_at(until, self.call(entries.collect())).await else { break };
            left.clear();
            for (index, answer) in answers {
                if answer.as_ref().is_err_and(SendError::is_retryable) {
                    left.push(index);
                }
                results[index] = answer;
            }
            let pause = BACKOFF.mul_f64(f64::from(1 << attempt) * fastrand::f64());
            if left.is_empty() || Instant::now() + pause >= until {
                break;
            }
            sleep(pause).await;
        }
        results
    }

    /// One call, and if the whole of it is refused for what one entry holds, one call for each.
    async fn call(&self, entries: Vec<(usize, &Message)>) -> Vec<(usize, Result<(), SendError>)> {
        let answers = self.call_once(&entries).await;
        let refused =
            |error: &SendError| matches!(error, SendError::Call(error) if blames_an_entry(error));
        if entries.len() == 1
            || !answers.iter().any(|(_, answer)| answer.as_ref().is_err_and(refused))
        {
            return answers;
        }
        let mut answers = Vec::with_capacity(entries.len());
        for entry in entries {
            answers.extend(self.call_once(&[entry]).await);
        }
        answers
    }

    async fn call_once(
        &self,
        entries: &[(usize, &Message)],
    ) -> Vec<(usize, Result<(), SendError>)> {
        let request = entries
            .iter()
            .map(|(index, message)| message.entry(index.to_string(), self.is_fifo()))
            .collect::<Result<Vec<_>, _>>();
        let answer = match request {
            Ok(request) => {
                self.client
                    .send_message_batch()
                    .queue_url(&self.url)
                    .set_entries(Some(request))
                    .send()
                    .await
            }
            Err(error) => Err(SdkError::construction_failure(error)),
        };
        let answer = match answer {
            Ok(answer) => answer,
            Err(error) => {
                let error = SendError::Call(Arc::new(error));
                return entries.iter().map(|&(index, _)| (index, Err(error.clone()))).collect();
            }
        };
        // HTTP 200 says nothing: each entry is confirmed, rejected, or not mentioned.
        let mut results: HashMap<String, Result<(), SendError>> = HashMap::new();
        results.extend(answer.successful.into_iter().map(|entry| (entry.id, Ok(()))));
        results
            .extend(answer.failed.into_iter().map(|entry| (entry.id.clone(), Err(entry.into()))));
        entries
            .iter()
            .map(|&(index, _)| {
                let result = results.remove(&index.to_string());
                (index, result.unwrap_or(Err(SendError::Unanswered)))
            })
            .collect()
    }
}

impl SendError {
    /// Whether the same message may be accepted a moment later. A call that failed as a whole was
    /// already tried several times by the SDK.
    fn is_retryable(&self) -> bool {
        match self {
            Self::Rejected { code, sender_fault, .. } => !sender_fault || code.contains("Throttl"),
            Self::Unanswered => true,
            Self::Call(_) | Self::OutOfTime | Self::Behind => false,
        }
    }
}

impl From<BatchResultErrorEntry> for SendError {
    fn from(entry: BatchResultErrorEntry) -> Self {
        Self::Rejected {
            code: entry.code,
            message: entry.message.unwrap_or_default(),
            sender_fault: entry.sender_fault,
        }
    }
}

/// Whether SQS refused a call for the content of an entry, with which its neighbours have nothing
/// to do.
fn blames_an_entry(error: &SdkError<SendMessageBatchError>) -> bool {
    let code = error.as_service_error().and_then(ProvideErrorMetadata::code).unwrap_or_default();
    [
        "BatchRequestTooLong",
        "InvalidAttributeName",
        "InvalidAttributeValue",
        "InvalidMessageContents",
        "InvalidParameterValue",
        "MissingParameter",
        "UnsupportedOperation",
    ]
    .iter()
    .any(|known| code.contains(known))
}

/// Cuts a list of message sizes into batches, first come first served: the length of each.
fn batch_lengths(sizes: &[usize]) -> Vec<usize> {
    let mut lengths = Vec::new();
    let (mut length, mut bytes) = (0, 0);
    for size in sizes {
        if length == MAX_ENTRIES || (length > 0 && bytes + size > MAX_MESSAGE_BYTES) {
            lengths.push(length);
            (length, bytes) = (0, 0);
        }
        length += 1;
        bytes += size;
    }
    if length > 0 {
        lengths.push(length);
    }
    lengths
}

#[cfg(test)]
mod tests;
