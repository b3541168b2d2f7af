//! A few messages first: whether what failed them has gone away.

use std::time::{Duration, SystemTime};

use futures::future;
use jiff::Timestamp;
use serde::Serialize;
use shared::Event;
use tokio::time::{Instant, sleep};

use crate::{Executions, executions::ExecutionState, fate::Settled};

/// How long canaries are watched, and how often they are looked at.
const WATCH: Duration = Duration::from_mins(1);
const LOOK_EVERY: Duration = Duration::from_secs(2);

/// An execution that failed on an earlier day says nothing about today. The clock of Step Functions
/// is another one than ours.
const CLOCK_MARGIN: Duration = Duration::from_mins(1);

/// What became of the canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub succeeded: u64,
    pub failed: u64,
    /// Not ended, or not started, while they were watched.
    pub undecided: u64,
    /// Not taken by the work queue.
    pub refused: u64,
    /// Why one was refused, or error and cause of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

impl Canary {
    /// Whether the cause persists: some got nowhere, and none succeeded. Where some were taken and
    /// some refused, what was taken decides.
    pub fn died(&self) -> bool {
        let taken = self.failed + self.undecided;
        self.succeeded == 0 && (self.failed > 0 || (self.refused > 0 && taken == 0))
    }

    fn count(&mut self, state: ExecutionState) {
        match state {
            ExecutionState::Succeeded => self.succeeded += 1,
            ExecutionState::Undecided => self.undecided += 1,
            ExecutionState::Failed(error) => {
                self.failed += 1;
                self.error.get_or_insert(error);
            }
        }
    }
}

/// The canaries of a run, as the fates of the first letters show them.
#[derive(Debug)]
pub(crate) struct Canaries {
    /// How many are wanted at most.
    most: u64,
    /// What the work queue has taken: each starts an execution.
    events: Vec<Event>,
    outcome: Canary,
}

impl Canaries {
    pub(crate) fn new(most: u64) -> Self {
        Self { most, events: Vec::new(), outcome: Canary::default() }
    }

    /// How many letters are still to be tried. Letters that were archived are none.
    pub(crate) fn wanted(&self) -> usize {
        let tried = self.events.len() as u64 + self.outcome.refused;
        usize::try_from(self.most.saturating_sub(tried)).unwrap_or(usize::MAX)
    }

    /// Takes a letter for a canary if its fate says that it was sent, or that it was refused.
    pub(crate) fn read(&mut self, settled: &Settled) {
        if settled.fate.is_sent() {
            self.events.extend(settled.events.iter().cloned());
        } else if let Some(refusal) = settled.fate.refusal() {
            self.outcome.refused += 1;
            self.outcome.error.get_or_insert_with(|| refusal.to_string());
        }
    }

    /// Watches the executions of the canaries until all have ended, or time is up. None if there
    /// was no canary.
    pub(crate) async fn watch(
        self,
        executions: &Executions,
        since: Timestamp,
        until: Instant,
    ) -> Option<Canary> {
        let mut outcome = self.outcome;
        if !self.events.is_empty() {
            let until = until.min(Instant::now() + WATCH);
            let since = SystemTime::from(since) - CLOCK_MARGIN;
            let names: Vec<String> = self.events.iter().map(Event::execution_name).collect();
            let states = loop {
                let looks = names.iter().map(|name| executions.look(name, since));
                let states = future::join_all(looks).await;
                let all_ended = !states.contains(&ExecutionState::Undecided);
                if all_ended || Instant::now() + LOOK_EVERY > until {
                    break states;
                }
                sleep(LOOK_EVERY).await;
            };
            for state in states {
                outcome.count(state);
            }
        }
        (outcome != Canary::default()).then_some(outcome)
    }
}
