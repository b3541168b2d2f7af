//! A few messages first: whether what failed them has gone away.

use std::time::{Duration, SystemTime};

use aws_sdk_sfn::{Client, types::ExecutionStatus};
use futures::future;
use jiff::Timestamp;
use serde::Serialize;
use shared::Event;
use tokio::time::{Instant, sleep};

/// How long canaries are watched, and how often they are looked at.
const WATCH: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// Where the executions of redriven messages are watched.
#[derive(Debug, Clone)]
pub struct Executions {
    client: Client,
    /// ARN of an execution, up to its name.
    arn_prefix: String,
}

/// What became of the canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub succeeded: u64,
    pub failed: u64,
    /// Not ended, or not started, while they were watched.
    pub undecided: u64,
    /// Error and cause of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum End {
    Succeeded,
    Failed(String),
    Undecided,
}

impl Canary {
    /// Whether the cause persists: some failed, and none succeeded.
    pub fn died(&self) -> bool {
        self.failed > 0 && self.succeeded == 0
    }

    fn count(&mut self, end: &End) {
        match end {
            End::Succeeded => self.succeeded += 1,
            End::Undecided => self.undecided += 1,
            End::Failed(error) => {
                self.failed += 1;
                self.error.get_or_insert_with(|| error.clone());
            }
        }
    }
}

impl Executions {
    pub fn new(client: Client, state_machine_arn: &str) -> Self {
        let arn_prefix = state_machine_arn.replacen(":stateMachine:", ":execution:", 1);
        Self { client, arn_prefix }
    }

    /// Watches the executions of these events until all have ended, or time is up.
    pub(crate) async fn watch(&self, events: &[Event], since: Timestamp, until: Instant) -> Canary {
        let until = until.min(Instant::now() + WATCH);
        let names: Vec<String> = events.iter().map(Event::execution_name).collect();
        loop {
            let looks = names.iter().map(|name| self.look(name, since));
            let ends = future::join_all(looks).await;
            if !ends.contains(&End::Undecided) || Instant::now() + LOOK_EVERY > until {
                let mut canary = Canary::default();
                for end in &ends {
                    canary.count(end);
                }
                return canary;
            }
            sleep(LOOK_EVERY).await;
        }
    }

    async fn look(&self, name: &str, since: Timestamp) -> End {
        let arn = format!("{}:{name}", self.arn_prefix);
        // Not there yet, or an EXPRESS machine, which cannot be asked: then nothing is known.
        let Ok(execution) = self.client.describe_execution().execution_arn(arn).send().await else {
            return End::Undecided;
        };
        // An execution that failed on an earlier day says nothing about today. Its clock is another
        // one than ours, hence the margin.
        let since = SystemTime::from(since) - Duration::from_mins(1);
        if SystemTime::try_from(execution.start_date).is_ok_and(|start| start < since) {
            return End::Undecided;
        }
        match execution.status {
            ExecutionStatus::Succeeded => End::Succeeded,
            ExecutionStatus::Running | ExecutionStatus::PendingRedrive => End::Undecided,
            status => End::Failed(format!(
                "{}: {}",
                execution.error.as_deref().unwrap_or(status.as_str()),
                execution.cause.as_deref().unwrap_or("no cause was given")
            )),
        }
    }
}
