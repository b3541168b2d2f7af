//! What a function takes with the share of a processor that its memory buys:
//! <https://docs.aws.amazon.com/lambda/latest/dg/configuration-memory.html>.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result};

use crate::aws::Aws;
use crate::cost::{self, MEMORY_OF_A_PROCESSOR_MB as WHOLE};
use crate::lambda::Function;
use crate::measure::{Case, WARM_UP, ensure_complete, median, once};
use crate::subject::{Places, Subject};

/// `MemorySize` in MB. With the last of them, a function has one whole processor.
const SIZES: [u32; 4] = [128, 256, 512, WHOLE];

/// How often the scheduler hands out a share, in microseconds. AWS does not say.
const PERIOD: u32 = 20_000;

const ROUNDS: usize = 3;
/// At most, and until they have taken so long: what is slower than that varies less.
const INVOCATIONS: usize = 20;
const LONG_ENOUGH: Duration = Duration::from_secs(2);

/// A control group of Linux that bounds the processor time of what is in it.
#[derive(Debug)]
struct Share(PathBuf);

impl Share {
    fn of(memory: u32) -> Result<Self> {
        let root = Path::new("/sys/fs/cgroup");
        let quota = PERIOD * memory / WHOLE;
        let name = format!("sluice-bench-{}-{memory}", std::process::id());
        let is_second = root.join("cgroup.controllers").exists();
        let folder = if is_second { root.join(name) } else { root.join("cpu").join(name) };
        let set = |file: PathBuf, text: String| {
            fs::write(&file, text).with_context(|| format!("cannot write {}", file.display()))
        };
        fs::create_dir(&folder)
            .with_context(|| format!("a share of a processor takes root: {}", folder.display()))?;
        let share = Self(folder);
        if is_second {
            set(root.join("cgroup.subtree_control"), "+cpu".to_owned())?;
            set(share.0.join("cpu.max"), format!("{quota} {PERIOD}"))?;
        } else {
            set(share.0.join("cpu.cfs_period_us"), PERIOD.to_string())?;
            set(share.0.join("cpu.cfs_quota_us"), quota.to_string())?;
        }
        Ok(share)
    }

    fn takes(&self, function: &Function) -> Result<()> {
        let file = self.0.join("cgroup.procs");
        let id = function.id()?.to_string();
        fs::write(&file, id).with_context(|| format!("cannot write {}", file.display()))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        // Nothing is in it any more; if something is, the group stays, and holds up nobody.
        drop(fs::remove_dir(&self.0));
    }
}

/// Times of a subject with a memory size.
#[derive(Debug, Clone, Copy)]
struct Times {
    cold: Duration,
    first: Duration,
    warm: Duration,
}

#[derive(Debug, Default)]
pub struct Shares(BTreeMap<(Case, Subject, u32), Vec<Times>>);

pub async fn measure(places: &Places, aws: &Aws, subjects: &[Subject]) -> Result<Shares> {
    let mut rng = fastrand::Rng::with_seed(1);
    let mut turns = Vec::new();
    for case in [Case::Forwarder, Case::Consumer] {
        for &subject in subjects {
            turns.extend(SIZES.map(|memory| (case, subject, memory)));
        }
    }
    let mut shares = Shares::default();
    for round in 1..=ROUNDS {
        eprintln!("shares of a processor, round {round} of {ROUNDS}");
        rng.shuffle(&mut turns);
        for &(case, subject, memory) in &turns {
            let times = one(places, aws, case, subject, memory).await;
            let times = times
                .with_context(|| format!("{}, {}, {memory} MB", subject.label(), case.label()))?;
            shares.0.entry((case, subject, memory)).or_default().push(times);
        }
    }
    Ok(shares)
}

/// Lambda gives a whole processor to the init phase of a function of whatever size, so the cold
/// start by a share is what it would be without that.
async fn one(
    places: &Places,
    aws: &Aws,
    case: Case,
    subject: Subject,
    memory: u32,
) -> Result<Times> {
    once(places, aws, case, subject).await?;
    let share = Share::of(memory)?;
    let program = places.program(subject, case.job(), aws)?;
    let mut function = Function::start(&program.trusting_aws_only()).await?;
    share.takes(&function)?;
    let cold = function.ready().await?;
    function.kill().await?;

    let mut function = Function::start(&program).await?;
    function.ready().await?;
    share.takes(&function)?;
    let (first, answer) = function.invoke(case.event(0)).await?;
    ensure_complete(&answer)?;
    function.kill().await?;

    let mut function = Function::start(&program).await?;
    function.ready().await?;
    let mut numbers = 1..;
    for number in numbers.by_ref().take((WARM_UP / case.size()) as usize) {
        ensure_complete(&function.invoke(case.event(number)).await?.1)?;
    }
    share.takes(&function)?;
    let (mut sum, mut count) = (Duration::ZERO, 0);
    for number in numbers.take(INVOCATIONS) {
        let (time, answer) = function.invoke(case.event(number)).await?;
        ensure_complete(&answer)?;
        (sum, count) = (sum + time, count + 1);
        if sum > LONG_ENOUGH {
            break;
        }
    }
    function.kill().await?;
    // What it costs is an average, and a bounded function is quick until its share is used up.
    let warm = sum / count;
    Ok(Times { cold, first, warm })
}

impl Shares {
    pub fn markdown(&self) -> String {
        if self.0.is_empty() {
            return String::new();
        }
        let mut text = format!(
            "\n## With the processor that the memory buys\n\nEach process in a control group that \
             has memory/{WHOLE} of a processor, in periods of {} ms. This imitates how Lambda slows \
             a function of less memory. It does not imitate the init phase, which has a whole \
             processor on Lambda: the column *cold start* is what it would be without. Nor does it \
             bound the memory itself. The mock of AWS answers at once. Medians of {ROUNDS} rounds; \
             a warm invocation is the mean of {INVOCATIONS}, or of \
             as many as {} s take. Dollars are for a million invocations, \
             arm64, with 20 ms for each call to AWS in turn.\n",
            PERIOD / 1_000,
            LONG_ENOUGH.as_secs(),
        );
        for case in [Case::Forwarder, Case::Consumer] {
            _ = write!(
                text,
                "\n{}:\n\n| | MB | cold start, ms | first invocation, ms | warm invocation, ms | $ |\n\
                 |---|---|---|---|---|---|\n",
                case.label()
            );
            for ((_, subject, memory), times) in self.0.iter().filter(|(key, _)| key.0 == case) {
                let milliseconds = |of: fn(&Times) -> Duration| {
                    median(times.iter().map(of).collect()).as_secs_f64() * 1e3
                };
                let warm = median(times.iter().map(|times| times.warm).collect());
                let calls = if case == Case::Forwarder { 1 } else { 2 };
                _ = writeln!(
                    text,
                    "| {} | {memory} | {:.1} | {:.1} | {:.2} | {:.2} |",
                    subject.label(),
                    milliseconds(|times| times.cold),
                    milliseconds(|times| times.first),
                    milliseconds(|times| times.warm),
                    cost::invocations(warm, calls, *memory),
                );
            }
        }
        text
    }
}
