use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::{Filter, receives};
use crate::{
    aws::{Options, RedriveReport, Stack},
    failure::Failure,
    output::{BAD, GOOD, Manner, Verdict, columns, counted, number, paint},
    status::went_well,
};

/// Send dead letters back to the work queue, and archive those that no retry helps
///
/// As every night, but for the letters that you select, and up to this moment. A few of each class go
/// first, and the others follow once one of those has succeeded.
#[derive(Debug, Args)]
pub(crate) struct Redrive {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    bounds: Bounds,
    /// Messages a second, such as `50/s` [default: the parameter `RedriveMaxPerSecond`]
    #[arg(long, value_parser = crate::parse::whole_rate)]
    rate: Option<u32>,
    /// How many of each class go first; 0 for none [default: the parameter `RedriveCanaryMessages`]
    #[arg(long)]
    canaries: Option<u64>,
}

/// Archive dead letters instead of trying them again
#[derive(Debug, Args)]
pub(crate) struct Archive {
    #[command(flatten)]
    filter: Filter,
    #[command(flatten)]
    bounds: Bounds,
}

#[derive(Debug, Args)]
struct Bounds {
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// At most so many letters
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
}

/// What all runs together have done.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Done {
    dry_run: bool,
    runs: u64,
    #[serde(flatten)]
    report: RedriveReport,
}

impl Redrive {
    pub(super) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let mut fields = Map::new();
        fields.extend(self.rate.map(|rate| ("maxPerSecond".to_owned(), json!(rate))));
        fields.extend(self.canaries.map(|count| ("canaryMessages".to_owned(), json!(count))));
        move_letters("redrive", &self.filter, &self.bounds, fields, options, manner).await
    }
}

impl Archive {
    pub(super) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let fields = Map::from_iter([("mode".to_owned(), json!("archive"))]);
        move_letters("archive", &self.filter, &self.bounds, fields, options, manner).await
    }
}

/// Looks, says what would be done, asks, and has it done.
async fn move_letters(
    verb: &str,
    filter: &Filter,
    bounds: &Bounds,
    mut fields: Map<String, Value>,
    options: &Options,
    manner: Manner,
) -> Result<Verdict, Failure> {
    if !bounds.dry_run {
        manner.must_be_allowed(&format!("{verb} dead letters"))?;
    }
    let stack = Stack::find(options).await?;
    fields.extend(bounds.max.map(|most| ("maxMessages".to_owned(), json!(most))));
    let planned = filter.look(&stack, fields.clone(), manner).await?;
    if planned.selected == 0 || bounds.dry_run {
        let done = Done { dry_run: true, runs: 1, report: planned };
        manner.print(&done, Done::render)?;
        manner.note(&receives(done.report.seen));
        return Ok(Verdict::Fine);
    }
    manner.note(&format!("Of stack `{}`: {}.", stack.name, planned.summary));
    let letters = counted(planned.selected, "dead letter", "dead letters");
    manner.ask(&format!("{verb} {letters}"))?;

    let mut request = filter.request(jiff::Timestamp::now());
    request.extend(fields);
    let request = Value::Object(request);
    let progress = manner.progress("the redrive is at work");
    let mut done = Done::default();
    loop {
        let report: RedriveReport = stack.invoke(filter.function(), &request).await?;
        let goes_on = goes_on(&report) && bounds.max.is_none();
        done.add(report);
        if !goes_on {
            break;
        }
        progress.say(&format!("the redrive goes on; so far {}", done.counts()));
    }
    drop(progress);
    manner.print(&done, Done::render)?;
    Ok(Verdict::wrong_if(!went_well(&done.report)))
}

/// Whether a run was ended by its deadline, and another would do more.
fn goes_on(report: &RedriveReport) -> bool {
    report.stopped == "deadline" && !report.moved_nothing
}

impl Done {
    fn add(&mut self, report: RedriveReport) {
        let before = std::mem::take(&mut self.report);
        self.runs += 1;
        let mut archived = before.archived;
        for (class, count) in &report.archived {
            *archived.entry(class.clone()).or_default() += count;
        }
        self.report = RedriveReport {
            redriven: before.redriven + report.redriven,
            succeeded: before.succeeded + report.succeeded,
            archived,
            ..report
        };
    }

    fn counts(&self) -> String {
        let archived = self.report.archived.values().sum();
        format!("{} redriven, {} archived", number(self.report.redriven), number(archived))
    }

    fn render(&self) -> String {
        let RedriveReport { archived, left, stopped, failed, held_back, .. } = &self.report;
        let would = if self.dry_run { "would be " } else { "" };
        let mut rows =
            vec![vec![format!("{would}redriven"), number(self.report.redriven), String::new()]];
        for (class, count) in archived {
            rows.push(vec![format!("{would}archived"), number(*count), class.clone()]);
        }
        let mut row = |name: &str, count: u64, note: &str, bad: bool| {
            if count > 0 {
                let count = number(count);
                let count = if bad { paint(BAD, count) } else { count };
                rows.push(vec![name.to_owned(), count, note.to_owned()]);
            }
        };
        row("succeeded since", self.report.succeeded, "their letters are gone", false);
        row("running", self.report.running, "their letters stay for the next run", false);
        row(
            "held back",
            *held_back,
            "the first of their class came to nothing: the cause persists",
            true,
        );
        row("failed", *failed, "not confirmed elsewhere: they stay; the log says why", true);
        row("not asked for", self.report.filtered, "", false);
        row("too new", self.report.too_new, "", false);
        let mut text = columns(&rows, &[1]);
        if let (Some(left), false) = (left, self.dry_run) {
            text.extend(["\n  about ", &number(*left), " left in the queue"]);
        }
        let why = match stopped.as_str() {
            "empty" | "" if self.dry_run => return text,
            "empty" | "" => paint(GOOD, "done"),
            "maxMessages" => "stopped at --max".to_owned(),
            "deadline" => "stopped: the time of the function was up; run it again".to_owned(),
            "canary" => paint(BAD, "stopped: the cause persists; repair it first"),
            "tooManyHidden" => {
                "stopped: SQS hides too many letters at once; run it again later".to_owned()
            }
            other => paint(BAD, format!("stopped: {other}")),
        };
        text.extend(["\n  ", &why]);
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(value: &Value) -> RedriveReport {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn runs_that_follow_each_other_are_one_result() {
        let mut done = Done::default();
        let first = report(&json!({
            "redriven": 10, "archived": { "NotJson": 1 }, "stopped": "deadline", "left": 9
        }));
        assert!(goes_on(&first));
        done.add(first);
        let last = report(&json!({
            "redriven": 5, "archived": { "NotJson": 2, "E": 1 }, "stopped": "empty", "left": 0
        }));
        assert!(!goes_on(&last));
        done.add(last);
        assert_eq!(done.counts(), "15 redriven, 4 archived");
        assert_eq!(
            anstream::adapter::strip_str(&done.render()).to_string(),
            "  redriven  15\
             \n  archived   1  E\
             \n  archived   3  NotJson\
             \n\n  about 0 left in the queue\
             \n  done"
        );
    }

    #[test]
    fn a_run_that_does_nothing_more_is_not_repeated() {
        assert!(!goes_on(&report(&json!({ "stopped": "deadline", "movedNothing": true }))));
        assert!(!goes_on(&report(&json!({ "stopped": "canary" }))));
    }

    #[test]
    fn what_stays_is_said_with_the_reason() {
        let report = report(&json!({ "heldBack": 4, "failed": 2, "stopped": "canary" }));
        let text = Done { dry_run: false, runs: 1, report }.render();
        let text = anstream::adapter::strip_str(&text).to_string();
        assert!(text.contains("held back  4  the first of their class came to nothing"), "{text}");
        assert!(text.contains("failed     2  not confirmed elsewhere"), "{text}");
        assert!(text.contains("stopped: the cause persists"), "{text}");
    }
}
