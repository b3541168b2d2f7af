use std::{collections::BTreeMap, fmt};

use jiff::Timestamp;

use crate::{
    Fault, Plan,
    ledger::Violation,
    setting::Setting,
    state::{Line, State},
};

/// What a run has shown.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Run {
    pub seed: u64,
    pub plan: Plan,
    /// What the seed has chosen of the stack: the way in, the bucket, the queue and so on.
    pub setting: String,
    pub violations: Vec<Violation>,
    /// How often each fault has happened.
    pub faults: BTreeMap<Fault, u64>,
    /// What else happened, by name.
    pub counts: BTreeMap<String, u64>,
    story: Vec<Line>,
}

impl Run {
    pub(crate) fn of(seed: u64, plan: &Plan, setting: &Setting, state: &State) -> Self {
        let mut counts = state.counts.clone();
        let queue = if setting.is_ordered { "FIFO" } else { "standard" };
        *counts.entry(format!("runs with {:?}, {queue}", setting.route)).or_default() += 1;
        *counts.entry(format!("runs in {}", setting.time_zone)).or_default() += 1;
        if setting.max_running > 0 {
            *counts.entry("runs with a limit of running executions".to_owned()).or_default() += 1;
        }
        if setting.is_express {
            *counts.entry("runs with an EXPRESS machine".to_owned()).or_default() += 1;
        }
        for write in &state.ledger.writes {
            let end = match (write.has_succeeded(), write.archived.first()) {
                (true, _) => "succeeded".to_owned(),
                (false, Some(archived)) => format!("archived as {}", archived.class),
                (false, None) if write.is_aborted() => "aborted by a person".to_owned(),
                (false, None) if write.is_forgotten => "deleted before anybody knew".to_owned(),
                (false, None) => "without an end".to_owned(),
            };
            *counts.entry(format!("writes {end}")).or_default() += 1;
        }
        let mut story = state.story.clone();
        story.sort_by_key(|line| line.at);
        Self {
            seed,
            plan: plan.clone(),
            setting: setting.to_string(),
            violations: state.ledger.violations.clone(),
            faults: state.faults.clone(),
            counts,
            story,
        }
    }

    /// All that happened, line by line. Two runs are the same if this is.
    pub fn trace(&self) -> String {
        self.story.iter().fold(String::new(), |text, line| text + &line.to_string() + "\n")
    }

    /// What happened to the write of a violation, and what happened to all.
    pub fn story(&self, violation: &Violation) -> String {
        let is_about = |line: &&Line| match violation.write {
            Some(write) => line.writes.contains(&write) || line.is_about_all(),
            None => true,
        };
        let lines = self.story.iter().filter(|line| line.at <= violation.at).filter(is_about);
        lines.fold(String::new(), |text, line| text + &line.to_string() + "\n")
    }
}

impl Line {
    fn is_about_all(&self) -> bool {
        self.writes.is_empty() && !self.text.contains("redrive #")
    }
}

impl fmt::Display for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let at: Timestamp = self.at;
        write!(f, "{at:.3}  {}", self.text)
    }
}
