//! `sluice pause` and `sluice resume`: the event source mapping of the consumer, off and on.

use std::time::Duration;

use clap::Args;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{BAD, GOOD, Manner, STRONG, Verdict, number, paint},
};

/// Stop starting executions: messages wait in the work queue until `sluice resume`
#[derive(Debug, Args)]
pub(crate) struct Pause {
    #[command(flatten)]
    how: How,
}

/// Start executions again after `sluice pause`
#[derive(Debug, Args)]
pub(crate) struct Resume {
    #[command(flatten)]
    how: How,
}

#[derive(Debug, Args)]
struct How {
    /// Only say what it means
    #[arg(long)]
    dry_run: bool,
}

/// The event source mapping that hands messages to the consumer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Mapping {
    id: String,
    /// As Lambda calls it: `Enabled`, `Disabling`, …
    state: String,
}

/// A mapping takes up to a minute to change its state.
const PATIENCE: Duration = Duration::from_mins(3);
const POLL: Duration = Duration::from_secs(1);

impl Pause {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        switch(false, self.how.dry_run, options, manner).await
    }
}

impl Resume {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        switch(true, self.how.dry_run, options, manner).await
    }
}

async fn switch(
    on: bool,
    dry_run: bool,
    options: &Options,
    manner: Manner,
) -> Result<Verdict, Failure> {
    let what = if on { "resume the consumer" } else { "pause the consumer" };
    if !dry_run {
        manner.must_be_allowed(what)?;
    }
    let stack = Stack::find(options).await?;
    let mapping = Mapping::read(&stack).await?;
    let waiting = stack.depth(stack.output("WorkQueueUrl")?).await?.total();
    manner.note(&meaning(on, waiting, &stack.name));
    if mapping.is_on() == on && mapping.is_settled() {
        manner.note(if on { "It is on already." } else { "It is paused already." });
    } else if !dry_run {
        manner.ask(&format!("{what} of stack `{}`", stack.name))?;
        let changed = mapping.switch(&stack, on, manner).await?;
        manner.print(&changed, |mapping| format!("consumer: {}", mapping.in_words()))?;
        return Ok(Verdict::Fine);
    }
    manner.print(&mapping, |mapping| format!("consumer: {}", mapping.in_words()))?;
    Ok(Verdict::Fine)
}

/// What a switch means, said before it is made.
fn meaning(on: bool, waiting: u64, stack: &str) -> String {
    let waiting = number(waiting);
    if on {
        return format!(
            "The consumer of `{}` will start executions again, beginning with the {waiting} messages that wait.",
            paint(STRONG, stack)
        );
    }
    format!(
        "While the consumer of `{}` is paused, no execution is started, and nothing is lost: uploads\n\
         go on, and their messages wait in the work queue ({waiting} now), for up to 14 days each.\n\
         WorkQueueAgeAlarm rings once the oldest has waited for LateAfterSeconds (half an hour).\n\
         A batch that is under way comes to its end. `sluice resume` goes on.",
        paint(STRONG, stack)
    )
}

impl Mapping {
    pub(crate) async fn read(stack: &Stack) -> Result<Self, Failure> {
        let id = stack.output("ConsumerMappingId")?.to_owned();
        let answer = stack
            .lambda
            .get_event_source_mapping()
            .uuid(&id)
            .send()
            .await
            .map_err(Failure::of("lambda:GetEventSourceMapping"))?;
        Ok(Self { id, state: answer.state.unwrap_or_default() })
    }

    async fn switch(&self, stack: &Stack, on: bool, manner: Manner) -> Result<Self, Failure> {
        stack
            .lambda
            .update_event_source_mapping()
            .uuid(&self.id)
            .enabled(on)
            .send()
            .await
            .map_err(Failure::of("lambda:UpdateEventSourceMapping"))?;
        let progress = manner.progress("waiting for Lambda");
        let until = Instant::now() + PATIENCE;
        loop {
            let mapping = Self::read(stack).await?;
            if mapping.is_on() == on && mapping.is_settled() || Instant::now() > until {
                return Ok(mapping);
            }
            progress.say(&format!("the mapping is {}", mapping.state));
            sleep(POLL).await;
        }
    }

    pub(crate) fn is_on(&self) -> bool {
        matches!(self.state.as_str(), "Enabled" | "Enabling" | "Creating" | "Updating")
    }

    fn is_settled(&self) -> bool {
        matches!(self.state.as_str(), "Enabled" | "Disabled")
    }

    pub(crate) fn in_words(&self) -> String {
        match self.state.as_str() {
            "Enabled" => paint(GOOD, "on"),
            "Disabled" => format!("{}; `sluice resume` turns it on", paint(BAD, "paused")),
            other => paint(STRONG, other),
        }
    }

    #[cfg(test)]
    pub(crate) fn in_state(state: &str) -> Self {
        Self { id: "1".to_owned(), state: state.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_says_first_what_it_means() {
        let text = meaning(false, 1_234, "sluice");
        let text = anstream::adapter::strip_str(&text).to_string();
        for part in
            ["nothing is lost", "(1,234 now)", "14 days", "WorkQueueAgeAlarm", "sluice resume"]
        {
            assert!(text.contains(part), "{part}: {text}");
        }
        assert!(meaning(true, 5, "sluice").contains("the 5 messages that wait"));
    }

    #[test]
    fn a_mapping_on_its_way_is_neither_on_nor_paused_for_good() {
        let words =
            |state| anstream::adapter::strip_str(&Mapping::in_state(state).in_words()).to_string();
        assert_eq!(words("Enabled"), "on");
        assert_eq!(words("Disabled"), "paused; `sluice resume` turns it on");
        assert_eq!(words("Disabling"), "Disabling");
        assert!(!Mapping::in_state("Disabling").is_on());
        assert!(!Mapping::in_state("Disabling").is_settled());
    }
}
