//! `sluice trace`: the story of one object, from the bucket to the table.

mod gather;
mod story;
mod target;

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{Manner, Verdict},
};
use gather::Gatherer;
use story::Story;
use target::Target;

/// Tell where an object is now, and how it came there
///
/// The story is put together from the versions in the bucket, the executions, the table, the archive
/// and the logs of the functions. Nothing is received from a queue: SQS has no way to ask for one
/// message. The exit code is 1 if the newest version that is shown has ended badly or is missing.
#[derive(Debug, Args)]
pub(crate) struct Trace {
    /// `s3://bucket/key`, a key, an event id, an execution name, or the ARN of an execution
    what: Target,
    /// How many versions of an object to tell about, the newest first
    #[arg(long, value_name = "COUNT", default_value_t = 1)]
    versions: usize,
    /// Leave the logs alone, which cost money by the gigabyte that CloudWatch reads
    #[arg(long)]
    without_logs: bool,
}

/// The stories, newest version first.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Stories {
    stories: Vec<Story>,
    /// Versions of the object that are not told about.
    more_versions: usize,
}

impl Trace {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let progress =
            manner.progress("asking the bucket, Step Functions, the archive and the logs");
        let stories =
            Stories::gather(&stack, &self.what, self.versions, !self.without_logs).await?;
        drop(progress);
        let zone = TimeZone::system();
        manner.print(&stories, |stories| stories.render(Timestamp::now(), &zone))?;
        Ok(Verdict::wrong_if(stories.stories.first().is_some_and(Story::needs_somebody)))
    }
}

/// The story of one event, by its id or the name of an execution of it, as the verb prints it.
pub(crate) async fn of_event(stack: &Stack, name: &str) -> Result<String, Failure> {
    let Ok(what) = name.parse::<Target>();
    let stories = Stories::gather(stack, &what, 1, true).await?;
    Ok(stories.render(Timestamp::now(), &TimeZone::system()))
}

impl Stories {
    async fn gather(
        stack: &Stack,
        what: &Target,
        versions: usize,
        with_logs: bool,
    ) -> Result<Self, Failure> {
        let gatherer = Gatherer::new(stack, with_logs, Timestamp::now())?;
        let mut subjects = gatherer.subjects(what).await?;
        let more_versions = subjects.len().saturating_sub(versions.max(1));
        subjects.truncate(versions.max(1));
        let mut stories = Vec::new();
        for subject in subjects {
            stories.push(gatherer.story(subject).await?);
        }
        Ok(Self { stories, more_versions })
    }

    fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        let mut parts: Vec<_> = self.stories.iter().map(|story| story.render(now, zone)).collect();
        if self.more_versions > 0 {
            let more = crate::output::counted(
                self.more_versions as u64,
                "older version is",
                "older versions are",
            );
            parts.push(format!("{more} not shown: add --versions"));
        }
        parts.join("\n\n")
    }
}
