//! A few messages first: whether what failed them has gone away.

use std::time::{Duration, SystemTime};

use futures::future;
use jiff::Timestamp;
use messages::Event;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{Executions, executions::End};

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

    pub(crate) fn refuse(&mut self, error: &impl ToString) {
        self.refused += 1;
        self.error.get_or_insert_with(|| error.to_string());
    }

    /// Watches the executions of these events until all have ended, or time is up.
    pub(crate) async fn watch(
        &mut self,
        executions: &Executions,
        events: &[Event],
        since: Timestamp,
        until: Instant,
    ) {
        let until = until.min(Instant::now() + WATCH);
        let since = SystemTime::from(since) - CLOCK_MARGIN;
        let names: Vec<String> = events.iter().map(Event::execution_name).collect();
        loop {
            let looks = names.iter().map(|name| executions.look(name, since));
            let ends = future::join_all(looks).await;
            if !ends.contains(&End::Undecided) || Instant::now() + LOOK_EVERY > until {
                return ends.into_iter().for_each(|end| self.count(end));
            }
            sleep(LOOK_EVERY).await;
        }
    }

    fn count(&mut self, end: End) {
        match end {
            End::Succeeded => self.succeeded += 1,
            End::Undecided => self.undecided += 1,
            End::Failed(error) => {
                self.failed += 1;
                self.error.get_or_insert(error);
            }
        }
    }
}
