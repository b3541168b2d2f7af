//! How many executions may run at once: a limit that nobody keeps a counter for.
//!
//! A counter of starts and ends goes wrong as soon as an answer is lost, a function is killed or an
//! event never comes, and it stays wrong. Step Functions knows what runs. So each environment asks
//! it, shares the answer between its batches for a moment, and adds what it has started itself since.
//! It stores nothing elsewhere: what an environment believed is gone with it, and every answer of
//! Step Functions replaces what was believed before.
//!
//! Environments know nothing of each other, so each takes only its share of the places that are free.
//! If all of them have asked at the same moment, these shares together are the places that there are.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use aws_sdk_sfn::{Client, types::ExecutionStatus};
use tokio::time::{Instant, sleep_until};

use crate::{Cause, verdict::Verdict};

/// Executions on a page: <https://docs.aws.amazon.com/step-functions/latest/apireference/API_ListExecutions.html>.
/// A limit that is no larger takes one call to check.
pub const MOST: usize = 1_000;

/// In this time, all environments together ask once while nothing is free. An account may list
/// executions two to five times a second, by region, and 100 to 200 times at once:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
const ONE_QUESTION: Duration = Duration::from_secs(1);

/// After this an environment asks again, however many others there are.
const LONGEST_SHARED: Duration = Duration::from_mins(1);

/// How soon an environment asks again that has used up its share while more was free.
pub const SHARE: Duration = Duration::from_secs(1);

/// A start may be missing from a listing for so long. AWS says that this happens, and gives no
/// figure. What an environment has started itself counts all the same.
pub const EVENTUALLY: Duration = Duration::from_secs(5);

/// `MaxRunningExecutions`, and what it takes to share it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RunningLimit {
    pub executions: usize,
    /// Environments at once: `MaximumConcurrency`.
    pub consumers: usize,
    /// Messages of one invocation: `BatchSize`.
    pub batch_size: usize,
}

/// What one environment knows of the executions that run. Its invocations share it.
#[derive(Debug, Default)]
pub struct Running {
    /// Those who want a place, one after the other, so that Step Functions is asked once for all.
    queue: tokio::sync::Mutex<()>,
    known: Mutex<Known>,
}

#[derive(Debug, Default)]
struct Known {
    answer: Option<Answer>,
    /// What this environment starts and no listing has shown yet, by name, with the time when it was
    /// started; none while that is under way.
    own: BTreeMap<String, Option<Instant>>,
}

/// What Step Functions has said.
#[derive(Debug)]
struct Answer {
    /// When it was asked.
    at: Instant,
    /// The names of what runs, or why nobody knows.
    names: Result<BTreeSet<String>, Verdict>,
    /// Starts that are left of this environment's share.
    left: usize,
}

enum Step {
    Take,
    /// The execution is counted already.
    IsCounted,
    Refuse(Verdict),
    AskAt(Instant),
}

/// A place that an execution takes. It is given back unless the start is [sent](Self::sends).
#[derive(Debug)]
pub(crate) struct Place<'a> {
    running: &'a Running,
    name: String,
    /// The question whose answer allowed it.
    asked: Option<Instant>,
    is_sent: bool,
}

impl RunningLimit {
    /// For how long an answer is shared.
    fn shared_for(self) -> Duration {
        ONE_QUESTION
            .saturating_mul(u32::try_from(self.consumers).unwrap_or(u32::MAX))
            .min(LONGEST_SHARED)
    }

    /// How much of what is free one environment may take.
    fn share(self, free: usize) -> usize {
        free.div_ceil(self.consumers.max(1)).min(self.batch_size)
    }
}

impl Running {
    /// A place for the execution of this name; none if it is counted already. `ask` is asked for the
    /// names of what runs, if the last answer is too old. That may be put off, but not beyond `until`.
    pub(crate) async fn place(
        &self,
        name: String,
        limit: RunningLimit,
        until: Instant,
        ask: impl AsyncFn() -> Result<BTreeSet<String>, Verdict>,
    ) -> Result<Option<Place<'_>>, Verdict> {
        let _first = self.queue.lock().await;
        loop {
            let step = self.known().step(&name, limit);
            match step {
                Step::Take => {
                    let asked = self.known().takes(&name);
                    return Ok(Some(Place { running: self, name, asked, is_sent: false }));
                }
                Step::IsCounted => return Ok(None),
                Step::Refuse(verdict) => return Err(verdict),
                Step::AskAt(at) if at > until && at > Instant::now() => {
                    return Err(Verdict::Defer {
                        cause: Cause::RunningLimit,
                        reason: "this consumer has started its share of what may run".to_owned(),
                        tried: false,
                        paced: true,
                    });
                }
                Step::AskAt(at) => {
                    sleep_until(at).await;
                    let at = Instant::now();
                    let names = ask().await;
                    self.known().learns(at, names, limit);
                }
            }
        }
    }

    fn known(&self) -> MutexGuard<'_, Known> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn step(&self, name: &str, limit: RunningLimit) -> Step {
        let now = Instant::now();
        let Some(answer) = &self.answer else { return Step::AskAt(now) };
        if now >= answer.at + limit.shared_for() {
            return Step::AskAt(now);
        }
        let names = match &answer.names {
            Ok(names) => names,
            Err(verdict) => return Step::Refuse(verdict.clone()),
        };
        if names.contains(name) || self.own.contains_key(name) {
            return Step::IsCounted;
        }
        let (running, most) = (names.len() + self.own.len(), limit.executions);
        if running < most {
            return if answer.left > 0 { Step::Take } else { Step::AskAt(answer.at + SHARE) };
        }
        let reason = format!("{running} executions run, and MAX_RUNNING_EXECUTIONS is {most}");
        // Where its neighbours have taken the last place, the record itself was not refused.
        let is_full = names.len() >= most;
        Step::Refuse(Verdict::Defer {
            cause: Cause::RunningLimit,
            reason,
            tried: is_full,
            paced: false,
        })
    }

    fn takes(&mut self, name: &str) -> Option<Instant> {
        self.own.insert(name.to_owned(), None);
        let answer = self.answer.as_mut()?;
        answer.left = answer.left.saturating_sub(1);
        Some(answer.at)
    }

    fn learns(
        &mut self,
        at: Instant,
        names: Result<BTreeSet<String>, Verdict>,
        limit: RunningLimit,
    ) {
        let mut left = 0;
        if let Ok(names) = &names {
            self.own.retain(|name, started| {
                !names.contains(name) && started.is_none_or(|started| at < started + EVENTUALLY)
            });
            let running = names.len() + self.own.len();
            left = limit.share(limit.executions.saturating_sub(running));
        }
        self.answer = Some(Answer { at, names, left });
    }
}

impl Place<'_> {
    /// The start is on its way. From now on it counts, answered or not, unless it is
    /// [refused](Self::is_refused).
    pub(crate) fn sends(&mut self) {
        self.is_sent = true;
    }

    /// Nothing was started.
    pub(crate) fn is_refused(&mut self) {
        self.is_sent = false;
    }
}

impl Drop for Place<'_> {
    fn drop(&mut self) {
        let mut known = self.running.known();
        let name = mem::take(&mut self.name);
        if self.is_sent {
            known.own.insert(name, Some(Instant::now()));
            return;
        }
        known.own.remove(&name);
        if let Some(answer) = known.answer.as_mut().filter(|answer| Some(answer.at) == self.asked) {
            answer.left += 1;
        }
    }
}

/// The names of the executions that run, as far as the limit needs them. A page may hold fewer than
/// there are.
pub(crate) async fn names(
    client: &Client,
    state_machine_arn: &str,
    limit: RunningLimit,
) -> Result<BTreeSet<String>, Verdict> {
    let page = i32::try_from(limit.executions.min(MOST)).unwrap_or(i32::MAX);
    let mut names = BTreeSet::new();
    let mut token = None;
    loop {
        let call = client
            .list_executions()
            .state_machine_arn(state_machine_arn)
            .status_filter(ExecutionStatus::Running)
            .max_results(page)
            .set_next_token(token);
        let answer = call.send().await.map_err(|error| Verdict::of_list_error(&error))?;
        names.extend(answer.executions.into_iter().map(|execution| execution.name));
        token = answer.next_token;
        if token.is_none() || names.len() >= limit.executions {
            return Ok(names);
        }
    }
}
