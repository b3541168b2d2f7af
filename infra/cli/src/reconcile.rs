//! `sluice reconcile` and `sluice backfill`: what was written against what became of it. The redrive
//! function does the work; this drives it to its end and shows where it is.

use std::{iter::once, ops::RangeInclusive, time::Duration};

use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use redrive::{Effort, Ledger};
use serde_json::{Map, Value, json};

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{
        BAD, CAUTION, GOOD, Manner, QUIET, STRONG, Verdict, columns, counted, number, paint, span,
    },
    status::closes,
};

/// Compare what was written to the bucket with what became of it, and name what is missing
///
/// Every version of an object gets exactly one end: an execution, a dead letter, a document of the
/// archive, or none, and then it is missing. With --fix, what is missing is put on the work queue;
/// if it turns up after all, nothing starts twice. The exit code is 1 if something is missing and was
/// not put back, or if the ledger does not close.
#[derive(Debug, Args)]
#[command(after_long_help = figures())]
pub(crate) struct Reconcile {
    /// Versions that were written then or later: a time, a day, or how long ago
    #[arg(long, value_name = "TIME", default_value = "24h", value_parser = crate::parse::moment)]
    since: Timestamp,
    /// Versions that were written before this [default: an hour ago, since most have arrived by then]
    #[arg(long, value_name = "TIME", value_parser = crate::parse::moment)]
    until: Option<Timestamp>,
    /// Put what is missing on the work queue
    #[arg(long)]
    fix: bool,
    #[command(flatten)]
    scope: Scope,
}

/// Start executions for objects that were there before the stack was
///
/// The same as `reconcile --fix` for all that was ever written, at a rate that leaves room for what
/// arrives meanwhile. What has an execution, a dead letter or a document is left alone.
#[derive(Debug, Args)]
#[command(after_long_help = figures())]
pub(crate) struct Backfill {
    /// Versions that were written then or later, or `all`
    #[arg(long, value_name = "TIME", value_parser = since)]
    since: Timestamp,
    /// Versions that were written before this [default: an hour ago]
    #[arg(long, value_name = "TIME", value_parser = crate::parse::moment)]
    until: Option<Timestamp>,
    /// Start versions too that are older than the 90 days for which Step Functions remembers
    /// executions. If the stack is older than that, some of them have been started before
    #[arg(long)]
    start_forgotten: bool,
    /// Only say what would be started
    #[arg(long)]
    dry_run: bool,
    #[command(flatten)]
    scope: Scope,
}

#[derive(Debug, Default, Args)]
struct Scope {
    /// Only objects whose keys begin with this
    #[arg(long)]
    prefix: Option<String>,
    /// Put at most so many on the work queue, such as `50/s` [default: `RedriveMaxPerSecond`]
    #[arg(long, value_parser = crate::parse::whole_rate)]
    rate: Option<u32>,
}

fn since(text: &str) -> Result<Timestamp, String> {
    if text == "all" { Ok(Timestamp::UNIX_EPOCH) } else { crate::parse::moment(text) }
}

impl Reconcile {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        if self.fix {
            manner.must_be_allowed("put what is missing on the work queue")?;
        }
        let stack = Stack::find(options).await?;
        if self.fix {
            manner.ask(&format!(
                "put every version on the work queue of stack `{}` that was written since {} and is missing",
                stack.name, self.since
            ))?;
        }
        drive(&stack, self.request(), manner).await
    }

    fn request(&self) -> Map<String, Value> {
        self.scope.request(self.since, self.until, self.fix)
    }
}

impl Backfill {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        if !self.dry_run {
            manner.must_be_allowed("start executions for what was there before")?;
        }
        let stack = Stack::find(options).await?;
        if !self.dry_run {
            let since = if self.since == Timestamp::UNIX_EPOCH {
                String::new()
            } else {
                format!(" that was written since {}", self.since)
            };
            manner.ask(&format!(
                "start an execution for every version{since} in the bucket of stack `{}` that has none",
                stack.name
            ))?;
        }
        drive(&stack, self.request(), manner).await
    }

    fn request(&self) -> Map<String, Value> {
        let mut request = self.scope.request(self.since, self.until, !self.dry_run);
        if self.start_forgotten {
            request.insert("startForgotten".to_owned(), json!(true));
        }
        request
    }
}

impl Scope {
    fn request(&self, since: Timestamp, until: Option<Timestamp>, fix: bool) -> Map<String, Value> {
        let mut request = Map::from_iter([
            ("mode".to_owned(), json!("reconcile")),
            ("since".to_owned(), json!(since)),
            ("fix".to_owned(), json!(fix)),
        ]);
        request.extend(until.map(|until| ("until".to_owned(), json!(until))));
        request.extend(self.prefix.as_ref().map(|prefix| ("prefix".to_owned(), json!(prefix))));
        request.extend(self.rate.map(|rate| ("maxPerSecond".to_owned(), json!(rate))));
        request
    }
}

/// Calls the function until it has come to its end. Each answer counts what all calls so far have
/// found.
async fn drive(
    stack: &Stack,
    request: Map<String, Value>,
    manner: Manner,
) -> Result<Verdict, Failure> {
    let progress = manner.progress("the ledger is made");
    let mut request = Value::Object(request);
    let ledger = loop {
        let ledger: Ledger = stack.invoke("RedriveFunctionName", &request).await?;
        let Some(next) = &ledger.next else { break ledger };
        progress.say(&so_far(&ledger));
        request = json!({ "mode": "reconcile", "next": next });
    };
    drop(progress);
    manner.print(&ledger, |ledger| render(ledger, &TimeZone::system()))?;
    Ok(Verdict::wrong_if(!closes(&ledger)))
}

/// Versions of the bucket for which the help says what a ledger takes.
const SIZES: [u64; 3] = [1_000_000, 10_000_000, 100_000_000];

/// A ledger of so many versions: how many there are, what their listing and that of their executions
/// takes, the memory for them, and the memory of the function.
fn figures_of(versions: u64) -> [String; 5] {
    let effort = Effort::of(versions);
    let calls = |calls, time: &RangeInclusive<Duration>| {
        let (least, most) = (span(*time.start()), span(*time.end()));
        format!("{} calls, {least} to {most}", number(calls))
    };
    [
        number(versions),
        calls(effort.listing_calls, &effort.listing),
        calls(effort.execution_calls, &effort.executions),
        format!("{} MB", number(effort.bytes / 1_000_000)),
        number(effort.function_megabytes),
    ]
}

/// The end of the help.
fn figures() -> String {
    let heads = ["versions", "listing", "executions", "memory", "MemorySize"].map(str::to_owned);
    let rows = SIZES.map(figures_of);
    let rows: Vec<Vec<String>> = once(heads).chain(rows).map(Vec::from).collect();
    format!(
        "What a ledger takes, if all versions of the bucket are of the time asked for and have an \
         execution:\n{}\nThe listing is always that of the whole bucket, or of --prefix, and is made \
         once more if something is missing. The executions are those of the time asked for. With a \
         smaller MemorySize than the last column says, the bucket is compared part by part, and the \
         executions are listed for each part. A run that meets the deadline of the function goes on \
         in the next call. Starting what is missing comes on top, at --rate.",
        columns(&rows, &[0, 3, 4])
    )
}

fn so_far(ledger: &Ledger) -> String {
    format!(
        "the ledger goes on: {} so far, {} missing, {} put back",
        counted(ledger.versions, "version", "versions"),
        number(ledger.missing),
        number(ledger.fixed)
    )
}

fn render(ledger: &Ledger, zone: &TimeZone) -> String {
    let time = |text: &str| {
        let time: Result<Timestamp, _> = text.parse();
        let said =
            time.map(|time| time.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M").to_string());
        said.unwrap_or_else(|_| "?".to_owned())
    };
    let mut rows = Vec::new();
    for (name, count, note, style) in [
        ("succeeded", ledger.succeeded, "", None),
        ("running", ledger.running, "", None),
        ("failed", ledger.failed, "and on their way back", None),
        (
            "dead letters",
            ledger.dead_letters,
            "not started yet; the redrive brings them back",
            None,
        ),
        ("archived", ledger.archived, "given up, each with its reason", None),
        ("aborted", ledger.aborted, "a person ended the execution", None),
        ("waiting", ledger.waiting, "in a queue; look again later", Some(CAUTION)),
        ("missing", ledger.missing, "", Some(BAD)),
        ("put back", ledger.fixed, "", Some(GOOD)),
        ("unknown", ledger.unknown, "", Some(CAUTION)),
    ] {
        // What may be missing is said even where nothing is.
        if count > 0 || matches!(name, "succeeded" | "missing") {
            let digits = number(count);
            let digits =
                style.filter(|_| count > 0).map_or(digits.clone(), |style| paint(style, digits));
            rows.push(vec![name.to_owned(), digits, note.to_owned()]);
        }
    }
    let mut text = format!(
        "{} written from {} to {}\n\n{}",
        paint(STRONG, counted(ledger.versions, "version", "versions")),
        time(&ledger.since),
        time(&ledger.until),
        columns(&rows, &[1])
    );
    if !ledger.first_missing.is_empty() {
        let more = ledger.missing.saturating_sub(ledger.first_missing.len() as u64);
        text.push_str("\n  missing\n");
        for missing in &ledger.first_missing {
            let version = missing.version_id.as_deref().unwrap_or("no version");
            text.extend(["    ", &missing.key, "  ", &paint(QUIET, version), "\n"]);
        }
        if more > 0 {
            text.extend([
                "    and ",
                &number(more),
                " more, which are in the log of the redrive\n",
            ]);
        }
    }
    let verdict = if closes(ledger) && ledger.missing > 0 {
        paint(GOOD, "what was missing is on the work queue; the next ledger will close")
    } else if closes(ledger) {
        paint(GOOD, "the ledger closes")
    } else {
        format!("{}: {}", paint(BAD, "the ledger does not close"), ledger.summary)
    };
    text.extend(["\n  ", &verdict]);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ledger(value: Value) -> Ledger {
        serde_json::from_value(value).unwrap()
    }

    fn rendered(value: Value) -> String {
        anstream::adapter::strip_str(&render(&ledger(value), &TimeZone::UTC)).to_string()
    }

    #[test]
    fn a_ledger_that_closes_is_short() {
        let text = rendered(json!({
            "since": "2026-11-19T20:00:00Z", "until": "2026-11-20T20:00:00Z", "versions": 1_412,
            "succeeded": 1_400, "archived": 12, "closed": true, "complete": true
        }));
        assert_eq!(
            text,
            "1,412 versions written from 2026-11-19 20:00 to 2026-11-20 20:00\n\n  \
             succeeded  1,400\n  archived      12  given up, each with its reason\n  \
             missing        0\n\n  the ledger closes"
        );
    }

    #[test]
    fn what_is_missing_is_named_and_what_was_put_back_is_no_reproach() {
        let missing = json!({
            "versions": 3, "succeeded": 1, "missing": 2, "complete": true, "summary": "2 missing",
            "firstMissing": [{ "key": "devices/1", "versionId": "v" }]
        });
        let text = rendered(missing.clone());
        assert!(text.contains("    devices/1  v\n    and 1 more"), "{text}");
        assert!(text.ends_with("the ledger does not close: 2 missing"), "{text}");
        assert!(!closes(&ledger(missing.clone())));

        let mut fixed = missing;
        fixed["fixed"] = json!(2);
        assert!(closes(&ledger(fixed.clone())));
        assert!(rendered(fixed.clone()).ends_with("the next ledger will close"));
        // The rest has to be right too.
        for (field, value) in
            [("waiting", json!(1)), ("unknown", json!(1)), ("complete", json!(false))]
        {
            let mut open = fixed.clone();
            open[field] = value;
            assert!(!closes(&ledger(open)), "{field}");
        }
    }

    #[test]
    fn the_help_and_the_documents_say_what_a_ledger_takes() {
        assert_eq!(
            figures_of(1_000_000),
            [
                "1,000,000",
                "1,000 calls, 12 s to 50 s",
                "1,000 calls, 3 min 20 s to 8 min 20 s",
                "26 MB",
                "100"
            ]
        );
        let operations = include_str!("../../docs/operations.md");
        for size in SIZES {
            let row = format!("| {} |", figures_of(size).join(" | "));
            assert!(operations.contains(&row), "operations.md lacks {row}");
            assert!(figures().contains(&figures_of(size)[1]));
        }
    }

    #[test]
    fn a_backfill_is_a_reconciliation_of_everything() {
        let backfill = Backfill {
            since: since("all").unwrap(),
            until: None,
            start_forgotten: true,
            dry_run: false,
            scope: Scope { prefix: Some("devices/".into()), rate: Some(50) },
        };
        assert_eq!(
            Value::Object(backfill.request()),
            json!({
                "mode": "reconcile", "since": "1970-01-01T00:00:00Z", "fix": true,
                "prefix": "devices/", "maxPerSecond": 50, "startForgotten": true
            })
        );
        let look = Backfill { dry_run: true, start_forgotten: false, ..backfill };
        assert_eq!(look.request()["fix"], false);
        assert_eq!(look.request().get("startForgotten"), None);
    }
}
