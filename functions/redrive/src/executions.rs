//! The one place that talks to Step Functions.

use std::time::SystemTime;

use aws_sdk_sfn::{Client, error::DisplayErrorContext, types::ExecutionStatus};

/// The executions of the state machine that messages start.
#[derive(Debug, Clone)]
pub struct Executions {
    client: Client,
    /// ARN of an execution, up to its name.
    arn_prefix: String,
}

/// How an execution is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecutionState {
    Succeeded,
    /// With error and cause.
    Failed(String),
    /// Running, or not known.
    Undecided,
}

impl Executions {
    pub fn new(client: Client, state_machine_arn: &str) -> Self {
        let arn_prefix = state_machine_arn.replacen(":stateMachine:", ":execution:", 1);
        Self { client, arn_prefix }
    }

    /// How the execution of this name is doing, if it was started at `since` or later.
    pub(crate) async fn look(&self, name: &str, since: SystemTime) -> ExecutionState {
        let arn = format!("{}:{name}", self.arn_prefix);
        // Not there yet, or an EXPRESS machine, which cannot be asked: then nothing is known.
        let Ok(execution) = self.client.describe_execution().execution_arn(arn).send().await else {
            return ExecutionState::Undecided;
        };
        if SystemTime::try_from(execution.start_date).is_ok_and(|start| start < since) {
            return ExecutionState::Undecided;
        }
        match execution.status {
            ExecutionStatus::Succeeded => ExecutionState::Succeeded,
            ExecutionStatus::Running | ExecutionStatus::PendingRedrive => ExecutionState::Undecided,
            status => ExecutionState::Failed(format!(
                "{}: {}",
                execution.error.as_deref().unwrap_or(status.as_str()),
                execution.cause.as_deref().unwrap_or("no cause was given")
            )),
        }
    }

    /// The input of an execution; none if Step Functions does not have it (any more).
    pub(crate) async fn input_of(&self, arn: &str) -> Result<Option<String>, String> {
        match self.client.describe_execution().execution_arn(arn).send().await {
            Ok(execution) => Ok(execution.input),
            Err(error) => match error.as_service_error() {
                Some(kind) if kind.is_execution_does_not_exist() || kind.is_invalid_arn() => {
                    Ok(None)
                }
                _ => Err(DisplayErrorContext(&error).to_string()),
            },
        }
    }
}
