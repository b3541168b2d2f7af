//! Runs of the subjects, side by side.

use std::collections::BTreeMap;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::aws::{Aws, Traffic};
use crate::events::{self, Content};
use crate::lambda::Function;
use crate::subject::{Job, Places, Subject};

/// One thing to do, again and again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Case {
    /// One S3 record.
    Forwarder,
    /// Ten messages, each with its object read.
    Consumer,
    /// Ten messages, each a start and nothing else.
    ConsumerByReference,
}

impl Case {
    pub const ALL: [Self; 3] = [Self::Forwarder, Self::Consumer, Self::ConsumerByReference];

    pub fn job(self) -> Job {
        match self {
            Self::Forwarder => Job::Forwarder,
            Self::Consumer | Self::ConsumerByReference => Job::Consumer,
        }
    }

    pub fn label(self) -> &'static str {
        match self {
            Self::Forwarder => "Forwarder, one record",
            Self::Consumer => "Consumer, batch of 10, object inline",
            Self::ConsumerByReference => "Consumer, batch of 10, by reference",
        }
    }

    /// Events in one invocation.
    pub fn size(self) -> u32 {
        if self == Self::Forwarder { 1 } else { 10 }
    }

    pub fn event(self, number: usize) -> String {
        match self {
            Self::Forwarder => events::s3(number, 1),
            Self::Consumer => events::sqs(number, 10, Content::Inline),
            Self::ConsumerByReference => events::sqs(number, 10, Content::ByReference),
        }
    }

    /// The calls of one invocation.
    pub fn calls(self) -> BTreeMap<&'static str, u64> {
        match self {
            Self::Forwarder => BTreeMap::from([("SendMessageBatch", 1)]),
            Self::Consumer => BTreeMap::from([("GetObject", 10), ("StartExecution", 10)]),
            Self::ConsumerByReference => BTreeMap::from([("StartExecution", 10)]),
        }
    }
}

/// One process that is started and ended, and one that does its work.
#[derive(Debug, Clone)]
pub struct Run {
    pub cold: Duration,
    pub first: Duration,
    pub warm: Duration,
    pub cpu_init: Duration,
    pub cpu_first: Duration,
    /// CPU time of one event of a warm invocation.
    pub cpu_event: Duration,
    pub memory: u64,
    pub connections: u64,
}

pub type Runs = BTreeMap<(Case, Subject), Vec<Run>>;

/// Runs every subject on every case, in turn, `rounds` times.
pub async fn all(
    places: &Places,
    aws: &Aws,
    subjects: &[Subject],
    rounds: usize,
    warm: usize,
) -> Result<Runs> {
    let mut runs = Runs::new();
    let mut effects: BTreeMap<Case, Vec<Value>> = BTreeMap::new();
    // The first round fills caches of the machine and of Python, and shows that all do the same.
    for round in 0..=rounds {
        eprintln!("round {round} of {rounds}");
        for case in Case::ALL {
            for &subject in subjects {
                let what = format!("{}, {}", subject.label(), case.label());
                if round == 0 {
                    aws.capture();
                }
                let run = one(places, aws, case, subject, if round == 0 { 1 } else { warm });
                let run = run.await.context(what.clone())?;
                if round > 0 {
                    runs.entry((case, subject)).or_default().push(run);
                } else if subject != Subject::Floor {
                    let effect = effects_of(aws.captured());
                    let expected = effects.entry(case).or_insert_with(|| effect.clone());
                    ensure!(
                        *expected == effect,
                        "{what}: does other things than Sluice:\n{effect:?}\n{expected:?}"
                    );
                }
            }
        }
    }
    Ok(runs)
}

async fn one(places: &Places, aws: &Aws, case: Case, subject: Subject, warm: usize) -> Result<Run> {
    let program = places.program(subject, case.job(), aws)?;
    let mut function = Function::start(&program.trusting_aws_only()).await?;
    let cold = function.ready().await?;
    let cpu_init = function.cpu()?;
    function.kill().await?;

    aws.take_traffic();
    let mut function = Function::start(&program).await?;
    function.ready().await?;
    let cpu_before = function.cpu()?;
    let (first, answer) = function.invoke(case.event(0)).await?;
    ensure_complete(&answer)?;
    let cpu_first = function.cpu()?;
    let first_traffic = aws.take_traffic();
    if subject != Subject::Floor {
        ensure!(first_traffic.calls == case.calls(), "called {:?}", first_traffic.calls);
    }
    let mut times = Vec::with_capacity(warm);
    for number in 1..=warm {
        let (time, answer) = function.invoke(case.event(number)).await?;
        ensure_complete(&answer)?;
        times.push(time);
    }
    let cpu = function.cpu()?;
    let memory = function.peak_memory()?;
    let Traffic { connections, .. } = aws.take_traffic();
    function.kill().await?;
    let events = u32::try_from(warm)? * case.size();
    Ok(Run {
        cold,
        first,
        warm: median(times),
        cpu_init,
        cpu_first: cpu_first.saturating_sub(cpu_before),
        cpu_event: cpu.saturating_sub(cpu_first) / events,
        memory,
        connections: connections + first_traffic.connections,
    })
}

/// No message of the batch has failed.
pub fn ensure_complete(answer: &str) -> Result<()> {
    let answer: Value = serde_json::from_str(answer).context("the answer is not JSON")?;
    let failures = answer["batchItemFailures"].as_array().map_or(0, Vec::len);
    ensure!(failures == 0, "{failures} messages failed");
    Ok(())
}

/// What the captured calls said: bodies of messages, and names and inputs of executions, in a form
/// that does not depend on the order of fields and calls.
fn effects_of(calls: Vec<Value>) -> Vec<Value> {
    let parse = |text: &Value| -> Value {
        text.as_str().and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
    };
    let mut effects = Vec::new();
    for call in calls {
        match call["Entries"].as_array() {
            Some(entries) => {
                effects.extend(entries.iter().map(|entry| parse(&entry["MessageBody"])));
            }
            None => effects.push(serde_json::json!([call["name"], parse(&call["input"])])),
        }
    }
    effects.sort_by_key(ToString::to_string);
    effects
}

/// The middle one, or the mean of the two in the middle.
pub fn median<T>(mut values: Vec<T>) -> T
where
    T: Copy + Default + Ord + std::ops::Add<Output = T> + std::ops::Div<u32, Output = T>,
{
    values.sort_unstable();
    match values.len() {
        0 => T::default(),
        count if count.is_multiple_of(2) => (values[count / 2 - 1] + values[count / 2]) / 2,
        count => values[count / 2],
    }
}
