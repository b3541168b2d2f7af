//! Canaries: a few letters of each error class are sent first, to learn whether the cause is gone.

use std::{
    collections::BTreeMap,
    time::{Duration, SystemTime},
};

use futures::future;
use jiff::Timestamp;
use messages::Event;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{Executions, executions::ExecutionState, fate::Settled};

/// How long canaries are watched. The stack's own machine retries for up to 183 seconds before it
/// fails; the rest is for the way to it.
const WATCH: Duration = Duration::from_mins(4);

/// By then a canary has started, if the consumer can start anything. One that is deferred for the
/// first time waits for some seconds only.
const START: Duration = Duration::from_secs(90);

/// How often canaries are looked at: every two seconds, or more rarely if there are many. Step
/// Functions answers some 15 questions a second.
const LOOK_EVERY: Duration = Duration::from_secs(2);
const LOOK_EVERY_FOR_EACH: Duration = Duration::from_millis(200);

/// An execution that failed on an earlier day says nothing about today. The clock of Step Functions
/// is another one than ours.
const CLOCK_MARGIN: Duration = Duration::from_mins(1);

/// Classes that have canaries of their own. What fails elsewhere may have any name, so the classes
/// beyond these share theirs.
const MAX_CLASSES: usize = 20;
const OTHER_CLASSES: &str = "other classes";

/// What became of the canaries.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Canary {
    pub succeeded: u64,
    pub failed: u64,
    /// Canaries that did not end while they were watched, or of which nobody can tell.
    pub undecided: u64,
    /// Taken by the work queue, and not started in time.
    pub not_started: u64,
    /// Not taken by the work queue.
    pub refused: u64,
    /// Why one was refused, or error and cause of one that failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// Whether the letters of a class follow their canaries.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Follow,
    HoldBack,
    /// The class has had no canaries yet.
    Open,
}

/// What the canaries of each class have shown.
#[derive(Debug, Clone, Default)]
pub(crate) struct Verdicts {
    /// Without canaries, all letters go.
    none_wanted: bool,
    classes: BTreeMap<String, Verdict>,
}

/// The canaries of a run, class by class, as the fates of letters show them.
#[derive(Debug)]
pub(crate) struct Canaries {
    /// How many of each class are wanted.
    pub(crate) of_each_class: usize,
    pub(crate) verdicts: Verdicts,
    /// Those that are watched.
    under_way: Vec<UnderWay>,
    outcome: Canary,
}

#[derive(Debug)]
struct UnderWay {
    class: String,
    /// Of its execution.
    name: String,
    /// As it was seen last. An end stays, whatever a later look says.
    state: Option<ExecutionState>,
}

impl Verdicts {
    pub(crate) fn of(&self, class: &str) -> Verdict {
        if self.none_wanted {
            return Verdict::Follow;
        }
        self.classes.get(self.key(class)).copied().unwrap_or(Verdict::Open)
    }

    /// Whether the letters of some class are held back.
    pub(crate) fn hold_any_back(&self) -> bool {
        self.classes.values().any(|verdict| *verdict == Verdict::HoldBack)
    }

    /// The name under which a class has its canaries.
    pub(crate) fn key<'c>(&self, class: &'c str) -> &'c str {
        if self.classes.contains_key(class) || self.classes.len() < MAX_CLASSES {
            class
        } else {
            OTHER_CLASSES
        }
    }
}

impl Canaries {
    pub(crate) fn new(of_each_class: u64) -> Self {
        let of_each_class = usize::try_from(of_each_class).unwrap_or(usize::MAX);
        let verdicts = Verdicts { none_wanted: of_each_class == 0, ..Verdicts::default() };
        Self { of_each_class, verdicts, under_way: Vec::new(), outcome: Canary::default() }
    }

    /// How many canaries of a class the work queue has taken.
    pub(crate) fn taken(&self, class: &str) -> usize {
        let class = self.verdicts.key(class);
        self.under_way.iter().filter(|canary| canary.class == class).count()
    }

    pub(crate) fn any_under_way(&self) -> bool {
        !self.under_way.is_empty()
    }

    /// Takes a letter for a canary if its fate says that it was sent, or that it was refused.
    pub(crate) fn read(&mut self, settled: &Settled) {
        if settled.fate.is_sent() {
            let class = self.verdicts.key(settled.letter.class()).to_owned();
            self.under_way.extend(settled.events.iter().map(|event| UnderWay {
                class: class.clone(),
                name: Event::execution_name(event),
                state: None,
            }));
        } else if let Some(refusal) = settled.fate.refusal() {
            self.outcome.refused += 1;
            self.outcome.error.get_or_insert_with(|| refusal.to_string());
        }
    }

    /// Decides that the letters of a class follow, although it had no canary that was taken. A
    /// refusal is about a letter, and costs it nothing.
    pub(crate) fn follow_without(&mut self, class: &str) {
        let class = self.verdicts.key(class).to_owned();
        self.verdicts.classes.entry(class).or_insert(Verdict::Follow);
    }

    /// Watches the executions of the canaries until each class is decided, or time is up, and
    /// decides about each class.
    pub(crate) async fn watch(
        &mut self,
        executions: &Executions,
        since: Timestamp,
        until: Instant,
    ) {
        let begin = Instant::now();
        let until = until.min(begin + WATCH);
        let since = SystemTime::from(since) - CLOCK_MARGIN;
        loop {
            let open = self.under_way.iter_mut().filter(|canary| !canary.has_ended());
            let looks = open.map(async |canary| {
                // Without an answer it stays as it was.
                if let Ok(state) = executions.look(&canary.name, since).await {
                    canary.state = Some(state);
                }
            });
            future::join_all(looks).await;
            let open = self.under_way.iter().filter(|canary| !canary.has_ended()).count();
            let pause = LOOK_EVERY.max(LOOK_EVERY_FOR_EACH * u32::try_from(open).unwrap_or(1));
            let is_late = begin.elapsed() >= START;
            if self.all_decided(is_late) || Instant::now() + pause > until {
                break;
            }
            sleep(pause).await;
        }
        self.decide();
    }

    /// Whether further looks would change nothing: some canary of each class has succeeded, or all
    /// of them have ended, or none has started although it is late.
    fn all_decided(&self, is_late: bool) -> bool {
        self.by_class().values().all(|canaries| {
            let any = |state| canaries.iter().any(|canary| canary.state.as_ref() == Some(&state));
            let none_started = any(ExecutionState::Unknown) && !any(ExecutionState::Running);
            any(ExecutionState::Succeeded)
                || canaries.iter().all(|canary| canary.has_ended())
                || (is_late && none_started)
        })
    }

    fn by_class(&self) -> BTreeMap<String, Vec<&UnderWay>> {
        let mut classes: BTreeMap<String, Vec<&UnderWay>> = BTreeMap::new();
        for canary in &self.under_way {
            classes.entry(canary.class.clone()).or_default().push(canary);
        }
        classes
    }

    /// One success lets a class follow, since others may fail for reasons of their own. Otherwise
    /// a failure holds it back, and so does it if none has even started.
    fn decide(&mut self) {
        let classes = self.by_class().into_iter();
        let decided = classes.map(|(class, canaries)| {
            let any = |is: fn(&ExecutionState) -> bool| {
                canaries.iter().any(|canary| canary.state.as_ref().is_some_and(is))
            };
            let hold_back = !any(|state| *state == ExecutionState::Succeeded)
                && (any(|state| matches!(state, ExecutionState::Failed(_)))
                    || (any(|state| *state == ExecutionState::Unknown)
                        && !any(|state| *state == ExecutionState::Running)));
            (class, if hold_back { Verdict::HoldBack } else { Verdict::Follow })
        });
        let decided: Vec<_> = decided.collect();
        self.verdicts.classes.extend(decided);
        for canary in std::mem::take(&mut self.under_way) {
            self.outcome.count(canary.state);
        }
    }

    /// What became of all canaries; none if there was none.
    pub(crate) fn outcome(self) -> Option<Canary> {
        (self.outcome != Canary::default()).then_some(self.outcome)
    }
}

impl UnderWay {
    fn has_ended(&self) -> bool {
        match &self.state {
            Some(
                ExecutionState::Succeeded
                | ExecutionState::Failed(_)
                | ExecutionState::Earlier
                | ExecutionState::Untold,
            ) => true,
            Some(ExecutionState::Running | ExecutionState::Unknown) | None => false,
        }
    }
}

impl Canary {
    fn count(&mut self, state: Option<ExecutionState>) {
        match state {
            Some(ExecutionState::Succeeded) => self.succeeded += 1,
            Some(ExecutionState::Unknown) => self.not_started += 1,
            Some(ExecutionState::Failed(error)) => {
                self.failed += 1;
                self.error.get_or_insert(error);
            }
            Some(ExecutionState::Running | ExecutionState::Earlier | ExecutionState::Untold)
            | None => self.undecided += 1,
        }
    }
}
