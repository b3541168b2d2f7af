//! `sluice dead-letters`: what failed, and what is to become of it. The redrive function does the
//! work; it has the rights, and it deletes nothing that is not confirmed elsewhere.

mod last_night;
mod letter;
mod moving;
mod restoring;

use std::time::Duration;

use clap::{Args, Subcommand};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value, json};

use crate::{
    aws::{Options, RedriveReport, Stack},
    failure::Failure,
    output::{BAD, Manner, QUIET, STRONG, Verdict, clock, columns, counted, number, paint},
};

/// See, redrive, archive and restore what failed
#[derive(Debug, Args)]
pub(crate) struct DeadLetters {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Debug, Subcommand)]
enum Verb {
    Ls(Ls),
    Show(letter::Show),
    Redrive(moving::Redrive),
    Archive(moving::Archive),
    Restore(restoring::Restore),
    LastNight(last_night::LastNight),
}

/// Count the dead letters by class
///
/// The redrive function looks at every letter and moves none. SQS counts each look as a receive of
/// each letter. That leads to nothing (no rule counts them), but CloudWatch leaves a message that
/// was received three times out of the age of the queue; the redrive measures that age itself.
#[derive(Debug, Args)]
struct Ls {
    #[command(flatten)]
    filter: Filter,
}

/// Which letters
#[derive(Debug, Default, Args)]
#[command(next_help_heading = "Which letters")]
pub(crate) struct Filter {
    /// Only those with this error class, such as `ThrottlingException`
    #[arg(long)]
    class: Option<String>,
    /// Only those about objects whose keys begin with this, such as `devices/42/`
    #[arg(long)]
    prefix: Option<String>,
    /// Only those with this event id or message id; may be repeated
    #[arg(long = "id", value_name = "ID")]
    ids: Vec<String>,
    /// Only those that were sent longer ago than this, such as `36h`
    #[arg(long, value_name = "TIME", value_parser = crate::parse::time)]
    older_than: Option<Duration>,
    /// Only those that were sent within this time, in whole hours, such as `48h`
    #[arg(long, value_name = "TIME", value_parser = crate::parse::hours)]
    newer_than: Option<u32>,
    /// The letters of the FIFO dead-letter queue, which a stack with `Ordered=true` has
    #[arg(long)]
    ordered: bool,
}

impl DeadLetters {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        match &self.verb {
            Verb::Ls(verb) => verb.run(options, manner).await,
            Verb::Show(verb) => verb.run(options, manner).await,
            Verb::Redrive(verb) => verb.run(options, manner).await,
            Verb::Archive(verb) => verb.run(options, manner).await,
            Verb::Restore(verb) => verb.run(options, manner).await,
            Verb::LastNight(verb) => verb.run(options, manner).await,
        }
    }
}

impl Ls {
    async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let report = self.filter.look(&stack, Map::new(), manner).await?;
        let groups = Groups::of(&report, self.filter.class.as_deref());
        let zone = TimeZone::system();
        manner.print(&groups, |groups| groups.render(Timestamp::now(), &zone))?;
        if groups.letters > 0 {
            manner.note(&receives(groups.letters));
        }
        Ok(Verdict::wrong_if(groups.letters > 0))
    }
}

/// What a look has cost.
fn receives(letters: u64) -> String {
    let letters = counted(letters, "letter", "letters");
    paint(
        QUIET,
        format!(
            "SQS counts this look as one more receive of {letters}; see `sluice dead-letters ls --help`."
        ),
    )
}

impl Filter {
    /// The redrive that is in charge of these letters.
    fn function(&self) -> &'static str {
        if self.ordered { "OrderedRedriveFunctionName" } else { "RedriveFunctionName" }
    }

    /// The fields of a request that select these letters.
    fn request(&self, now: Timestamp) -> Map<String, Value> {
        let before = match self.older_than {
            // Up to this moment, and not only up to the start of the day, as at night.
            None => json!("now"),
            Some(age) => json!(now.checked_sub(age).unwrap_or(Timestamp::UNIX_EPOCH)),
        };
        let mut request = Map::from_iter([("before".to_owned(), before)]);
        let mut add = |field: &str, value: Option<Value>| {
            request.extend(value.map(|value| (field.to_owned(), value)));
        };
        add("errorClass", self.class.as_ref().map(|class| json!(class)));
        add("keyPrefix", self.prefix.as_ref().map(|prefix| json!(prefix)));
        add("ids", (!self.ids.is_empty()).then(|| json!(self.ids)));
        add("newerThanHours", self.newer_than.map(|hours| json!(hours)));
        request
    }

    /// What would become of these letters. Nothing is moved.
    async fn look(
        &self,
        stack: &Stack,
        more: Map<String, Value>,
        manner: Manner,
    ) -> Result<RedriveReport, Failure> {
        let mut request = self.request(Timestamp::now());
        request.insert("dryRun".to_owned(), Value::Bool(true));
        request.extend(more);
        let _progress = manner.progress("the redrive looks at the letters");
        stack.invoke(self.function(), &Value::Object(request)).await
    }
}

/// The letters, by class.
#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Groups {
    letters: u64,
    classes: Vec<Group>,
    first_keys: Vec<String>,
    /// Whether every letter was looked at.
    complete: bool,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
struct Group {
    class: String,
    letters: u64,
    since: Option<Timestamp>,
}

impl Groups {
    fn of(report: &RedriveReport, class: Option<&str>) -> Self {
        let classes = report.classes.iter().filter(|(name, _)| class.is_none_or(|it| it == *name));
        let mut classes: Vec<_> = classes
            .map(|(name, letters)| Group {
                class: name.clone(),
                letters: *letters,
                since: report.oldest.get(name).copied(),
            })
            .collect();
        classes.sort_by(|a, b| b.letters.cmp(&a.letters).then(a.class.cmp(&b.class)));
        Self {
            letters: classes.iter().map(|group| group.letters).sum(),
            classes,
            first_keys: report.first_keys.clone(),
            complete: report.complete,
        }
    }

    fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        if self.letters == 0 {
            return "no dead letters".to_owned();
        }
        let rows: Vec<_> = self.classes.iter().map(|group| group.row(now, zone)).collect();
        let mut text = columns(&rows, &[0]);
        if !self.first_keys.is_empty() {
            text.push_str("\n  the first objects\n");
            for key in &self.first_keys {
                text.extend(["    ", key, "\n"]);
            }
        }
        if !self.complete {
            text.push_str("\n  not all letters were looked at: the time of the function was up\n");
        }
        text
    }
}

impl Group {
    /// `412 × ThrottlingException since 02:10`
    fn row(&self, now: Timestamp, zone: &TimeZone) -> Vec<String> {
        let since = self.since.map(|time| format!("since {}", clock(time, now, zone)));
        vec![
            paint(BAD, number(self.letters)),
            format!("× {}", paint(STRONG, &self.class)),
            since.unwrap_or_default(),
        ]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T09:00:00Z".parse().unwrap()
    }

    fn report() -> RedriveReport {
        serde_json::from_value(json!({
            "dryRun": true, "seen": 415, "complete": true, "stopped": "empty",
            "classes": { "NotJson": 3, "ThrottlingException": 412 },
            "oldest": {
                "NotJson": "2026-11-19T23:00:00Z", "ThrottlingException": "2026-11-20T02:10:00Z"
            },
            "firstKeys": ["devices/1/state.json"],
        }))
        .unwrap()
    }

    #[test]
    fn the_largest_class_comes_first_with_its_count_and_time() {
        let text = Groups::of(&report(), None).render(now(), &TimeZone::UTC);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "  412  × ThrottlingException  since 02:10\
             \n    3  × NotJson              since 2026-11-19 23:00\
             \n\n  the first objects\n    devices/1/state.json\n"
        );
    }

    #[test]
    fn the_class_that_was_asked_for_is_the_only_one_counted() {
        let groups = Groups::of(&report(), Some("NotJson"));
        assert_eq!((groups.letters, groups.classes.len()), (3, 1));
        assert_eq!(
            Groups::of(&report(), Some("Other")).render(now(), &TimeZone::UTC),
            "no dead letters"
        );
    }

    #[test]
    fn a_filter_is_what_the_redrive_understands() {
        let filter = Filter {
            class: Some("E".into()),
            prefix: Some("devices/".into()),
            ids: vec!["a".into()],
            older_than: Some(Duration::from_hours(2)),
            newer_than: Some(48),
            ordered: false,
        };
        assert_eq!(
            Value::Object(filter.request(now())),
            json!({
                "before": "2026-11-20T07:00:00Z", "errorClass": "E", "keyPrefix": "devices/",
                "ids": ["a"], "newerThanHours": 48
            })
        );
        assert_eq!(Value::Object(Filter::default().request(now())), json!({ "before": "now" }));
    }
}
