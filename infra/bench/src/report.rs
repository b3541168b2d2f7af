//! The results as Markdown, every number of which was measured in this run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::drain::{Drain, Sample};
use crate::guard::Numbers;
use crate::measure::{Case, Cold, Rounds, Run, Runs, WARM_UP, median};
use crate::share::Shares;
use crate::subject::{Job, Places, Subject};

/// All that a run of the harness has found out.
#[derive(Debug)]
pub struct Results {
    pub runs: Runs,
    pub rounds: Rounds,
    pub shares: Shares,
    pub numbers: Option<Numbers>,
    pub drain: Drain,
    /// The burst on the local stack.
    pub local: Vec<Sample>,
    pub zips: Vec<(Subject, Job, u64)>,
    pub machine: String,
    pub versions: String,
    pub command: String,
    pub date: String,
}

/// One line of the goal table.
#[derive(Debug)]
pub struct Goal {
    what: String,
    limit: String,
    measured: String,
    met: bool,
}

impl Results {
    pub fn median<T>(&self, case: Case, subject: Subject, of: impl Fn(&Run) -> T) -> T
    where
        T: Copy + Default + Ord + std::ops::Add<Output = T> + std::ops::Div<u32, Output = T>,
    {
        median(self.runs.warm.get(&(case, subject)).into_iter().flatten().map(of).collect())
    }

    /// Of many starts: seconds.
    pub fn cold(&self, job: Job, subject: Subject, of: impl Fn(&Cold) -> Duration) -> f64 {
        let colds = self.runs.colds.get(&(job, subject)).into_iter().flatten();
        median(colds.map(of).collect()).as_secs_f64()
    }

    fn seconds(&self, case: Case, subject: Subject, of: impl Fn(&Run) -> Duration) -> f64 {
        self.median(case, subject, of).as_secs_f64()
    }

    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    pub fn megabytes(&self, case: Case, subject: Subject) -> f64 {
        let bytes = self.median(case, subject, |run| Bytes(run.memory));
        bytes.0 as f64 / 1e6
    }

    #[expect(clippy::cast_precision_loss, reason = "megabytes")]
    fn zip(&self, subject: Subject, job: Job) -> f64 {
        let found = self.zips.iter().find(|zip| (zip.0, zip.1) == (subject, job));
        found.map_or(f64::NAN, |zip| zip.2 as f64 / 1e6)
    }

    /// How many times less than another one Sluice takes.
    fn ratio(&self, case: Case, subject: Subject, of: impl Fn(&Run) -> Duration) -> f64 {
        self.seconds(case, subject, &of) / self.seconds(case, Subject::Sluice, &of)
    }

    pub fn goals(&self) -> Vec<Goal> {
        let mut goals = Goals::default();
        self.goals_of_starts(&mut goals);
        self.goals_of_events(&mut goals);
        for (case, factor) in [(Case::Forwarder, 2.2), (Case::Consumer, 3.0)] {
            let job = case.job().name();
            let ratio =
                |subject| self.megabytes(case, subject) / self.megabytes(case, Subject::Sluice);
            let what = format!("{job}: peak memory against a lambda_runtime that does nothing");
            goals.at_most(what, factor, 1.0 / ratio(Subject::Floor), "×");
            let what = format!("{job}: peak memory");
            goals.faster(&what, Subject::Python, 6.5, ratio(Subject::Python));
        }
        for (job, limit) in [(Job::Forwarder, 2.4), (Job::Consumer, 3.6)] {
            let zip = self.zip(Subject::Sluice, job);
            goals.at_most(format!("{}: zip", job.name()), limit, zip, " MB");
        }
        let drain = &self.drain;
        goals.faster("batch of 1,000: peak memory", Subject::Python, 4.5, drain.memory_ratio);
        goals.at_most(
            "batch of 1,000, 100 at once, two calls of 20 ms each: time against the ideal".into(),
            1.3,
            drain.against_ideal,
            "×",
        );
        goals.at_most(
            "the same with 10 % throttled, against unthrottled".into(),
            5.0,
            drain.throttled,
            "×",
        );
        goals.0
    }

    fn goals_of_starts(&self, goals: &mut Goals) {
        for (case, floor, tutorial) in [(Case::Forwarder, 1.3, 17.0), (Case::Consumer, 1.5, 6.0)] {
            let job = case.job();
            let cold = |subject, of: fn(&Cold) -> Duration| self.cold(job, subject, of);
            let time = |subject| cold(subject, |cold| cold.time);
            for (subject, factor) in
                [(Subject::Python, 150.0), (Subject::Node, 80.0), (Subject::Tutorial, 4.0)]
            {
                let what = format!("{}: cold start", job.name());
                goals.faster(&what, subject, factor, time(subject) / time(Subject::Sluice));
            }
            goals.at_most(
                format!("{}: cold start against a lambda_runtime that does nothing", job.name()),
                floor,
                time(Subject::Sluice) / time(Subject::Floor),
                "×",
            );
            let called = |subject| time(subject) + self.seconds(case, subject, |run| run.first);
            let cpu = |subject| {
                cold(subject, |cold| cold.cpu) + self.seconds(case, subject, |run| run.cpu_first)
            };
            for (subject, factor) in [(Subject::Python, 90.0), (Subject::Tutorial, tutorial)] {
                let what = format!("{}: init and first invocation, wall clock", job.name());
                goals.faster(&what, subject, factor, called(subject) / called(Subject::Sluice));
                let what = format!("{}: init and first invocation, CPU", job.name());
                goals.faster(&what, subject, factor, cpu(subject) / cpu(Subject::Sluice));
            }
        }
        let millions =
            |count: u64| f64::from(u32::try_from(count / 1_000).unwrap_or(u32::MAX)) / 1e3;
        let count = |case: Case| self.numbers.as_ref()?.instructions.get(case.label());
        for (case, limit) in [(Case::Forwarder, 0.95), (Case::Consumer, 1.6)] {
            if let Some(count) = count(case) {
                let what = format!("{}: instructions of init", case.job().name());
                goals.at_most(what, limit, millions(count.init), " M");
            }
        }
        if let Some(count) = count(Case::Forwarder) {
            let what = "forwarder: instructions of the first call".to_owned();
            goals.at_most(what, 3.35, millions(count.first_call), " M");
        }
    }

    fn goals_of_events(&self, goals: &mut Goals) {
        let of_consumer = &[(Subject::Python, 11.0), (Subject::Node, 4.5)][..];
        for (case, peers) in [
            (
                Case::Forwarder,
                &[(Subject::Python, 7.0), (Subject::Node, 7.0), (Subject::Tutorial, 1.4)][..],
            ),
            (Case::ConsumerByReference, of_consumer),
            (Case::Consumer, of_consumer),
        ] {
            for &(subject, factor) in peers {
                let ratio = self.ratio(case, subject, |run| run.cpu_event);
                goals.faster(&format!("{}: CPU per event", case.label()), subject, factor, ratio);
            }
        }
    }

    pub fn markdown(&self) -> String {
        let mut text = String::from(
            "# What was measured\n\nWritten by the harness in this folder; do not edit. ",
        );
        text.push_str(&self.provenance());
        text.push_str("\n\n## Goals\n\n| | goal | measured | |\n|---|---|---|---|\n");
        for goal in self.goals() {
            let met = if goal.met { "met" } else { "**missed**" };
            _ = writeln!(text, "| {} | {} | {} | {met} |", goal.what, goal.limit, goal.measured);
        }
        for case in Case::ALL {
            _ = write!(text, "\n## {}\n\n{}", case.label(), self.table(case));
        }
        text.push_str(&self.shares.markdown());
        text.push_str(&self.drain.markdown());
        text.push_str(&self.local_burst());
        text.push_str(&crate::cost::markdown(self));
        if let Some(numbers) = &self.numbers {
            text.push_str(
                "\n## Instructions\n\nOf Sluice, by cachegrind, in millions. Valgrind hides the \
                 processor's instructions for SHA-256 and for long numbers (SHA-NI, ADX), so \
                 signatures and handshakes look dearer here than they are.\n\n",
            );
            text.push_str("| | init | first call | warm invocation |\n|---|---|---|---|\n");
            for (case, count) in &numbers.instructions {
                let million =
                    |count: u64| format!("{:.2}", Duration::from_micros(count).as_secs_f64());
                _ = writeln!(
                    text,
                    "| {case} | {} | {} | {} |",
                    million(count.init),
                    million(count.first_call),
                    million(count.warm_invocation)
                );
            }
        }
        text
    }

    fn local_burst(&self) -> String {
        let Some(last) = self.local.last() else { return String::new() };
        let uploaded = self.local.iter().find(|sample| sample.arrived == last.arrived);
        format!(
            "\n{} files uploaded to the stack of `cargo demo` (an emulator, which shares the {} cores \
             with the functions): uploaded after {:.0} s, {} executions ended after {:.0} s. The rest \
             are dead letters, poisoned on purpose.\n\n![local burst](plots/local-burst.svg)\n",
            last.arrived,
            std::thread::available_parallelism().map_or(0, usize::from),
            uploaded.map_or(0.0, |sample| sample.seconds),
            last.done,
            last.seconds,
        )
    }

    fn table(&self, case: Case) -> String {
        let mut text = String::from(
            "| | cold start, ms | first invocation, ms | warm invocation, ms | CPU, init + first, ms | CPU per event, µs | peak memory, MB | zip, MB | connections |\n\
             |---|---|---|---|---|---|---|---|---|\n",
        );
        let measured = |subject: &Subject| self.runs.warm.contains_key(&(case, *subject));
        for subject in Subject::ALL.into_iter().filter(measured) {
            let milliseconds = |of: fn(&Run) -> Duration| self.seconds(case, subject, of) * 1e3;
            _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} | {:.2} | {} |",
                subject.label(),
                self.cold(case.job(), subject, |cold| cold.time) * 1e3,
                milliseconds(|run| run.first),
                milliseconds(|run| run.warm),
                self.cold(case.job(), subject, |cold| cold.cpu) * 1e3
                    + milliseconds(|run| run.cpu_first),
                milliseconds(|run| run.cpu_event) * 1e3,
                self.megabytes(case, subject),
                self.zip(subject, case.job()),
                self.median(case, subject, |run| Bytes(run.connections)).0,
            );
        }
        text
    }

    fn provenance(&self) -> String {
        format!(
            "`{}` on {}, {}. Medians of {} cold starts and of {} rounds, in each of which all took \
             their turn, in an order drawn anew. All have handled {WARM_UP} events before they count \
             as warm. {}",
            self.command,
            self.date,
            self.machine,
            self.rounds.cold,
            self.rounds.warm,
            self.versions,
        )
    }

    /// The section of the page about performance, between its two markers.
    pub fn write_section(&self, page: &Path) -> Result<()> {
        const BEGIN: &str = "<!-- written by cargo sluice bench -->\n";
        const END: &str = "<!-- end of what cargo sluice bench has written -->";
        let text = fs::read_to_string(page)?;
        let (before, rest) = text.split_once(BEGIN).context("no marker in the page")?;
        let (_, after) = rest.split_once(END).context("no second marker in the page")?;
        let case = Case::Forwarder;
        let mut section = self.provenance();
        section.push_str(
            "\n\nThe forwarder, one event; the same job, written and tuned for each:\n\n",
        );
        section.push_str(&self.table(case));
        section.push_str("\nThe consumer, ten events, each with its object read:\n\n");
        section.push_str(&self.table(Case::Consumer));
        for plot in ["burst", "cold-start", "cpu", "memory"] {
            _ = writeln!(section, "\n![{plot}](../bench/plots/{plot}.svg)");
        }
        let goals = self.goals();
        let met = goals.iter().filter(|goal| goal.met).count();
        _ = write!(
            section,
            "\n{met} of {} goals are met; all of them, and the plots, are in \
             [results.md](../bench/results.md).\n",
            goals.len()
        );
        fs::write(page, format!("{before}{BEGIN}{section}{END}{after}"))?;
        Ok(())
    }
}

#[derive(Debug, Default)]
struct Goals(Vec<Goal>);

impl Goals {
    /// `factor` times less than `subject` needs; `ratio` is the measured factor.
    fn faster(&mut self, what: &str, subject: Subject, factor: f64, ratio: f64) {
        // A peer that was left out.
        if !ratio.is_normal() {
            return;
        }
        self.0.push(Goal {
            what: format!("{what}, against {}", subject.label()),
            limit: format!("≤ 1/{factor}"),
            measured: format!("1/{ratio:.1}"),
            met: ratio >= factor,
        });
    }

    fn at_most(&mut self, what: String, limit: f64, value: f64, unit: &str) {
        self.0.push(Goal {
            what,
            limit: format!("≤ {limit}{unit}"),
            measured: format!("{value:.2}{unit}"),
            met: value <= limit,
        });
    }
}

/// A number of bytes, or of anything, of which there is a median.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

impl std::ops::Add for Bytes {
    type Output = Self;

    fn add(self, other: Self) -> Self {
        Self(self.0 + other.0)
    }
}

impl std::ops::Div<u32> for Bytes {
    type Output = Self;

    fn div(self, by: u32) -> Self {
        Self(self.0 / u64::from(by))
    }
}

/// Processor, cores and kernel.
pub fn machine() -> Result<String> {
    let processors = fs::read_to_string("/proc/cpuinfo")?;
    let model = processors.lines().find(|line| line.starts_with("model name"));
    let model = model.and_then(|line| line.split_once(": ")).map_or("unknown processor", |it| it.1);
    let cores = std::thread::available_parallelism()?;
    let kernel = fs::read_to_string("/proc/sys/kernel/osrelease")?;
    Ok(format!("{model}, {cores} cores, Linux {}", kernel.trim()))
}

pub fn versions(places: &Places) -> Result<String> {
    const PROBE: &str = "import boto3, sys; print(f'Python {sys.version.split()[0]} with boto3 {boto3.__version__}')";
    let run = |program: &Path, args: &[&str]| -> Result<String> {
        let output = Command::new(program).args(args).output()?;
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let python = places.python.as_deref().context("no Python")?;
    let node = places.node.as_deref().context("no Node")?;
    Ok(format!("{}, Node {}.", run(python, &["-c", PROBE])?, run(node, &["--version"])?))
}

pub fn today() -> Result<String> {
    let output = Command::new("date").args(["-u", "+%Y-%m-%d"]).output()?;
    Ok(String::from_utf8(output.stdout)?.trim().to_owned())
}
