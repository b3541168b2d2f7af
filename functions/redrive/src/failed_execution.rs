//! Letters about failed executions: what they say, and whether it still holds.

use futures::future;
use serde::Deserialize;
use tokio::time::timeout_at;

use crate::{
    DeadLetter,
    executions::ExecutionState,
    fate::{Failure, Fate, Settled},
    plan::{Plan, Reason},
    run::Run,
    settle::Planned,
};

/// A failed execution, as the state machine's own dead letter or as a status change describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FailedExecution {
    /// Only status changes have it.
    pub(crate) arn: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) cause: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "failedExecution")]
    failed_execution: Option<Described>,
    source: Option<String>,
    detail: Option<Described>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "executionArn")]
    arn: Option<String>,
    name: Option<String>,
    error: Option<String>,
    cause: Option<String>,
}

impl FailedExecution {
    /// None if the body is about something else.
    pub(crate) fn read(body: &str) -> Option<Self> {
        let body: Body = serde_json::from_str(body).ok()?;
        let is_status_change = body.source.as_deref() == Some("aws.states");
        let described = body.failed_execution.or(body.detail.filter(|_| is_status_change))?;
        let Described { arn, name, error, cause } = described;
        Some(Self { arn, name, error, cause })
    }
}

/// How a failed execution is doing by now.
enum State {
    EndedBadly,
    Succeeded,
    Running,
    /// It is not the current attempt of its event.
    NotCurrent(String),
}

impl Run<'_> {
    /// Asks how the failed executions are doing that letters would start again.
    ///
    /// A letter goes back only if its execution is the current attempt of its event and has really
    /// ended badly. One that has succeeded since is done with, one that runs is left alone, and
    /// where there is no answer the letter stays. An execution that Step Functions does not know
    /// (any more), or will not tell of, is believed to have failed: the letter says so.
    ///
    /// A letter that was redriven too often is asked about in the same way, because what would be
    /// archived as failing may have succeeded since: by the next attempt, if another run has sent it
    /// and could not delete the letter.
    pub(crate) async fn ask_executions(
        &self,
        planned: Vec<Planned>,
    ) -> (Vec<Planned>, Vec<Settled>) {
        let asked = planned.into_iter().map(async |(letter, mut plan)| {
            let is_exhausted = self.is_exhausted(&letter, &plan);
            if plan.messages.is_empty() && !is_exhausted {
                return Ok((letter, plan));
            }
            let mut state = self.state_of_failed(&letter, &plan).await;
            if is_exhausted && matches!(state, Ok(None | Some(State::EndedBadly))) {
                state = self.state_of_next(&plan).await;
            }
            let fate = match state {
                Ok(None | Some(State::EndedBadly)) => return Ok((letter, plan)),
                Ok(Some(State::NotCurrent(message))) => {
                    plan.messages.clear();
                    plan.archive = Some(Reason::new("NotCurrentAttempt", &message));
                    return Ok((letter, plan));
                }
                Ok(Some(State::Running)) => Fate::Running,
                Ok(Some(State::Succeeded)) => Fate::Succeeded,
                Err(failure) => Fate::Failed(failure),
            };
            Err(Settled { letter, events: plan.events, fate })
        });
        let (mut planned, mut settled) = (Vec::new(), Vec::new());
        for asked in future::join_all(asked).await {
            match asked {
                Ok(plan) => planned.push(plan),
                Err(ended) => settled.push(ended),
            }
        }
        (planned, settled)
    }

    /// Whether a letter is given up because it was redriven too often, and not because a person
    /// wants that.
    fn is_exhausted(&self, letter: &DeadLetter, plan: &Plan) -> bool {
        plan.archive.is_some()
            && !self.selection.archive
            && !plan.events.is_empty()
            && letter.redrives(&plan.events) >= self.selection.max_redrives
    }

    /// How the executions are doing that the letter would start. None if one of them is not known.
    async fn state_of_next(&self, plan: &Plan) -> Result<Option<State>, Failure> {
        let executions = &self.redriver.executions;
        let mut next = State::Succeeded;
        for event in &plan.events {
            let name = event.execution_name();
            let arn = executions.arn_of(&name);
            let asked = executions.state_of(&arn, self.stop_by);
            match timeout_at(self.end_by, asked).await {
                Ok(Ok(ExecutionState::Succeeded)) => {}
                Ok(Ok(ExecutionState::Running)) => next = State::Running,
                Ok(Ok(ExecutionState::Failed(_) | ExecutionState::Earlier)) => {
                    return Ok(Some(State::NotCurrent(format!(
                        "the next attempt of the event, `{name}`, was started, and comes back by \
                         itself if it failed"
                    ))));
                }
                Ok(Ok(ExecutionState::Unknown | ExecutionState::Untold)) => return Ok(None),
                Ok(Err(error)) => return Err(Failure::StateUnknown(error)),
                Err(_) => return Err(Failure::OutOfTime),
            }
        }
        Ok(Some(next))
    }

    /// None if the letter is not about a failed execution.
    async fn state_of_failed(
        &self,
        letter: &DeadLetter,
        plan: &Plan,
    ) -> Result<Option<State>, Failure> {
        let Some(failed) = &letter.failed_execution else { return Ok(None) };
        let executions = &self.redriver.executions;
        let mut state = None;
        for event in &plan.events {
            // The event is the next attempt already.
            let mut current = event.clone();
            current.attempt = event.attempt.saturating_sub(1);
            let current = current.execution_name();
            let name = failed.name.as_ref().unwrap_or(&current);
            if *name != current {
                return Ok(Some(State::NotCurrent(format!(
                    "the execution `{name}` is not the current attempt of the event, which is \
                     `{current}` and comes back by itself if it failed"
                ))));
            }
            let arn = failed.arn.clone().unwrap_or_else(|| executions.arn_of(name));
            let asked = executions.state_of(&arn, self.stop_by);
            state = match timeout_at(self.end_by, asked).await {
                Ok(Ok(ExecutionState::Succeeded)) => Some(State::Succeeded),
                Ok(Ok(ExecutionState::Running)) => Some(State::Running),
                Ok(Ok(
                    ExecutionState::Failed(_)
                    | ExecutionState::Unknown
                    | ExecutionState::Earlier
                    | ExecutionState::Untold,
                )) => Some(State::EndedBadly),
                Ok(Err(error)) => return Err(Failure::StateUnknown(error)),
                Err(_) => return Err(Failure::OutOfTime),
            };
        }
        Ok(state)
    }
}
