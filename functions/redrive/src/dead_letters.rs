//! The one place that talks to the dead-letter queue.

use std::collections::HashMap;

use aws_sdk_sqs::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::get_queue_attributes::GetQueueAttributesError,
    types::{
        ChangeMessageVisibilityBatchRequestEntry, DeleteMessageBatchRequestEntry,
        ListMessageMoveTasksResultEntry, Message as SqsMessage, MessageSystemAttributeName,
        QueueAttributeName,
    },
};
use jiff::Timestamp;
use platform::{Attribute, Depth, InWords};
use tracing::warn;

use crate::{Error, failed_execution::FailedExecution};

/// Messages of one call: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-messages.html>.
pub(crate) const MAX_MESSAGES: u8 = 10;

/// Long polling asks all servers of a queue, so that an empty answer means an empty queue.
const WAIT_SECONDS: i32 = 1;

/// The highest rate of a move task.
const MAX_MOVES_PER_SECOND: u32 = 500;

/// How often rejected entries of a batch are sent.
const ATTEMPTS: usize = 3;

/// A message of the dead-letter queue.
#[derive(Debug, Clone)]
pub struct DeadLetter {
    pub message_id: String,
    pub receipt_handle: String,
    pub body: String,
    pub attributes: HashMap<String, Attribute>,
    pub group_id: Option<String>,
    /// When it was enqueued. A standard queue keeps this time when it moves a message to its
    /// dead-letter queue; a FIFO queue starts anew.
    pub sent: Timestamp,
    pub receive_count: u64,
    /// Whether SQS moved it here itself, because it was received too often. Then its attributes are
    /// those with which it was on the work queue.
    pub moved_by_sqs: bool,
    /// What its body says about a failed execution.
    pub(crate) failed_execution: Option<FailedExecution>,
}

#[derive(Debug, Clone)]
pub struct DeadLetterQueue {
    client: Client,
    url: String,
}

impl DeadLetterQueue {
    pub fn new(client: Client, url: impl Into<String>) -> Self {
        Self { client, url: url.into() }
    }

    pub(crate) fn is_fifo(&self) -> bool {
        platform::is_fifo(&self.url)
    }

    /// Receives up to ten messages and hides them for `hidden_seconds`.
    pub(crate) async fn receive(
        &self,
        most: u8,
        hidden_seconds: i32,
    ) -> Result<Vec<DeadLetter>, Error> {
        let answer = self
            .client
            .receive_message()
            .queue_url(&self.url)
            .max_number_of_messages(i32::from(most.clamp(1, MAX_MESSAGES)))
            .wait_time_seconds(WAIT_SECONDS)
            .visibility_timeout(hidden_seconds)
            .message_system_attribute_names(MessageSystemAttributeName::All)
            .message_attribute_names("All")
            .send()
            .await
            .map_err(|error| Error::Receive(Box::new(error)))?;
        Ok(answer.messages.unwrap_or_default().into_iter().filter_map(read).collect())
    }

    /// Deletes messages and tells which are confirmed to be gone, in their order.
    pub(crate) async fn delete(&self, receipt_handles: &[&str]) -> Vec<bool> {
        let entry = |index: usize| {
            DeleteMessageBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt_handles[index])
                .build()
        };
        confirmed_entries(receipt_handles.len(), entry, async |entries| {
            let call = self.client.delete_message_batch().queue_url(&self.url);
            let answer = call.set_entries(Some(entries)).send().await;
            answer.map(|answer| ids(answer.successful, |entry| entry.id))
        })
        .await
    }

    /// Makes messages visible again at once. Those that are not confirmed become visible when the
    /// time for which they were hidden is over.
    pub(crate) async fn release(&self, receipt_handles: &[&str]) -> Vec<bool> {
        let entry = |index: usize| {
            ChangeMessageVisibilityBatchRequestEntry::builder()
                .id(index.to_string())
                .receipt_handle(receipt_handles[index])
                .visibility_timeout(0)
                .build()
        };
        confirmed_entries(receipt_handles.len(), entry, async |entries| {
            let call = self.client.change_message_visibility_batch().queue_url(&self.url);
            let answer = call.set_entries(Some(entries)).send().await;
            answer.map(|answer| ids(answer.successful, |entry| entry.id))
        })
        .await
    }

    /// The queue's own ARN.
    pub(crate) async fn arn(&self) -> Result<String, Error> {
        let answer = self
            .client
            .get_queue_attributes()
            .queue_url(&self.url)
            .attribute_names(QueueAttributeName::QueueArn)
            .send()
            .await
            .map_err(|error| Error::Attributes(Box::new(error)))?;
        let arn = answer.attributes.unwrap_or_default().remove(&QueueAttributeName::QueueArn);
        arn.ok_or_else(|| Error::Move("the dead-letter queue did not tell its ARN".to_owned()))
    }

    /// Has SQS move all messages; the handle of the task.
    pub(crate) async fn start_move(
        &self,
        source: &str,
        destination: &str,
        max_per_second: Option<u32>,
    ) -> Result<String, Error> {
        let rate = max_per_second.map(|rate| i32::try_from(rate.min(MAX_MOVES_PER_SECOND)));
        let answer = self
            .client
            .start_message_move_task()
            .source_arn(source)
            .destination_arn(destination)
            .set_max_number_of_messages_per_second(rate.and_then(Result::ok))
            .send()
            .await
            .map_err(|error| {
                // The code of both is that of any bad parameter.
                let message = error.message().unwrap_or_default();
                Error::Move(if message.contains("already a task running") {
                    format!(
                        "a move task is active already, and {source} may have one at a time: wait \
                         for it, or stop it with CancelMessageMoveTask"
                    )
                } else if message.contains("configured as a Dead Letter Queue") {
                    format!(
                        "SQS moves messages out of dead-letter queues only, and no queue has \
                         {source} as its dead-letter queue"
                    )
                } else {
                    format!("cannot start a move task: {}", InWords(&error))
                })
            })?;
        Ok(answer.task_handle.unwrap_or_default())
    }

    /// The newest move task.
    pub(crate) async fn move_task(
        &self,
        source: &str,
    ) -> Result<Option<ListMessageMoveTasksResultEntry>, Error> {
        let call = self.client.list_message_move_tasks().source_arn(source).max_results(1);
        let answer = call.send().await.map_err(|error| {
            let error = InWords(&error);
            Error::Move(format!("cannot tell how the move task is doing: {error}"))
        })?;
        Ok(answer.results.unwrap_or_default().into_iter().next())
    }

    /// Stops a move task.
    pub(crate) async fn cancel_move(&self, task_handle: &str) -> Result<(), Error> {
        let call = self.client.cancel_message_move_task().task_handle(task_handle);
        call.send().await.map(|_| ()).map_err(|error| {
            let error = InWords(&error);
            Error::Move(format!("cannot cancel the move task: {error}"))
        })
    }

    /// How full the queue is.
    pub(crate) async fn depth(&self) -> Result<Depth, SdkError<GetQueueAttributesError>> {
        platform::depth(&self.client, &self.url).await
    }
}

fn ids<T>(entries: Vec<T>, id: impl Fn(T) -> String) -> Vec<String> {
    entries.into_iter().map(id).collect()
}

/// Calls in batches of ten, sends again what an answer does not list as successful, and tells for
/// each entry whether it was confirmed.
async fn confirmed_entries<Entry, BuildError, CallError>(
    total: usize,
    entry: impl Fn(usize) -> Result<Entry, BuildError>,
    call: impl AsyncFn(Vec<Entry>) -> Result<Vec<String>, SdkError<CallError>>,
) -> Vec<bool>
where
    CallError: ProvideErrorMetadata + std::error::Error + 'static,
{
    let mut confirmed = vec![false; total];
    let indices: Vec<usize> = (0..total).collect();
    for batch in indices.chunks(usize::from(MAX_MESSAGES)) {
        for _ in 0..ATTEMPTS {
            let left: Vec<usize> =
                batch.iter().copied().filter(|&index| !confirmed[index]).collect();
            let entries: Vec<Entry> = left.iter().filter_map(|&index| entry(index).ok()).collect();
            if entries.is_empty() {
                break;
            }
            match call(entries).await {
                Ok(ids) => {
                    for index in ids.iter().filter_map(|id| id.parse::<usize>().ok()) {
                        if let Some(confirmed) = confirmed.get_mut(index) {
                            *confirmed = true;
                        }
                    }
                }
                // The SDK has tried several times.
                Err(error) => {
                    let error = InWords(&error);
                    warn!(error = %error, "batch call on the dead-letter queue failed");
                    break;
                }
            }
        }
    }
    confirmed
}

/// None if the message lacks what is needed to delete it later, which SQS always sends.
fn read(message: SqsMessage) -> Option<DeadLetter> {
    let system = message.attributes.unwrap_or_default();
    let number = |name| system.get(&name).and_then(|text| text.parse::<i64>().ok());
    // Without a time it counts as new, and stays where it is.
    let sent = number(MessageSystemAttributeName::SentTimestamp);
    let sent = sent.and_then(|millis| Timestamp::from_millisecond(millis).ok());
    let receive_count = number(MessageSystemAttributeName::ApproximateReceiveCount);
    let attributes = message.message_attributes.unwrap_or_default().into_iter();
    let body = message.body.unwrap_or_default();
    Some(DeadLetter {
        message_id: message.message_id?,
        receipt_handle: message.receipt_handle?,
        moved_by_sqs: system.contains_key(&MessageSystemAttributeName::DeadLetterQueueSourceArn),
        failed_execution: FailedExecution::read(&body),
        body,
        attributes: attributes
            .map(|(name, value)| {
                let attribute = Attribute {
                    data_type: value.data_type,
                    text: value.string_value,
                    binary: value.binary_value.map(aws_sdk_sqs::primitives::Blob::into_inner),
                };
                (name, attribute)
            })
            .collect(),
        group_id: system.get(&MessageSystemAttributeName::MessageGroupId).cloned(),
        sent: sent.unwrap_or(Timestamp::MAX),
        receive_count: receive_count.and_then(|count| count.try_into().ok()).unwrap_or(0),
    })
}
