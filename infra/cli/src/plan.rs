//! `sluice plan`: what happens when more arrives than Step Functions takes.

mod advice;
mod cost;
mod measured;
mod plot;
mod quantity;
mod report;
mod simulation;
#[cfg(test)]
mod tests;

use std::{fs, io, path::PathBuf, time::Duration};

use clap::{Args, ValueEnum};
use consumer::Backoff;
use jiff::{Timestamp, tz::TimeZone};

use cost::Execution;
use measured::{Arrivals, Series, rounded};
use quantity::{Length, Rate};
use report::Report;
use simulation::{Burst, FIRST_CONSUMERS, Quota, Scenario, Stack};

use crate::{
    aws::{self, Options},
    failure::Failure,
    output::{Format, Manner},
};

/// Regions with the larger quota of `StartExecution`, and that of the others. The quotas are the
/// defaults of an account: <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const LARGE_REGIONS: [&str; 3] = ["us-east-1", "us-west-2", "eu-west-1"];
const LARGE: Quota = Quota { bucket: 1_300.0, refill: 300.0 };
const SMALL: Quota = Quota { bucket: 800.0, refill: 150.0 };
const EXPRESS: Quota = Quota { bucket: 6_000.0, refill: 6_000.0 };

/// Processor time of the consumer for one message, with its object read and by reference, as measured
/// on a whole processor: infra/bench/results.md, 2026-11-21.
const INLINE: f64 = 0.000_507;
const BY_REFERENCE: f64 = 0.000_255;
/// The memory with which a function has a whole processor.
const MEMORY_OF_A_PROCESSOR_MB: f64 = 1_769.0;

/// What a burst does to the stack: depth, age, time to drain, cost, and better settings
///
/// Simulates the work queue, the consumers and the quota of Step Functions. Unless it takes what
/// arrives from the metrics of a stack, it calls nothing, and the same arguments always give the same
/// answer.
#[derive(Debug, Args)]
#[command(after_help = "\
Example: 200 uploads a second, and for ten minutes 5,000 a second more:
  sluice plan --arrivals 200/s --burst 5000/s --burst-for 10m --service-time 1s

What has arrived in the last day, if the consumers had to take it with other settings:
  sluice plan --from-metrics --since 24h --maximum-concurrency 5")]
pub(crate) struct Plan {
    /// Take what arrives from the metrics of the stack: a steady stream, and the busiest stretch as
    /// the burst. Metrics are by the minute, so the busiest second of a minute is not seen
    #[arg(long, conflicts_with_all = ["arrivals", "burst"])]
    from_metrics: bool,
    /// How far back the metrics are asked for
    #[arg(long, value_name = "TIME", value_parser = crate::parse::time, default_value = "24h", requires = "from_metrics")]
    since: Duration,
    /// Uploads that arrive all the time, such as 200/s, 12000/min or 5000000/day
    #[arg(long, value_name = "RATE", default_value = "0/s")]
    arrivals: Rate,
    /// Uploads that arrive beside these during the burst
    #[arg(long, value_name = "RATE", requires = "burst_for")]
    burst: Option<Rate>,
    /// How long the burst lasts, such as 10m or 1h 30m
    #[arg(long, value_name = "TIME", requires = "burst")]
    burst_for: Option<Length>,
    /// How many such bursts a month has, for the bill
    #[arg(long, value_name = "NUMBER", default_value_t = 1, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    bursts_per_month: u32,
    /// How long an execution runs
    #[arg(long, value_name = "TIME", default_value = "1s")]
    service_time: Length,
    /// States that an execution enters, and one for its start: what a STANDARD one is billed by
    #[arg(long, value_name = "NUMBER", default_value_t = 3)]
    transitions: u32,

    /// Region of the stack, which decides how many executions may be started
    /// [default: eu-west-1, or that of the stack with --from-metrics]
    #[arg(long)]
    region: Option<String>,
    /// Another quota of starts, as bucket and refill a second, such as 1300,300
    #[arg(long, value_name = "BUCKET,REFILL")]
    quota: Option<Quota>,
    /// How many STANDARD executions may be open in the account
    #[arg(long, value_name = "NUMBER", default_value_t = 1_000_000)]
    open_executions: u32,
    /// How long a call to AWS takes
    #[arg(long, value_name = "TIME", default_value = "20ms")]
    call: Length,

    /// For the random delays
    #[arg(long, value_name = "NUMBER", default_value_t = 0)]
    seed: u64,
    /// Draw the queue over time into this file, too
    #[arg(long, value_name = "FILE")]
    svg: Option<PathBuf>,

    // Last, because the heading of these would be that of all that follows.
    #[command(flatten)]
    settings: Settings,
}

/// Parameters of the template, under their names there and with their defaults.
#[derive(Debug, Args)]
#[command(next_help_heading = "Parameters of the stack")]
struct Settings {
    #[arg(long, value_enum, default_value_t = MachineType::Standard)]
    state_machine_type: MachineType,
    /// How many consumers run at once at most
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(2..=1_000))]
    maximum_concurrency: u32,
    /// Messages of one invocation
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    batch_size: u32,
    #[arg(long, value_name = "SECONDS", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=300))]
    batching_window_seconds: u32,
    /// Starts under way at once in one invocation
    #[arg(long, value_name = "NUMBER", default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..=100))]
    start_concurrency: u32,
    /// Starts of one invocation in a second; 0 for no limit
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=10_000))]
    start_rate_per_second: u32,
    /// Executions that may run at once; 0 for no limit
    #[arg(long, value_name = "NUMBER", default_value_t = 0, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    max_running_executions: u32,
    #[arg(long, value_name = "SECONDS", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=900))]
    deferral_base_seconds: u32,
    #[arg(long, value_name = "SECONDS", default_value_t = 900, value_parser = clap::value_parser!(u32).range(1..=900))]
    deferral_cap_seconds: u32,
    #[arg(long, value_name = "HOURS", default_value_t = 72, value_parser = clap::value_parser!(u32).range(1..=240))]
    max_deferral_hours: u32,
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u32).range(10..=300))]
    consumer_timeout_seconds: u32,
    #[arg(long, value_name = "MB", default_value_t = 256, value_parser = clap::value_parser!(u32).range(128..=10_240))]
    memory_size: u32,
    /// Whether the consumer reads the objects; with Never it reads none
    #[arg(long, value_enum, default_value_t = InlineContent::ByMachine)]
    inline_content: InlineContent,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "UPPER")]
enum MachineType {
    Standard,
    Express,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
#[value(rename_all = "PascalCase")]
enum InlineContent {
    ByMachine,
    Required,
    Preferred,
    Never,
}

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("nothing arrives: say how much with --arrivals, or with --burst and --burst-for")]
    NothingArrives,
    #[error("a batch of more than 10 messages needs --batching-window-seconds of at least 1")]
    NoWindow,
    #[error(
        "executions of an EXPRESS state machine cannot be listed, so --max-running-executions has \
         to be 0"
    )]
    NotListed,
    #[error("cannot write {path}")]
    Write { path: PathBuf, source: io::Error },
    #[error("cannot draw the picture: {0}")]
    Draw(String),
    #[error("cannot write the answer as JSON")]
    Json(#[from] serde_json::Error),
    #[error(transparent)]
    Failure(#[from] Failure),
}

impl Plan {
    pub(crate) async fn run(mut self, options: &Options, manner: Manner) -> Result<(), Error> {
        let arrivals =
            if self.from_metrics { Some(self.take_arrivals(options).await?) } else { None };
        let report = self.report()?;
        if let Some(path) = &self.svg {
            let picture = plot::svg(&report).map_err(Error::Draw)?;
            fs::write(path, picture)
                .map_err(|source| Error::Write { path: path.clone(), source })?;
        }
        let now = Timestamp::now();
        match manner.output {
            Format::Table => {
                let taken = arrivals.map(|taken| taken.in_words(now, &TimeZone::system()));
                print!(
                    "{}{}",
                    taken.map(|text| text + "\n").unwrap_or_default(),
                    report.table(now)
                );
            }
            Format::Json => {
                let mut json = report.json();
                if let Some(taken) = arrivals {
                    json["arrivals"] = serde_json::to_value(taken)?;
                }
                println!("{}", serde_json::to_string_pretty(&json)?);
            }
        }
        Ok(())
    }

    /// Asks for what has arrived, and plans for that.
    async fn take_arrivals(&mut self, options: &Options) -> Result<Arrivals, Failure> {
        let region = self.region.clone().or_else(|| options.region.clone());
        let stack = aws::Stack::find(&Options { region, ..options.clone() }).await?;
        self.region = Some(stack.region.clone());
        let taken = Box::pin(Series::ask(&stack, self.since, Timestamp::now())).await?.arrivals();
        self.plan_for(&taken);
        Ok(taken)
    }

    fn plan_for(&mut self, taken: &Arrivals) {
        self.arrivals = Rate(rounded(taken.steady));
        self.burst = taken.burst.map(|burst| Rate(rounded(burst.rate)));
        self.burst_for = taken.burst.map(|burst| Length(burst.seconds));
    }

    fn region(&self) -> &str {
        self.region.as_deref().unwrap_or("eu-west-1")
    }

    fn report(&self) -> Result<Report, Error> {
        let scenario = self.scenario();
        if scenario.arrivals <= 0.0 && scenario.burst.is_none() {
            return Err(Error::NothingArrives);
        }
        if self.settings.batch_size > 10 && self.settings.batching_window_seconds == 0 {
            return Err(Error::NoWindow);
        }
        let is_express = self.settings.state_machine_type == MachineType::Express;
        if is_express && self.settings.max_running_executions > 0 {
            return Err(Error::NotListed);
        }
        let memory = f64::from(self.settings.memory_size);
        Ok(Report::new(
            scenario,
            report::Billing {
                execution: self.execution(),
                bursts: f64::from(self.bursts_per_month),
                memory_gb: memory / 1_024.0,
                slowdown: self.settings.slowdown(),
            },
            if self.quota.is_some() { "--quota".into() } else { self.region().to_owned() },
        ))
    }

    fn scenario(&self) -> Scenario {
        let Self { arrivals, burst, burst_for, settings, .. } = self;
        let rate = burst.map_or(0.0, |rate| rate.0);
        let length = burst_for.map_or(0.0, |length| length.0);
        let is_express = settings.state_machine_type == MachineType::Express;
        let of_region = match self.region() {
            _ if is_express => EXPRESS,
            region if LARGE_REGIONS.contains(&region) => LARGE,
            _ => SMALL,
        };
        Scenario {
            arrivals: arrivals.0,
            burst: (rate > 0.0 && length > 0.0).then_some(Burst { rate, length }),
            service_time: self.service_time.0,
            quota: self.quota.unwrap_or(of_region),
            open_executions: (!is_express).then_some(f64::from(
                match settings.max_running_executions {
                    0 => self.open_executions,
                    most => most.min(self.open_executions),
                },
            )),
            stack: settings.stack(self.call.0),
            call: self.call.0,
            seed: self.seed,
        }
    }

    fn execution(&self) -> Execution {
        match self.settings.state_machine_type {
            MachineType::Standard => {
                Execution::Standard { transitions: f64::from(self.transitions) }
            }
            MachineType::Express => Execution::Express { seconds: self.service_time.0 },
        }
    }
}

impl Settings {
    fn stack(&self, call: f64) -> Stack {
        let seconds = |seconds: u32| Duration::from_secs(seconds.into());
        let (processor, reads) = match self.inline_content {
            InlineContent::Never => (BY_REFERENCE, 0.0),
            InlineContent::ByMachine | InlineContent::Required | InlineContent::Preferred => {
                (INLINE, 1.0)
            }
        };
        Stack {
            maximum_concurrency: self.maximum_concurrency.into(),
            batch_size: self.batch_size.into(),
            batching_window: self.batching_window_seconds.into(),
            start_concurrency: self.start_concurrency.into(),
            start_rate: Some(self.start_rate_per_second).filter(|rate| *rate > 0).map(f64::from),
            backoff: Backoff {
                base: seconds(self.deferral_base_seconds),
                cap: seconds(self.deferral_cap_seconds),
            },
            max_deferral: f64::from(self.max_deferral_hours) * 3_600.0,
            consumer_timeout: self.consumer_timeout_seconds.into(),
            processor: processor * self.slowdown(),
            reads,
            between_batches: call,
            first_consumers: FIRST_CONSUMERS,
        }
    }

    /// How many times as long as with a whole processor a function computes.
    fn slowdown(&self) -> f64 {
        (MEMORY_OF_A_PROCESSOR_MB / f64::from(self.memory_size)).max(1.0)
    }
}
