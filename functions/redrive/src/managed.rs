//! Mode `managed`: SQS moves the messages itself. Fast and free of calls, without selection, count,
//! archive or canary: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/APIReference/API_StartMessageMoveTask.html>.

use std::time::Duration;

use aws_sdk_sqs::types::ListMessageMoveTasksResultEntry;
use serde::Serialize;
use tokio::time::{Instant, sleep};
use tracing::info;

use crate::{DeadLetterQueue, Error};

const LOOK_EVERY: Duration = Duration::from_secs(5);

/// What is known of a move task when the function answers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Moved {
    /// With this, `CancelMessageMoveTask` stops the task.
    pub task_handle: String,
    /// `RUNNING` if the function's time was up first: the task goes on by itself.
    pub status: String,
    /// About how many messages.
    pub moved: i64,
    pub to_move: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub failure_reason: Option<String>,
}

/// How the newest move task is doing.
pub(crate) async fn state(queue: &DeadLetterQueue) -> Result<Moved, Error> {
    let source = queue.arn().await?;
    let task = queue.move_task(&source).await?;
    let task = task.ok_or_else(|| Error::Move(format!("{source} has had no move task")))?;
    Ok(Moved::from(task))
}

/// Stops the move task that is under way. What it has moved stays moved.
pub(crate) async fn cancel(queue: &DeadLetterQueue) -> Result<Moved, Error> {
    let moved = state(queue).await?;
    if moved.status != "RUNNING" {
        let status = moved.status;
        return Err(Error::Move(format!("no move task is running: the newest is {status}")));
    }
    queue.cancel_move(&moved.task_handle).await?;
    Ok(Moved { status: "CANCELLING".to_owned(), ..moved })
}

/// Starts a move task and watches it until it ends, or time is up.
pub(crate) async fn run(
    queue: &DeadLetterQueue,
    work_queue_url: &str,
    max_per_second: Option<u32>,
    until: Instant,
) -> Result<Moved, Error> {
    let source = queue.arn().await?;
    let destination = neighbour(&source, work_queue_url);
    let task_handle = queue.start_move(&source, &destination, max_per_second).await?;
    let mut moved = Moved { task_handle, status: "RUNNING".to_owned(), ..Moved::default() };
    loop {
        if let Some(task) = queue.move_task(&source).await? {
            // Only a task that runs has its handle here.
            moved = Moved { task_handle: moved.task_handle, ..Moved::from(task) };
        }
        info!(move.status = moved.status, move.moved = moved.moved, "dead letters on the move");
        if moved.status != "RUNNING" || Instant::now() + LOOK_EVERY > until {
            return Ok(moved);
        }
        sleep(LOOK_EVERY).await;
    }
}

impl From<ListMessageMoveTasksResultEntry> for Moved {
    fn from(task: ListMessageMoveTasksResultEntry) -> Self {
        Self {
            task_handle: task.task_handle.unwrap_or_default(),
            status: task.status.unwrap_or_default(),
            moved: task.approximate_number_of_messages_moved,
            to_move: task.approximate_number_of_messages_to_move,
            failure_reason: task.failure_reason,
        }
    }
}

/// The ARN of the queue with this URL: the same account and region, another name. Without a
/// destination SQS would send each message where it came from, and what was sent to the dead-letter
/// queue directly came from nowhere.
fn neighbour(arn: &str, url: &str) -> String {
    let scope = arn.rsplit_once(':').map_or(arn, |(scope, _)| scope);
    let name = url.rsplit_once('/').map_or(url, |(_, name)| name);
    format!("{scope}:{name}")
}
