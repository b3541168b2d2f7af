//! The one place that talks to Step Functions.

use std::time::{Duration, SystemTime};

use aws_sdk_sfn::{
    Client,
    error::{ProvideErrorMetadata, SdkError},
    operation::{
        describe_execution::{DescribeExecutionError, DescribeExecutionOutput},
        list_executions::ListExecutionsError,
    },
    primitives::DateTime,
    types::ExecutionStatus,
};
use jiff::Timestamp;
use platform::InWords;
use tokio::time::{Instant, sleep};

/// How long to wait after Step Functions has throttled a question. It answers some 15 a second.
const THROTTLE_PAUSE: Duration = Duration::from_secs(1);

/// The executions of the state machine that messages start.
#[derive(Debug, Clone)]
pub struct Executions {
    client: Client,
    state_machine_arn: String,
    /// The ARN of an execution, without the name at its end.
    arn_prefix: String,
}

/// An execution as a listing shows it.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    pub(crate) name: String,
    pub(crate) status: ExecutionStatus,
    started: Timestamp,
    pub(crate) stopped: Option<Timestamp>,
}

impl Listed {
    /// A listing has the most recent executions first, and AWS leaves open whether one that is over
    /// counts from its start or from its end. Either way, what is listed behind it has started before
    /// this.
    pub(crate) fn last_seen(&self) -> Timestamp {
        self.stopped.unwrap_or(self.started)
    }
}

/// A page of executions, and the token of the next one.
pub(crate) type Page = (Vec<Listed>, Option<String>);

/// Executions on one page: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html>.
pub(crate) const PAGE: i32 = 1_000;

/// How an execution is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum ExecutionState {
    Succeeded,
    /// With error and cause.
    Failed(String),
    Running,
    /// It has not started, or Step Functions has forgotten it.
    Unknown,
    /// It started before the time that was asked for, and so says nothing about now.
    Earlier,
    /// Nobody can tell: executions of an EXPRESS machine cannot be asked for.
    Untold,
}

impl Executions {
    pub fn new(client: Client, state_machine_arn: &str) -> Self {
        let arn_prefix = state_machine_arn.replacen(":stateMachine:", ":execution:", 1);
        Self { client, state_machine_arn: state_machine_arn.to_owned(), arn_prefix }
    }

    /// How the execution of this name is doing, if it was started at `since` or later. An error
    /// says that there was no answer this time.
    pub(crate) async fn look(
        &self,
        name: &str,
        since: SystemTime,
    ) -> Result<ExecutionState, String> {
        let arn = self.arn_of(name);
        match self.client.describe_execution().execution_arn(arn).send().await {
            Ok(execution)
                if SystemTime::try_from(execution.start_date).is_ok_and(|start| start < since) =>
            {
                Ok(ExecutionState::Earlier)
            }
            Ok(execution) => Ok(state(&execution)),
            Err(error) => unasked(&error),
        }
    }

    /// How an execution is doing, by its ARN. Waits out a throttle until `until`.
    pub(crate) async fn state_of(
        &self,
        arn: &str,
        until: Instant,
    ) -> Result<ExecutionState, String> {
        loop {
            match self.client.describe_execution().execution_arn(arn).send().await {
                Ok(execution) => return Ok(state(&execution)),
                Err(error) => {
                    let pause = THROTTLE_PAUSE.mul_f64(0.5 + fastrand::f64());
                    let is_throttled = error.code().is_some_and(|code| code.contains("Throttl"));
                    if !is_throttled || Instant::now() + pause >= until {
                        return unasked(&error);
                    }
                    sleep(pause).await;
                }
            }
        }
    }

    /// A page of all executions of the state machine, the newest first. The token is that of the page
    /// before.
    pub(crate) async fn page(
        &self,
        token: Option<String>,
    ) -> Result<Page, SdkError<ListExecutionsError>> {
        let call = self.client.list_executions().state_machine_arn(&self.state_machine_arn);
        let answer = call.max_results(PAGE).set_next_token(token).send().await?;
        let listed = answer.executions.into_iter().map(|execution| Listed {
            name: execution.name,
            status: execution.status,
            started: timestamp(&execution.start_date).unwrap_or(Timestamp::MAX),
            stopped: execution.stop_date.as_ref().and_then(timestamp),
        });
        Ok((listed.collect(), answer.next_token))
    }

    /// The input of an execution; none if Step Functions does not have it (any more).
    pub(crate) async fn input_of(&self, arn: &str) -> Result<Option<String>, String> {
        match self.client.describe_execution().execution_arn(arn).send().await {
            Ok(execution) => Ok(execution.input),
            Err(error) => match error.as_service_error() {
                Some(kind) if kind.is_execution_does_not_exist() || kind.is_invalid_arn() => {
                    Ok(None)
                }
                _ => Err(InWords(&error).to_string()),
            },
        }
    }

    pub(crate) fn arn_of(&self, name: &str) -> String {
        format!("{}:{name}", self.arn_prefix)
    }
}

/// A time of the SDK.
pub(crate) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

fn state(execution: &DescribeExecutionOutput) -> ExecutionState {
    match &execution.status {
        ExecutionStatus::Succeeded => ExecutionState::Succeeded,
        ExecutionStatus::Running | ExecutionStatus::PendingRedrive => ExecutionState::Running,
        status => ExecutionState::Failed(format!(
            "{}: {}",
            execution.error.as_deref().unwrap_or(status.as_str()),
            execution.cause.as_deref().unwrap_or("no cause was given")
        )),
    }
}

/// What a refusal says. The role may ask about the executions of a STANDARD machine and about no
/// others, so a refusal for want of rights is that of an EXPRESS machine.
fn unasked(error: &SdkError<DescribeExecutionError>) -> Result<ExecutionState, String> {
    match error.code() {
        Some("ExecutionDoesNotExist") => Ok(ExecutionState::Unknown),
        Some("AccessDeniedException" | "InvalidArn" | "StateMachineTypeNotSupported") => {
            Ok(ExecutionState::Untold)
        }
        _ => Err(InWords(error).to_string()),
    }
}
