//! The results as Markdown, every number of which was measured in this run.

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::drain::{Drain, Sample};
use crate::guard::Numbers;
use crate::measure::{Case, Run, Runs, median};
use crate::subject::{Job, Places, Subject};

/// All that a run of the harness has found out.
#[derive(Debug)]
pub struct Results {
    pub runs: Runs,
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
        median(self.runs.get(&(case, subject)).into_iter().flatten().map(of).collect())
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

    pub fn goals(&self) -> Vec<Goal> {
        let mut goals = Goals::default();
        let first = |run: &Run| run.cpu_init + run.cpu_first;
        for case in [Case::Forwarder, Case::Consumer] {
            let job = case.job().name();
            let ratio = |subject: Subject, of: &dyn Fn(&Run) -> Duration| {
                self.seconds(case, subject, of) / self.seconds(case, Subject::Sluice, of)
            };
            let cold = |run: &Run| run.cold;
            for (subject, factor) in
                [(Subject::Python, 100.0), (Subject::Node, 50.0), (Subject::Tutorial, 2.0)]
            {
                goals.faster(&format!("{job}: cold start"), subject, factor, ratio(subject, &cold));
            }
            goals.at_most(
                format!("{job}: cold start against a lambda_runtime that does nothing"),
                1.25,
                1.0 / ratio(Subject::Floor, &cold),
                "×",
            );
            let call = |run: &Run| run.cold + run.first;
            for (subject, factor) in [(Subject::Python, 55.0), (Subject::Tutorial, 9.0)] {
                let what = format!("{job}: init and first invocation, wall clock");
                goals.faster(&what, subject, factor, ratio(subject, &call));
                let what = format!("{job}: init and first invocation, CPU");
                goals.faster(&what, subject, factor, ratio(subject, &first));
            }
        }
        if let Some(numbers) = &self.numbers
            && let Some(count) = numbers.instructions.get(Case::Forwarder.label())
        {
            let millions =
                |count: u64| f64::from(u32::try_from(count / 1_000).unwrap_or(u32::MAX)) / 1e3;
            goals.at_most(
                "forwarder: instructions of init".into(),
                1.2,
                millions(count.init),
                " M",
            );
            goals.at_most(
                "forwarder: instructions of the first call".into(),
                3.8,
                millions(count.first_call),
                " M",
            );
        }
        for (case, peers) in [
            (
                Case::Forwarder,
                &[(Subject::Python, 5.5), (Subject::Node, 7.0), (Subject::Tutorial, 1.5)][..],
            ),
            (Case::ConsumerByReference, &[(Subject::Python, 11.0), (Subject::Node, 4.5)][..]),
            (Case::Consumer, &[(Subject::Python, 11.0), (Subject::Node, 4.5)][..]),
        ] {
            for &(subject, factor) in peers {
                let ratio = self.seconds(case, subject, |run| run.cpu_event)
                    / self.seconds(case, Subject::Sluice, |run| run.cpu_event);
                goals.faster(&format!("{}: CPU per event", case.label()), subject, factor, ratio);
            }
        }
        for case in [Case::Forwarder, Case::Consumer] {
            for subject in [Subject::Python, Subject::Node] {
                let ratio = self.megabytes(case, subject) / self.megabytes(case, Subject::Sluice);
                goals.faster(&format!("{}: peak memory", case.job().name()), subject, 7.0, ratio);
            }
        }
        for job in [Job::Forwarder, Job::Consumer] {
            let zip = self.zip(Subject::Sluice, job);
            goals.at_most(format!("{}: zip", job.name()), 2.2, zip, " MB");
            let ratio = self.zip(Subject::Tutorial, job) / zip;
            goals.faster(&format!("{}: zip", job.name()), Subject::Tutorial, 3.0, ratio);
        }
        let drain = &self.drain;
        goals.faster("batch of 1,000: peak memory", Subject::Python, 5.0, drain.memory_ratio);
        goals.at_most(
            "batch of 1,000, 100 at once, 20 ms each: time against the ideal".into(),
            1.2,
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
        text.push_str(&self.drain.markdown());
        text.push_str(&self.local_burst());
        text.push_str(&crate::cost::markdown(self));
        if let Some(numbers) = &self.numbers {
            text.push_str("\n## Instructions\n\nOf Sluice, by cachegrind, in millions.\n\n");
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
        let measured = |subject: &Subject| self.runs.contains_key(&(case, *subject));
        for subject in Subject::ALL.into_iter().filter(measured) {
            let milliseconds = |of: fn(&Run) -> Duration| self.seconds(case, subject, of) * 1e3;
            _ = writeln!(
                text,
                "| {} | {:.2} | {:.2} | {:.2} | {:.2} | {:.0} | {:.1} | {:.2} | {} |",
                subject.label(),
                milliseconds(|run| run.cold),
                milliseconds(|run| run.first),
                milliseconds(|run| run.warm),
                milliseconds(|run| run.cpu_init + run.cpu_first),
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
            "`{}` on {}, {}. Medians of {} rounds, in each of which all took their turn. {}",
            self.command,
            self.date,
            self.machine,
            self.runs.values().next().map_or(0, Vec::len),
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
