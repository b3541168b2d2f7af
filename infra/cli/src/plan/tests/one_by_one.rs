//! The same burst with every call by itself, for as few messages as a test has time for: what the
//! simulation of whole cohorts is held against.

use std::cmp::Reverse;
use std::collections::BinaryHeap;

use fastrand::Rng;

use super::super::simulation::{Quota, Scenario};

/// Microseconds.
type Time = u64;

#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Happening {
    /// A consumer asks for messages.
    Receive { consumer: usize },
    /// A call for a message that was deferred so often is made for the first, second or third time.
    Call { consumer: usize, deferrals: u64, attempt: u32 },
    /// And answered.
    Answer { consumer: usize, deferrals: u64, attempt: u32, granted: bool },
}

/// The batch of a consumer, and the permits of its client to try again.
#[derive(Debug, Clone)]
struct Consumer {
    unanswered: usize,
    refused: Vec<u64>,
    permits: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Counts {
    pub(crate) drained: f64,
    pub(crate) calls: f64,
    pub(crate) deferrals: f64,
}

/// For messages that are all there in the beginning, and are started all at once.
pub(crate) fn drain(scenario: &Scenario, messages: u64) -> Counts {
    const POLL: Time = 20_000;
    let Quota { bucket, refill } = scenario.quota;
    let stack = &scenario.stack;
    let call = micros(scenario.call);
    let mut rng = Rng::with_seed(scenario.seed);
    let mut queue: BinaryHeap<Reverse<(Time, u64)>> =
        (0..messages).map(|_| Reverse((0, 0))).collect();
    let mut happenings = BinaryHeap::new();
    let consumer = Consumer { unanswered: 0, refused: Vec::new(), permits: 500 };
    let mut consumers = vec![consumer; whole(stack.maximum_concurrency)];
    for consumer in 0..consumers.len() {
        happenings.push(Reverse((0, Happening::Receive { consumer })));
    }
    let (mut tokens, mut refilled, mut started) = (bucket, 0, 0);
    let mut counts = Counts::default();
    while let Some(Reverse((now, happening))) = happenings.pop() {
        let mut then = |time, happening| happenings.push(Reverse((time, happening)));
        match happening {
            Happening::Receive { consumer } => {
                let visible = |Reverse((visible, _)): &Reverse<(Time, u64)>| *visible <= now;
                let mut begin = now + micros(scenario.call * stack.reads);
                let batch = &mut consumers[consumer];
                while batch.unanswered < whole(stack.batch_size)
                    && queue.peek().is_some_and(visible)
                {
                    let Some(Reverse((_, deferrals))) = queue.pop() else { break };
                    begin += micros(stack.processor);
                    batch.unanswered += 1;
                    then(begin, Happening::Call { consumer, deferrals, attempt: 1 });
                }
                if batch.unanswered == 0 && started < messages {
                    then(now + POLL, happening);
                }
            }
            Happening::Call { consumer, deferrals, attempt } => {
                counts.calls += 1.0;
                tokens = (tokens + seconds(now - refilled) * refill).min(bucket);
                refilled = now;
                let granted = tokens >= 1.0;
                tokens -= f64::from(u8::from(granted));
                then(now + call, Happening::Answer { consumer, deferrals, attempt, granted });
            }
            Happening::Answer { consumer, deferrals, attempt, granted } => {
                let batch = &mut consumers[consumer];
                if granted {
                    started += 1;
                    counts.drained = seconds(now);
                    batch.permits = (batch.permits + if attempt == 1 { 1 } else { 5 }).min(500);
                } else if attempt < 3 && batch.permits >= 5 {
                    batch.permits -= 5;
                    let wait = rng.u64(0..100_000 << (attempt - 1));
                    then(now + wait, Happening::Call { consumer, deferrals, attempt: attempt + 1 });
                    continue;
                } else {
                    batch.refused.push(deferrals);
                }
                batch.unanswered -= 1;
                if batch.unanswered > 0 {
                    continue;
                }
                let copied = if batch.refused.is_empty() { now } else { now + call };
                for deferrals in batch.refused.drain(..) {
                    counts.deferrals += 1.0;
                    let delay = stack.backoff.seconds(deferrals, rng.f64());
                    queue.push(Reverse((copied + delay * 1_000_000, deferrals + 1)));
                }
                then(copied + micros(stack.between_batches), Happening::Receive { consumer });
            }
        }
    }
    counts
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a short time")]
fn micros(seconds: f64) -> Time {
    (seconds * 1e6).round() as Time
}

#[expect(clippy::cast_precision_loss, reason = "a short time")]
fn seconds(time: Time) -> f64 {
    time as f64 / 1e6
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "a small number")]
fn whole(number: f64) -> usize {
    number.round() as usize
}
