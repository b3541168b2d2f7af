//! `sluice status`: one look at everything.

use std::time::Duration;

use aws_sdk_cloudwatch::types::StateValue;
use aws_sdk_sfn::types::ExecutionStatus;
use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use redrive::Ledger;
use serde::Serialize;
use tokio::time::{Instant, sleep};

use crate::{
    aws::{Count, Dated, Depth, LastReports, Options, RedriveReport, Stack},
    failure::Failure,
    output::{
        BAD, CAUTION, GOOD, Manner, QUIET, STRONG, Verdict, clock, columns, counted, number, paint,
        since, span,
    },
    pause::Mapping,
};

/// Show the queues, the executions, the alarms, and the last redrive and ledger
///
/// The exit code is 1 if there are dead letters, if the consumer is paused, if an alarm is on, or
/// if the last redrive or ledger has left something open.
#[derive(Debug, Args)]
pub(crate) struct Show {
    /// Look twice, this far apart, and say when the work queue will be empty
    #[arg(long, value_name = "TIME", value_parser = crate::parse::time, num_args = 0..=1, default_missing_value = "10s")]
    sample: Option<Duration>,
}

/// A part of the picture, or why it is missing.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub(crate) enum Known<T> {
    Value(T),
    Unknown { unknown: String },
}

/// All that one look has found.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Status {
    stack: String,
    region: String,
    at: Timestamp,
    work_queue: Queue,
    dead_letter_queues: Vec<Queue>,
    #[serde(flatten)]
    rest: Rest,
    #[serde(skip_serializing_if = "Option::is_none")]
    drain: Option<Drain>,
}

/// What there is to see beside the queues, each part for itself.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Rest {
    pub(crate) executions: Known<Executions>,
    pub(crate) consumer: Known<Mapping>,
    pub(crate) alarms: Known<Vec<Alarm>>,
    pub(crate) last_redrive: Known<Option<Dated<RedriveReport>>>,
    pub(crate) last_ledger: Known<Option<Dated<Ledger>>>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Queue {
    name: &'static str,
    #[serde(flatten)]
    depth: Depth,
    oldest_seconds: Known<u64>,
}

#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Executions {
    pub(crate) running: Count,
    pub(crate) succeeded: Count,
    pub(crate) failed: Count,
    pub(crate) timed_out: Count,
    pub(crate) aborted: Count,
}

/// An alarm that is on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Alarm {
    /// Its name in the template, under which `operations.md` has a section about it.
    pub(crate) name: String,
    pub(crate) since: Option<Timestamp>,
}

/// How the work queue has changed between two looks.
#[derive(Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Drain {
    seconds: f64,
    /// Messages that left, less those that came.
    per_second: f64,
    #[serde(skip_serializing_if = "Option::is_none")]
    empty_at: Option<Timestamp>,
}

impl Show {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let status = Box::pin(look(&stack, self.sample, manner)).await?;
        let zone = TimeZone::system();
        manner.print(&status, |status| status.render(&zone))?;
        Ok(status.verdict())
    }
}

impl<T> Known<T> {
    pub(crate) fn of(result: Result<T, Failure>) -> Self {
        match result {
            Ok(value) => Self::Value(value),
            Err(error) => Self::Unknown { unknown: error.to_string() },
        }
    }

    pub(crate) fn value(&self) -> Option<&T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Unknown { .. } => None,
        }
    }

    /// The value in words, or why there is none.
    pub(crate) fn said(&self, words: impl FnOnce(&T) -> String) -> String {
        match self {
            Self::Value(value) => words(value),
            Self::Unknown { unknown } => paint(QUIET, format!("unknown: {unknown}")),
        }
    }
}

async fn look(stack: &Stack, sample: Option<Duration>, manner: Manner) -> Result<Status, Failure> {
    let work_queue_url = stack.output("WorkQueueUrl")?;
    let begin = Instant::now();
    let before = stack.depth(work_queue_url).await?;
    let dead_letter_queues = async {
        let mut queues =
            vec![queue(stack, "dead-letter queue", stack.output("DeadLetterQueueUrl")?).await?];
        if let Some(url) = stack.optional_output("OrderedDeadLetterQueueUrl") {
            queues.push(queue(stack, "ordered dead-letter queue", url).await?);
        }
        Ok::<_, Failure>(queues)
    };
    let rest = async { Ok::<_, Failure>(Box::pin(Rest::read(stack)).await) };
    let work_queue = queue(stack, "work queue", work_queue_url);
    let (mut work_queue, dead_letter_queues, rest) =
        tokio::try_join!(work_queue, dead_letter_queues, rest)?;
    let mut drain = None;
    if let Some(sample) = sample {
        let progress = manner.progress(&format!("looking again in {}", span(sample)));
        sleep(sample.saturating_sub(begin.elapsed())).await;
        work_queue.depth = stack.depth(work_queue_url).await?;
        drop(progress);
        let now = Timestamp::now();
        drain = Some(Drain::between(before, work_queue.depth, begin.elapsed(), now));
    }
    Ok(Status {
        stack: stack.name.clone(),
        region: stack.region.clone(),
        at: Timestamp::now(),
        work_queue,
        dead_letter_queues,
        rest,
        drain,
    })
}

impl Rest {
    pub(crate) async fn read(stack: &Stack) -> Self {
        let (executions, consumer, alarms, reports) = tokio::join!(
            Box::pin(executions(stack)),
            Mapping::read(stack),
            alarms(stack),
            stack.last_reports()
        );
        let (last_redrive, last_ledger) = match Known::of(reports) {
            Known::Value(LastReports { redrive, ledger, .. }) => {
                (Known::Value(redrive), Known::Value(ledger))
            }
            Known::Unknown { unknown } => {
                (Known::Unknown { unknown: unknown.clone() }, Known::Unknown { unknown })
            }
        };
        Self {
            executions: Known::of(executions),
            consumer: Known::of(consumer),
            alarms: Known::of(alarms),
            last_redrive,
            last_ledger,
        }
    }

    /// A row for each part: its name, and what there is to say.
    pub(crate) fn rows(&self, now: Timestamp, zone: &TimeZone) -> Vec<Vec<String>> {
        [
            ("executions", self.executions.said(Executions::in_words)),
            ("consumer", self.consumer.said(Mapping::in_words)),
            ("alarms", self.alarms.said(|alarms| alarms_in_words(alarms, now, zone))),
            (
                "last redrive",
                self.last_redrive.said(|last| redrive_in_words(last.as_ref(), now, zone)),
            ),
            (
                "last ledger",
                self.last_ledger.said(|last| ledger_in_words(last.as_ref(), now, zone)),
            ),
        ]
        .into_iter()
        .map(|(name, words)| vec![name.to_owned(), words])
        .collect()
    }
}

async fn queue(stack: &Stack, name: &'static str, url: &str) -> Result<Queue, Failure> {
    let (depth, age) = tokio::join!(stack.depth(url), stack.oldest_age(url));
    let depth = depth?;
    // CloudWatch has no figure of an empty queue, and is minutes late.
    let oldest_seconds = if depth.total() == 0 { Known::Value(0) } else { Known::of(age) };
    Ok(Queue { name, depth, oldest_seconds })
}

async fn executions(stack: &Stack) -> Result<Executions, Failure> {
    let count = |status| stack.count_executions(status);
    let (running, succeeded, failed, timed_out, aborted) = tokio::try_join!(
        count(ExecutionStatus::Running),
        count(ExecutionStatus::Succeeded),
        count(ExecutionStatus::Failed),
        count(ExecutionStatus::TimedOut),
        count(ExecutionStatus::Aborted),
    )?;
    Ok(Executions { running, succeeded, failed, timed_out, aborted })
}

/// What `DescribeAlarms` takes at a time.
const ALARMS_AT_ONCE: usize = 100;

/// The alarms of the stack that are on.
pub(crate) async fn alarms(stack: &Stack) -> Result<Vec<Alarm>, Failure> {
    let mut names = Vec::new();
    let mut pages =
        stack.cloudformation.list_stack_resources().stack_name(&stack.name).into_paginator().send();
    while let Some(page) = pages.next().await {
        let page = page.map_err(Failure::of("cloudformation:ListStackResources"))?;
        for resource in page.stack_resource_summaries.unwrap_or_default() {
            let is_alarm = resource.resource_type() == Some("AWS::CloudWatch::Alarm");
            if let (true, Some(physical), Some(logical)) =
                (is_alarm, resource.physical_resource_id, resource.logical_resource_id)
            {
                names.push((physical, logical));
            }
        }
    }
    let mut on = Vec::new();
    for names in names.chunks(ALARMS_AT_ONCE) {
        let answer = stack
            .cloudwatch
            .describe_alarms()
            .set_alarm_names(Some(names.iter().map(|(physical, _)| physical.clone()).collect()))
            .state_value(StateValue::Alarm)
            .max_records(100)
            .send()
            .await
            .map_err(Failure::of("cloudwatch:DescribeAlarms"))?;
        on.extend(answer.metric_alarms.unwrap_or_default().into_iter().map(|alarm| {
            let name = alarm.alarm_name.unwrap_or_default();
            let logical = names.iter().find(|(physical, _)| *physical == name);
            let since = alarm.state_updated_timestamp;
            Alarm {
                name: logical.map_or(name.clone(), |(_, logical)| logical.clone()),
                since: since.and_then(|time| Timestamp::from_second(time.secs()).ok()),
            }
        }));
    }
    on.sort_by(|a, b| a.name.cmp(&b.name));
    Ok(on)
}

impl Drain {
    pub(crate) fn between(before: Depth, after: Depth, time: Duration, now: Timestamp) -> Self {
        let seconds = time.as_secs_f64();
        #[expect(clippy::cast_precision_loss, reason = "queues have far fewer messages")]
        let (before, after) = (before.total() as f64, after.total() as f64);
        let per_second = if seconds > 0.0 { (before - after) / seconds } else { 0.0 };
        let empty_at = (per_second > 0.0)
            .then(|| Duration::try_from_secs_f64(after / per_second).ok())
            .flatten()
            .and_then(|left| now.checked_add(left).ok());
        Self { seconds, per_second, empty_at }
    }

    pub(crate) fn in_words(&self, depth: Depth, now: Timestamp, zone: &TimeZone) -> String {
        let rate = self.per_second;
        match self.empty_at {
            _ if depth.total() == 0 => paint(GOOD, "empty"),
            Some(time) => format!(
                "drains by {rate:.1} a second, empty at about {}",
                paint(STRONG, clock(time, now, zone))
            ),
            None if rate < 0.0 => paint(
                CAUTION,
                format!("grows by {:.1} a second: more arrives than is started", -rate),
            ),
            None => paint(CAUTION, "does not change"),
        }
    }
}

impl Status {
    fn verdict(&self) -> Verdict {
        let rest = &self.rest;
        let has_letters = self.dead_letter_queues.iter().any(|queue| queue.depth.total() > 0);
        let is_paused = matches!(&rest.consumer, Known::Value(mapping) if !mapping.is_on());
        let rings = matches!(&rest.alarms, Known::Value(alarms) if !alarms.is_empty());
        let redrive =
            matches!(&rest.last_redrive, Known::Value(Some(last)) if !went_well(&last.report));
        let ledger = matches!(&rest.last_ledger, Known::Value(Some(last)) if !closes(&last.report));
        Verdict::wrong_if(has_letters || is_paused || rings || redrive || ledger)
    }

    fn render(&self, zone: &TimeZone) -> String {
        let now = self.at;
        let mut text = format!(
            "{} in {} at {}\n\n",
            paint(STRONG, &self.stack),
            self.region,
            now.to_zoned(zone.clone()).strftime("%Y-%m-%d %H:%M:%S %Z")
        );
        let head = ["", "visible", "in flight", "delayed", "oldest"];
        let mut rows = vec![head.iter().map(|cell| paint(QUIET, cell)).collect::<Vec<_>>()];
        rows.push(self.work_queue.row(None));
        rows.extend(self.dead_letter_queues.iter().map(|queue| queue.row(Some(BAD))));
        text.push_str(&columns(&rows, &[1, 2, 3, 4]));
        text.push('\n');

        let mut rows = Vec::new();
        if let Some(drain) = &self.drain {
            let words = drain.in_words(self.work_queue.depth, now, zone);
            rows.push(vec!["work queue".to_owned(), words]);
        }
        rows.extend(self.rest.rows(now, zone));
        text.push_str(&columns(&rows, &[]));
        text
    }
}

impl Queue {
    /// `style` is for a number that should be zero.
    fn row(&self, style: Option<anstyle::Style>) -> Vec<String> {
        let cell = |count: u64| match style {
            Some(style) if count > 0 => paint(style, number(count)),
            _ => number(count),
        };
        let age = match self.oldest_seconds {
            Known::Value(0) if self.depth.total() == 0 => "–".to_owned(),
            Known::Value(seconds) => span(Duration::from_secs(seconds)),
            Known::Unknown { .. } => paint(QUIET, "unknown"),
        };
        let Depth { visible, in_flight, delayed } = self.depth;
        vec![self.name.to_owned(), cell(visible), cell(in_flight), cell(delayed), age]
    }
}

impl Executions {
    fn in_words(&self) -> String {
        let ended_badly = |count: Count, word: &str| {
            let text = format!("{} {word}", count.in_words());
            if count.count > 0 { paint(CAUTION, text) } else { text }
        };
        let aborted = (self.aborted.count > 0).then(|| ended_badly(self.aborted, "aborted"));
        let timed_out =
            (self.timed_out.count > 0).then(|| ended_badly(self.timed_out, "timed out"));
        [
            Some(format!("{} running", self.running.in_words())),
            Some(format!("{} succeeded", self.succeeded.in_words())),
            Some(ended_badly(self.failed, "failed")),
            timed_out,
            aborted,
        ]
        .into_iter()
        .flatten()
        .collect::<Vec<_>>()
        .join(", ")
    }
}

fn alarms_in_words(alarms: &[Alarm], now: Timestamp, zone: &TimeZone) -> String {
    if alarms.is_empty() {
        return paint(GOOD, "none is on");
    }
    let words = alarms.iter().map(|alarm| match alarm.since {
        Some(time) => format!("{} since {}", paint(BAD, &alarm.name), clock(time, now, zone)),
        None => paint(BAD, &alarm.name),
    });
    words.collect::<Vec<_>>().join(", ")
}

/// Whether a run has left nothing behind that it should have moved.
pub(crate) fn went_well(report: &RedriveReport) -> bool {
    report.failed == 0 && report.held_back == 0 && report.stopped != "receiveFailed"
}

/// Whether every version has its end, or gets it now because it was put on the work queue.
pub(crate) fn closes(report: &Ledger) -> bool {
    let all_put_back = report.missing > 0 && report.missing <= report.fixed;
    report.closed || report.complete && all_put_back && report.waiting + report.unknown == 0
}

fn redrive_in_words(
    last: Option<&Dated<RedriveReport>>,
    now: Timestamp,
    zone: &TimeZone,
) -> String {
    let Some(Dated { at, report }) = last else {
        return paint(QUIET, "none within 48 hours");
    };
    let by = if report.nightly { "" } else { " by hand" };
    let words = format!("{} ago{by}: {}", span(since(*at, now)), report.summary);
    let style = if went_well(report) { None } else { Some(BAD) };
    let at = clock(*at, now, zone);
    format!("{at}, {}", style.map_or(words.clone(), |style| paint(style, &words)))
}

fn ledger_in_words(last: Option<&Dated<Ledger>>, now: Timestamp, zone: &TimeZone) -> String {
    let Some(Dated { at, report }) = last else {
        return paint(QUIET, "none within 48 hours");
    };
    let versions = counted(report.versions, "version", "versions");
    let at = format!("{}, {} ago", clock(*at, now, zone), span(since(*at, now)));
    if closes(report) {
        return format!("{at}: {}, {versions}, {} missing", paint(GOOD, "closed"), report.missing);
    }
    format!("{at}: {}, {versions}: {}", paint(BAD, "does not close"), report.summary)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-20T14:00:00Z".parse().unwrap()
    }

    fn depth(visible: u64, in_flight: u64, delayed: u64) -> Depth {
        Depth { visible, in_flight, delayed }
    }

    fn queue(name: &'static str, depth: Depth) -> Queue {
        Queue { name, depth, oldest_seconds: Known::Unknown { unknown: "late".into() } }
    }

    fn status() -> Status {
        let count = |count, or_more| Count { count, or_more };
        Status {
            stack: "sluice".into(),
            region: "eu-west-1".into(),
            at: now(),
            work_queue: Queue {
                oldest_seconds: Known::Value(75),
                ..queue("work queue", depth(1_200, 30, 5))
            },
            dead_letter_queues: vec![Queue {
                oldest_seconds: Known::Value(0),
                ..queue("dead-letter queue", depth(0, 0, 0))
            }],
            rest: Rest {
                executions: Known::Value(Executions {
                    running: count(3, false),
                    succeeded: count(1_000, true),
                    ..Executions::default()
                }),
                consumer: Known::Value(Mapping::in_state("Enabled")),
                alarms: Known::Value(vec![]),
                last_redrive: Known::Value(None),
                last_ledger: Known::Value(Some(Dated {
                    at: now() - Duration::from_hours(8),
                    report: Ledger { versions: 412, closed: true, ..Ledger::default() },
                })),
            },
            drain: None,
        }
    }

    fn rendered(status: &Status) -> String {
        anstream::adapter::strip_str(&status.render(&TimeZone::UTC)).to_string()
    }

    #[test]
    fn a_quiet_stack_is_a_few_lines_and_no_reproach() {
        let text = rendered(&status());
        assert_eq!(
            text,
            "\
sluice in eu-west-1 at 2026-11-20 14:00:00 UTC

                     visible  in flight  delayed      oldest
  work queue           1,200         30        5  1 min 15 s
  dead-letter queue        0          0        0           –

  executions    3 running, 1,000+ succeeded, 0 failed
  consumer      on
  alarms        none is on
  last redrive  none within 48 hours
  last ledger   06:00, 8 h ago: closed, 412 versions, 0 missing
"
        );
        assert_eq!(status().verdict(), Verdict::Fine);
    }

    #[test]
    fn each_thing_that_needs_somebody_shows_in_the_exit_code() {
        let dead = Status {
            dead_letter_queues: vec![queue("dead-letter queue", depth(1, 0, 0))],
            ..status()
        };
        let with = |change: &dyn Fn(&mut Rest)| {
            let mut status = status();
            change(&mut status.rest);
            status
        };
        let paused = with(&|rest| rest.consumer = Known::Value(Mapping::in_state("Disabled")));
        let alarm = Alarm { name: "DeadLettersAlarm".into(), since: Some(now()) };
        let rings = with(&|rest| rest.alarms = Known::Value(vec![alarm.clone()]));
        let report = RedriveReport { failed: 1, ..RedriveReport::default() };
        let dated = Dated { at: now(), report };
        let redrive = with(&|rest| rest.last_redrive = Known::Value(Some(dated.clone())));
        let report = Ledger {
            missing: 2,
            fixed: 1,
            complete: true,
            summary: "2 missing".into(),
            ..Ledger::default()
        };
        let dated = Dated { at: now(), report };
        let ledger = with(&|rest| rest.last_ledger = Known::Value(Some(dated.clone())));
        for (wrong, word) in [
            (dead, "dead-letter queue        1"),
            (paused, "paused"),
            (rings, "DeadLettersAlarm since 14:00"),
            (redrive, "last redrive  14:00, 0 s ago by hand"),
            (ledger, "does not close, 0 versions: 2 missing"),
        ] {
            assert!(rendered(&wrong).contains(word), "{}", rendered(&wrong));
            assert_eq!(wrong.verdict(), Verdict::Wrong, "{word}");
        }
    }

    #[test]
    fn what_is_not_known_is_said_with_the_reason() {
        let mut unknown = status();
        unknown.rest.alarms = Known::Unknown { unknown: "no right".into() };
        assert!(rendered(&unknown).contains("alarms        unknown: no right"));
        let json = serde_json::to_value(&unknown).unwrap();
        assert_eq!(json["alarms"]["unknown"], "no right");
        assert_eq!(json["workQueue"]["visible"], 1_200);
    }

    #[test]
    fn two_looks_tell_when_the_queue_is_empty() {
        let ten = Duration::from_secs(10);
        let said = |before, after| {
            let drain = Drain::between(before, after, ten, now());
            let text = drain.in_words(after, now(), &TimeZone::UTC);
            anstream::adapter::strip_str(&text).to_string()
        };
        // 100 in 10 s; 12,000 left take 20 minutes.
        assert_eq!(
            said(depth(12_100, 0, 0), depth(11_000, 900, 100)),
            "drains by 10.0 a second, empty at about 14:20"
        );
        assert_eq!(
            said(depth(0, 0, 0), depth(50, 0, 0)),
            "grows by 5.0 a second: more arrives than is started"
        );
        assert_eq!(said(depth(7, 0, 0), depth(0, 7, 0)), "does not change");
        assert_eq!(said(depth(7, 0, 0), depth(0, 0, 0)), "empty");
    }
}
