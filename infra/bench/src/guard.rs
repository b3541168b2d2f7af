//! Numbers that repeat: instructions, sizes and calls. What CI compares with the committed ones.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, bail, ensure};
use serde::{Deserialize, Serialize};

use crate::aws::Aws;
use crate::events::{self, Content};
use crate::lambda::{Function, Program};
use crate::measure::{Case, ensure_complete};
use crate::subject::{Job, Places, Subject};

/// What may be added before CI fails.
const TOLERANCE_PERCENT: u64 = 5;

/// Warm events that are counted.
const WARM: usize = 20;

/// The committed numbers of one machine architecture.
#[derive(Debug, Default, Serialize, Deserialize)]
pub struct Numbers {
    pub instructions: BTreeMap<String, Instructions>,
    /// Bytes of the zip of a function.
    pub zip: BTreeMap<String, u64>,
    /// Calls to AWS of one invocation.
    pub calls: BTreeMap<String, BTreeMap<String, u64>>,
}

#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct Instructions {
    pub init: u64,
    pub first_call: u64,
    pub warm_invocation: u64,
}

impl Numbers {
    /// Counts on this machine.
    pub async fn count(places: &Places, aws: &Aws) -> Result<Self> {
        let valgrind = find_valgrind()?;
        let mut numbers = Self::default();
        for case in Case::ALL {
            let program = places.program(Subject::Sluice, case.job(), aws)?;
            let on_lambda = program.trusting_aws_only();
            let mut counts = Vec::new();
            for (program, invocations) in [(&on_lambda, 0), (&program, 1), (&program, 1 + WARM)] {
                let scratch = places.peers.join("cachegrind.log");
                counts.push(instructions(&valgrind, program, case, invocations, &scratch).await?);
            }
            let [init, first, all] = counts[..] else { bail!("three counts") };
            numbers.instructions.insert(
                case.label().to_owned(),
                Instructions {
                    init,
                    // With the certificates, which are parsed for it on Lambda, while a file of
                    // them, as the mock needs it, is parsed at the start.
                    first_call: first.saturating_sub(init),
                    warm_invocation: all.saturating_sub(first) / WARM as u64,
                },
            );
        }
        for job in [Job::Forwarder, Job::Consumer] {
            numbers.zip.insert(job.name().to_owned(), places.zip_bytes(Subject::Sluice, job)?);
        }
        numbers.calls = calls(places, aws).await?;
        Ok(numbers)
    }

    pub fn read(path: &Path) -> Result<Self> {
        let text =
            fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
        toml::from_str(&text).with_context(|| format!("{} is not understood", path.display()))
    }

    pub fn write(&self, path: &Path) -> Result<()> {
        let text = format!(
            "# Written by `cargo sluice bench --update-guard`, on x86_64, and compared by\n\
             # `cargo sluice bench --guard`: CI fails if a number grows by more than 5 %, or the calls\n\
             # change.\n\n{}",
            toml::to_string_pretty(self)?
        );
        fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))
    }

    /// What has grown beyond the tolerance, compared with `committed`.
    pub fn grown_since(&self, committed: &Self) -> Vec<String> {
        let mut problems = Vec::new();
        let mut compare = |what: String, now: u64, before: Option<u64>| match before {
            Some(before) if now * 100 <= before * (100 + TOLERANCE_PERCENT) => {}
            Some(before) => problems.push(format!(
                "{what}: {now}, {:.1} % above the committed {before}",
                growth(now, before) * 100.0
            )),
            None => problems.push(format!("{what}: no committed number")),
        };
        for (case, now) in &self.instructions {
            let before = committed.instructions.get(case);
            let mut count = |what: &str, of: fn(&Instructions) -> u64| {
                compare(format!("instructions, {case}, {what}"), of(now), before.map(of));
            };
            count("init", |count| count.init);
            count("first call", |count| count.first_call);
            count("warm invocation", |count| count.warm_invocation);
        }
        for (job, &now) in &self.zip {
            compare(format!("zip of the {job}"), now, committed.zip.get(job).copied());
        }
        if self.calls != committed.calls {
            problems.push(format!("calls: {:?}, committed are {:?}", self.calls, committed.calls));
        }
        problems
    }
}

#[expect(clippy::cast_precision_loss, reason = "a ratio")]
fn growth(now: u64, before: u64) -> f64 {
    now as f64 / before as f64 - 1.0
}

async fn calls(places: &Places, aws: &Aws) -> Result<BTreeMap<String, BTreeMap<String, u64>>> {
    let invocations = [
        ("forwarder, 1 record", Job::Forwarder, events::s3(0, 1)),
        ("forwarder, 25 records", Job::Forwarder, events::s3(0, 25)),
        ("consumer, 10 messages inline", Job::Consumer, events::sqs(0, 10, Content::Inline)),
        (
            "consumer, 10 messages by reference",
            Job::Consumer,
            events::sqs(0, 10, Content::ByReference),
        ),
    ];
    let mut calls = BTreeMap::new();
    for (what, job, event) in invocations {
        let mut function = Function::start(&places.program(Subject::Sluice, job, aws)?).await?;
        function.ready().await?;
        aws.take_traffic();
        ensure_complete(&function.invoke(event).await?.1)?;
        let made = aws.take_traffic().calls;
        let made = made.into_iter().map(|(operation, count)| (operation.to_owned(), count));
        calls.insert(what.to_owned(), made.collect());
        function.kill().await?;
    }
    Ok(calls)
}

/// Instructions from the start of the process through so many invocations.
async fn instructions(
    valgrind: &Path,
    program: &Program,
    case: Case,
    invocations: usize,
    log: &Path,
) -> Result<u64> {
    let mut counted = program.clone();
    counted.args = vec![
        "--tool=cachegrind".to_owned(),
        "--cache-sim=no".to_owned(),
        "--cachegrind-out-file=/dev/null".to_owned(),
        format!("--log-file={}", log.display()),
        program.path.display().to_string(),
    ];
    counted.path = valgrind.to_owned();
    let mut function = Function::start(&counted).await?;
    let run = async {
        function.ready().await?;
        for number in 0..invocations {
            ensure_complete(&function.invoke(case.event(number)).await?.1)?;
        }
        function.terminate().await
    };
    let told = || fs::read_to_string(log).unwrap_or_default();
    run.await.with_context(|| format!("under valgrind, which said:\n{}", told()))?;
    let said = told();
    let line =
        said.lines().find_map(|line| line.split_once("I   refs:").or(line.split_once("I refs:")));
    let count = line.and_then(|(_, count)| count.trim().replace(',', "").parse().ok());
    count.with_context(|| format!("valgrind counted nothing:\n{said}"))
}

fn find_valgrind() -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let mut found = std::env::split_paths(&path).map(|folder| folder.join("valgrind"));
    let valgrind = found.find(|path| path.is_file()).context(
        "instructions are counted by valgrind, which is not in PATH: install it (Debian, Ubuntu: apt install valgrind)",
    )?;
    let works = Command::new(&valgrind).arg("--version").output()?;
    ensure!(works.status.success(), "{} does not run", valgrind.display());
    Ok(valgrind)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn numbers(init: u64, zip: u64, calls: u64) -> Numbers {
        let count = Instructions { init, first_call: 1_000, warm_invocation: 1_000 };
        let calls = BTreeMap::from([("SendMessageBatch".to_owned(), calls)]);
        Numbers {
            instructions: BTreeMap::from([("forwarder".to_owned(), count)]),
            zip: BTreeMap::from([("forwarder".to_owned(), zip)]),
            calls: BTreeMap::from([("forwarder".to_owned(), calls)]),
        }
    }

    #[test]
    fn five_percent_more_passes_and_more_than_that_does_not() {
        let committed = numbers(1_000, 2_000, 1);
        assert_eq!(numbers(1_050, 2_100, 1).grown_since(&committed), Vec::<String>::new());
        assert_eq!(
            numbers(1_051, 2_101, 1).grown_since(&committed),
            [
                "instructions, forwarder, init: 1051, 5.1 % above the committed 1000",
                "zip of the forwarder: 2101, 5.0 % above the committed 2000",
            ]
        );
    }

    #[test]
    fn any_other_number_of_calls_does_not_pass() {
        let committed = numbers(1_000, 2_000, 2);
        assert_eq!(numbers(1_000, 2_000, 1).grown_since(&committed).len(), 1);
        assert_eq!(numbers(1_000, 2_000, 3).grown_since(&committed).len(), 1);
    }

    #[test]
    fn what_nobody_has_committed_does_not_pass() {
        let problems = numbers(1, 1, 1).grown_since(&Numbers::default());
        assert_eq!(problems.len(), 5, "{problems:?}");
    }
}
