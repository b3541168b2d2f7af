//! What the plan answers.

use std::fmt::Write as _;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

use super::{
    advice::{Advice, advise},
    cost::{Bill, Execution, PRICES},
    plot,
    quantity::{count, rate, time},
    simulation::{Outcome, RETENTION, Sample, Scenario, Work, simulate},
};

/// Messages that SQS lets be in flight:
/// <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/quotas-queues.html>
const MOST_IN_FLIGHT: f64 = 120_000.0;
const MONTH: f64 = 30.0 * 86_400.0;

/// Columns and rows of the plot, so that all of it fits into 80 columns.
const PLOT: (usize, usize) = (68, 10);

/// What the bill is made of.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Billing {
    pub(crate) execution: Execution,
    /// Bursts in a month.
    pub(crate) bursts: f64,
    pub(crate) memory_gb: f64,
    pub(crate) slowdown: f64,
}

#[derive(Debug, Clone, Copy)]
struct Month {
    uploads: f64,
    dollars: Bill,
    sum: f64,
}

#[derive(Debug)]
pub(crate) struct Report {
    scenario: Scenario,
    billing: Billing,
    /// What the quota is from.
    region: String,
    pub(crate) outcome: Outcome,
    /// None if the steady uploads are too many.
    month: Option<Month>,
    advice: Advice,
}

impl Report {
    pub(crate) fn new(scenario: Scenario, billing: Billing, region: String) -> Self {
        let outcome = simulate(&scenario);
        let month = month(&scenario, billing, &outcome);
        let advice = advise(&scenario, &outcome);
        Self { scenario, billing, region, outcome, month, advice }
    }

    /// What arrives, in a line.
    pub(crate) fn title(&self) -> String {
        let Scenario { arrivals, burst, .. } = &self.scenario;
        match burst {
            None => format!("{} uploads", rate(*arrivals)),
            Some(burst) if *arrivals <= 0.0 => {
                format!("{} uploads for {}", rate(burst.rate), time(burst.length))
            }
            Some(burst) => format!(
                "{} uploads, and {} more for {}",
                rate(*arrivals),
                rate(burst.rate),
                time(burst.length)
            ),
        }
    }

    pub(crate) fn table(&self, now: Timestamp) -> String {
        let Scenario { quota, service_time, .. } = &self.scenario;
        let kind = match self.billing.execution {
            Execution::Standard { .. } => "STANDARD",
            Execution::Express { .. } => "EXPRESS",
        };
        let mut text = format!(
            "{}\n{kind} executions of {}; quota: {} starts, then {} ({})\n\n",
            self.title(),
            time(*service_time),
            count(quota.bucket),
            rate(quota.refill),
            self.region,
        );
        text.push_str("messages in the queue\n");
        text.push_str(&plot::braille(&self.outcome.samples, PLOT.0, PLOT.1));
        let sections = [
            ("what happens".to_owned(), self.what_happens(now)),
            (self.month_title(), self.bill()),
            ("better settings".to_owned(), self.better()),
        ];
        for (title, rows) in sections {
            _ = writeln!(text, "\n{title}");
            for (name, values) in rows {
                for (index, line) in wrapped(&values, 60).into_iter().enumerate() {
                    _ = writeln!(text, "  {:16}{line}", if index == 0 { name } else { "" });
                }
            }
        }
        text
    }

    fn month_title(&self) -> String {
        let bursts = self.billing.bursts;
        match self.scenario.burst {
            Some(_) if bursts < 1.5 => format!("a month with {bursts:.0} such burst, in dollars"),
            Some(_) => format!("a month with {bursts:.0} such bursts, in dollars"),
            None => "a month of this, in dollars".to_owned(),
        }
    }

    fn what_happens(&self, now: Timestamp) -> Vec<(&'static str, String)> {
        let Outcome { peak, deepest, work, .. } = &self.outcome;
        let depth = if deepest.depth() < 1.0 + deepest.in_flight {
            "no message waits: the consumers take all as they come".to_owned()
        } else {
            format!(
                "{} messages after {}, of which {} delayed",
                count(deepest.depth()),
                time(deepest.time),
                count(deepest.delayed)
            )
        };
        let running = self.scenario.open_executions.map_or_else(
            || format!("{} executions at most; EXPRESS has no limit", count(peak.running)),
            |most| format!("{} executions at most, of {}", count(peak.running), count(most)),
        );
        vec![
            ("depth", depth),
            (
                "in flight",
                format!(
                    "{} messages at most, of {}; {} at most delayed",
                    count(peak.in_flight.ceil()),
                    count(MOST_IN_FLIGHT),
                    count(peak.delayed)
                ),
            ),
            ("age", format!("{} at most from upload to start", time(peak.age))),
            ("drained", self.drained()),
            (
                "calls",
                format!(
                    "{:.2} for each start, {:.0} % of them refused; {} deferrals",
                    self.outcome.calls_per_start(),
                    work.refused / work.calls.max(1.0) * 100.0,
                    count(work.deferrals)
                ),
            ),
            ("running", running),
            ("lost", self.lost(now)),
        ]
    }

    fn drained(&self) -> String {
        let Scenario { arrivals, burst, quota, .. } = &self.scenario;
        match (self.outcome.drained, burst) {
            (Some(drained), Some(burst)) => {
                let after = drained - burst.length;
                let backlog = (burst.rate * burst.length - quota.bucket).max(0.0);
                let alone = backlog / (quota.refill - arrivals) - burst.length;
                let mut text = format!("{} after the end of the burst", time(after.max(0.0)));
                if alone > 0.0 {
                    _ = write!(text, "; the quota alone takes {}", time(alone));
                }
                text
            }
            (Some(_), None) => "there is nothing to drain".to_owned(),
            (None, _) => {
                let end = self.outcome.end;
                let started = self.outcome.work.starts / end;
                let last = self.outcome.samples.last().map_or(0.0, Sample::depth);
                format!(
                    "never: {} arrive, and {:.0} a second were started; after {}, {} messages wait",
                    rate(*arrivals),
                    started,
                    time(end),
                    count(last),
                )
            }
        }
    }

    fn lost(&self, now: Timestamp) -> String {
        let Outcome { deferred_too_long, first_deferred_too_long, first_lost, .. } = &self.outcome;
        let mut parts = Vec::new();
        if let Some(first) = first_deferred_too_long {
            parts.push(format!(
                "from {} on, {} messages become dead letters (DeferredTooLong), and come back at \
                 night",
                time(*first),
                count(*deferred_too_long)
            ));
        }
        if let Some(first) = first_lost {
            parts.push(format!(
                "after {}, {}if this began now, SQS begins to delete messages, which it keeps for {}",
                time(*first),
                on(now, *first),
                time(RETENTION)
            ));
        }
        if parts.is_empty() {
            parts.push(format!(
                "nothing: no message is deferred for {} or kept for {}",
                time(self.scenario.stack.max_deferral),
                time(RETENTION)
            ));
        }
        parts.join("; ")
    }

    fn bill(&self) -> Vec<(&'static str, String)> {
        let Some(Month { uploads, dollars: bill, sum }) = self.month else {
            return vec![("none", "the steady uploads are more than can be started".to_owned())];
        };
        let dollars = |amount: f64| {
            if amount < 100.0 { format!("{amount:.2}") } else { count(amount) }
        };
        vec![
            ("uploads", count(uploads)),
            ("Lambda", dollars(bill.lambda)),
            ("SQS", dollars(bill.sqs)),
            ("S3 reads", dollars(bill.s3)),
            ("Step Functions", dollars(bill.step_functions)),
            ("sum", dollars(sum)),
            ("prices", PRICES.to_owned()),
        ]
    }

    fn better(&self) -> Vec<(&'static str, String)> {
        match &self.advice {
            Advice::Keep => vec![("none", "these are as good as any that were tried".to_owned())],
            Advice::RaiseQuota { refill } => vec![(
                "quota",
                format!(
                    "ask AWS for a refill of at least {} for StartExecution: no setting of the \
                     stack starts more than {}",
                    rate(*refill),
                    rate(self.scenario.quota.refill)
                ),
            )],
            Advice::RaiseOpenExecutions { open } => vec![(
                "quota",
                format!(
                    "ask AWS for at least {} open executions, or make them shorter; a \
                     MaxRunningExecutions has to be as large",
                    count(*open)
                ),
            )],
            Advice::Change(change) => {
                let burst = self.scenario.burst.map_or(0.0, |burst| burst.length);
                vec![
                    (
                        "set",
                        format!(
                            "MaximumConcurrency={:.0} BatchSize={:.0} StartRatePerSecond={:.0}",
                            change.maximum_concurrency,
                            change.batch_size,
                            change.start_rate_per_second
                        ),
                    ),
                    (
                        "which means",
                        format!(
                            "drained {} after the end of the burst, {:.2} calls for each start",
                            time((change.drained - burst).max(0.0)),
                            change.calls_per_start
                        ),
                    ),
                ]
            }
        }
    }

    fn better_json(&self) -> Value {
        match &self.advice {
            Advice::Keep => Value::Null,
            Advice::RaiseQuota { refill } => json!({ "quotaOfStartsPerSecond": whole(*refill) }),
            Advice::RaiseOpenExecutions { open } => {
                json!({ "quotaOfOpenExecutions": whole(*open) })
            }
            Advice::Change(change) => json!({
                "MaximumConcurrency": whole(change.maximum_concurrency),
                "BatchSize": whole(change.batch_size),
                "StartRatePerSecond": whole(change.start_rate_per_second),
            }),
        }
    }

    pub(crate) fn json(&self) -> Value {
        let Outcome { peak, deepest, work, .. } = &self.outcome;
        let burst = self.scenario.burst.map_or(0.0, |burst| burst.length);
        json!({
            "deepest": {
                "messages": whole(deepest.depth()),
                "delayed": whole(deepest.delayed),
                "afterSeconds": tenths(deepest.time),
            },
            "mostVisible": whole(peak.visible),
            "mostDelayed": whole(peak.delayed),
            "mostInFlight": whole(peak.in_flight),
            "mostRunning": whole(peak.running),
            "oldestSeconds": tenths(peak.age),
            "drainedAfterBurstSeconds": self.outcome.drained.map(|drained| tenths(drained - burst)),
            "uploads": whole(work.uploads),
            "starts": whole(work.starts),
            "calls": whole(work.calls),
            "refused": whole(work.refused),
            "deferrals": whole(work.deferrals),
            "deferredTooLong": whole(self.outcome.deferred_too_long),
            "firstDeferredTooLongSeconds": self.outcome.first_deferred_too_long.map(tenths),
            "deletedBySqsFromSeconds": self.outcome.first_lost.map(tenths),
            "month": self.month.map(|month| json!({
                "uploads": whole(month.uploads),
                "dollars": month.dollars,
                "sum": month.sum,
            })),
            "better": self.better_json(),
        })
    }
}

/// What a month of steady uploads with so many bursts costs.
fn month(scenario: &Scenario, billing: Billing, outcome: &Outcome) -> Option<Month> {
    let steady = if scenario.arrivals > 0.0 {
        simulate(&Scenario { burst: None, ..scenario.clone() })
    } else {
        Outcome { drained: Some(0.0), end: 1.0, ..Outcome::default() }
    };
    steady.drained?;
    outcome.drained?;
    let mut work = Work::default().and(MONTH / steady.end, steady.work);
    if scenario.burst.is_some() {
        let beside = outcome.work.and(-outcome.end / steady.end, steady.work);
        work = work.and(billing.bursts, beside);
    }
    let Billing { execution, memory_gb, slowdown, .. } = billing;
    let dollars = Bill::of(&work, execution, memory_gb, slowdown, scenario.call);
    Some(Month { uploads: work.uploads, dollars, sum: dollars.sum() })
}

/// A count that is a whole number of messages, but for a share of one.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "counts are no less than 0"
)]
fn whole(count: f64) -> u64 {
    count.round() as u64
}

/// The simulation knows no less than tenths of a second.
fn tenths(seconds: f64) -> f64 {
    (seconds * 10.0).round() / 10.0
}

/// A date, unless it is so far away that there is none.
fn on(now: Timestamp, seconds: f64) -> String {
    let date = SignedDuration::try_from_secs_f64(seconds)
        .ok()
        .and_then(|after| now.checked_add(after).ok());
    date.map_or_else(String::new, |date| format!("on {} ", date.strftime("%Y-%m-%d")))
}

/// A text in lines of at most so many characters.
fn wrapped(text: &str, width: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    for word in text.split(' ') {
        let Some(line) = lines.last_mut() else { break };
        if !line.is_empty() && line.chars().count() + 1 + word.chars().count() > width {
            lines.push(word.to_owned());
        } else {
            if !line.is_empty() {
                line.push(' ');
            }
            line.push_str(word);
        }
    }
    lines
}
