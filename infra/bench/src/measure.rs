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

    /// The calls of one invocation. Sluice alone asks whether an object is still there before it
    /// starts an execution that will read it.
    fn calls(self, subject: Subject) -> BTreeMap<&'static str, u64> {
        match self {
            Self::Forwarder => BTreeMap::from([("SendMessageBatch", 1)]),
            Self::Consumer => BTreeMap::from([("GetObject", 10), ("StartExecution", 10)]),
            Self::ConsumerByReference if subject == Subject::Sluice => {
                BTreeMap::from([("HeadObject", 10), ("StartExecution", 10)])
            }
            Self::ConsumerByReference => BTreeMap::from([("StartExecution", 10)]),
        }
    }
}

/// A process that is started, and ended as soon as it asks for an event.
#[derive(Debug, Clone, Copy)]
pub struct Cold {
    pub time: Duration,
    pub cpu: Duration,
}

/// A process that does its work.
#[derive(Debug, Clone)]
pub struct Run {
    pub first: Duration,
    pub warm: Duration,
    pub cpu_first: Duration,
    /// CPU time of one event of a warm invocation.
    pub cpu_event: Duration,
    pub memory: u64,
    pub connections: u64,
}

#[derive(Debug, Default)]
pub struct Runs {
    pub colds: BTreeMap<(Job, Subject), Vec<Cold>>,
    pub warm: BTreeMap<(Case, Subject), Vec<Run>>,
}

/// Events that every subject has handled before it counts as warm: what the compiler of Node takes
/// until it leaves the handler alone.
pub const WARM_UP: u32 = 200;

/// How much to measure.
#[derive(Debug, Clone, Copy)]
pub struct Rounds {
    pub cold: usize,
    pub warm: usize,
    /// Invocations that are measured in each warm round.
    pub invocations: usize,
}

/// Runs every subject on every case, so many times, in an order of its own each time: what the
/// machine does beside then falls on all alike.
pub async fn all(places: &Places, aws: &Aws, subjects: &[Subject], rounds: Rounds) -> Result<Runs> {
    let mut runs = Runs::default();
    let mut rng = fastrand::Rng::with_seed(0);
    alike(places, aws, subjects).await?;
    let jobs = [Job::Forwarder, Job::Consumer];
    let mut starts: Vec<_> =
        jobs.iter().flat_map(|job| subjects.iter().map(|it| (*job, *it))).collect();
    for round in 1..=rounds.cold {
        eprintln!("cold starts, round {round} of {}", rounds.cold);
        rng.shuffle(&mut starts);
        for &(job, subject) in &starts {
            let cold = cold(places, aws, job, subject).await;
            let cold = cold.with_context(|| format!("{}, {}", subject.label(), job.name()))?;
            runs.colds.entry((job, subject)).or_default().push(cold);
        }
    }
    let mut turns: Vec<_> =
        Case::ALL.iter().flat_map(|case| subjects.iter().map(|it| (*case, *it))).collect();
    for round in 1..=rounds.warm {
        eprintln!("round {round} of {}", rounds.warm);
        rng.shuffle(&mut turns);
        for &(case, subject) in &turns {
            let run = one(places, aws, case, subject, rounds.invocations).await;
            let run = run.with_context(|| format!("{}, {}", subject.label(), case.label()))?;
            runs.warm.entry((case, subject)).or_default().push(run);
        }
    }
    Ok(runs)
}

/// Fills caches of the machine and of Python, and makes sure that all do the same.
async fn alike(places: &Places, aws: &Aws, subjects: &[Subject]) -> Result<()> {
    for case in Case::ALL {
        let mut expected = None;
        for &subject in subjects {
            let what = format!("{}, {}", subject.label(), case.label());
            aws.capture();
            once(places, aws, case, subject).await.context(what.clone())?;
            let effect = effects_of(aws.captured());
            if subject != Subject::Floor {
                let expected = expected.get_or_insert_with(|| effect.clone());
                ensure!(
                    *expected == effect,
                    "{what}: does other things than Sluice:\n{effect:?}\n{expected:?}"
                );
            }
        }
    }
    Ok(())
}

/// Lets a process do all that is measured of a first invocation, so that its files are in memory: some
/// machines page out what nobody has touched for seconds, a large binary above all.
pub async fn once(places: &Places, aws: &Aws, case: Case, subject: Subject) -> Result<()> {
    let mut function = Function::start(&places.program(subject, case.job(), aws)?).await?;
    function.ready().await?;
    ensure_complete(&function.invoke(case.event(0)).await?.1)?;
    function.kill().await
}

async fn cold(places: &Places, aws: &Aws, job: Job, subject: Subject) -> Result<Cold> {
    let program = places.program(subject, job, aws)?.trusting_aws_only();
    // The files of the first are in memory for the second, see `once`.
    let mut cold = None;
    for _ in 0..2 {
        let mut function = Function::start(&program).await?;
        let time = function.ready().await?;
        cold = Some(Cold { time, cpu: function.cpu()? });
        function.kill().await?;
    }
    cold.context("no start")
}

async fn one(
    places: &Places,
    aws: &Aws,
    case: Case,
    subject: Subject,
    invocations: usize,
) -> Result<Run> {
    let program = places.program(subject, case.job(), aws)?;
    once(places, aws, case, subject).await?;
    aws.take_traffic();
    let mut function = Function::start(&program).await?;
    function.ready().await?;
    let cpu_before = function.cpu()?;
    let (first, answer) = function.invoke(case.event(0)).await?;
    ensure_complete(&answer)?;
    let cpu_first = function.cpu()?.saturating_sub(cpu_before);
    let first_traffic = aws.take_traffic();
    if subject != Subject::Floor {
        ensure!(first_traffic.calls == case.calls(subject), "called {:?}", first_traffic.calls);
    }
    let mut numbers = 1..;
    for number in numbers.by_ref().take((WARM_UP / case.size()) as usize) {
        ensure_complete(&function.invoke(case.event(number)).await?.1)?;
    }
    let cpu_before = function.cpu()?;
    let mut times = Vec::with_capacity(invocations);
    for number in numbers.take(invocations) {
        let (time, answer) = function.invoke(case.event(number)).await?;
        ensure_complete(&answer)?;
        times.push(time);
    }
    let cpu = function.cpu()?.saturating_sub(cpu_before);
    let memory = function.peak_memory()?;
    let Traffic { connections, .. } = aws.take_traffic();
    function.kill().await?;
    Ok(Run {
        first,
        warm: median(times),
        cpu_first,
        cpu_event: cpu / (u32::try_from(invocations)? * case.size()),
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
