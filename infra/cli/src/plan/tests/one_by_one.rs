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
    /// It makes the calls whose turn has come.
    Call { consumer: usize },
    /// A call that was made at this time is answered.
    Answer { consumer: usize, called: Time, granted: bool },
}

/// The batch of a consumer, and what it has learnt.
#[derive(Debug, Clone, Default)]
struct Consumer {
    begun: Time,
    unanswered: usize,
    waiting: usize,
    started: usize,
    /// Whether it waits for a turn.
    is_asleep: bool,
    pace: Option<Pace>,
}

/// As `functions/consumer/src/pace.rs` has it.
#[derive(Debug, Clone, Copy)]
struct Pace {
    rate: f64,
    next: Time,
    lowered: Time,
    is_first: bool,
}

const PATIENCE: Time = 3_000_000;

impl Consumer {
    fn is_granted(&mut self) {
        self.started += 1;
        if let Some(pace) = &mut self.pace {
            pace.rate = if pace.is_first { pace.rate * 1.1 } else { pace.rate + 0.1 };
        }
    }

    fn is_refused(&mut self, called: Time, now: Time, random: f64) {
        let rate = match self.pace {
            Some(pace) if called < pace.lowered => return,
            Some(pace) => (pace.rate * 0.7).max(1.0),
            None => 10.0,
        };
        let next = now + micros(random / rate);
        self.pace = Some(Pace { rate, next, lowered: now, is_first: self.pace.is_none() });
    }
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
    let mut queue: BinaryHeap<Reverse<Time>> = (0..messages).map(|_| Reverse(0)).collect();
    let mut happenings = BinaryHeap::new();
    let mut consumers = vec![Consumer::default(); whole(stack.maximum_concurrency)];
    for consumer in 0..consumers.len() {
        happenings.push(Reverse((0, Happening::Receive { consumer })));
    }
    let (mut tokens, mut refilled, mut started) = (bucket, 0, 0);
    let mut counts = Counts::default();
    while let Some(Reverse((now, happening))) = happenings.pop() {
        let mut then = |time, happening| happenings.push(Reverse((time, happening)));
        match happening {
            Happening::Receive { consumer } => {
                let batch = &mut consumers[consumer];
                (batch.begun, batch.started) = (now, 0);
                let visible = |Reverse(visible): &Reverse<Time>| *visible <= now;
                while batch.waiting < whole(stack.batch_size) && queue.peek().is_some_and(visible) {
                    queue.pop();
                    batch.waiting += 1;
                }
                if batch.waiting > 0 {
                    let prepared = scenario.call * stack.reads + stack.processor * 10.0;
                    batch.is_asleep = true;
                    then(now + micros(prepared), Happening::Call { consumer });
                } else if started < messages {
                    then(now + POLL, happening);
                }
                continue;
            }
            Happening::Call { consumer } => consumers[consumer].is_asleep = false,
            Happening::Answer { consumer, called, granted } => {
                let batch = &mut consumers[consumer];
                batch.unanswered -= 1;
                if granted {
                    started += 1;
                    counts.drained = seconds(now);
                    batch.is_granted();
                } else {
                    batch.waiting += 1;
                    batch.is_refused(called, now, rng.f64());
                }
            }
        }
        let (Happening::Receive { consumer }
        | Happening::Call { consumer }
        | Happening::Answer { consumer, .. }) = happening;
        let batch = &mut consumers[consumer];
        let mut has_given_up = false;
        while batch.waiting > 0 && !batch.is_asleep {
            let next = batch.pace.map_or(now, |pace| pace.next.max(now));
            if next > now {
                has_given_up = next > batch.begun + PATIENCE;
                if !has_given_up {
                    batch.is_asleep = true;
                    then(next, Happening::Call { consumer });
                }
                break;
            }
            if let Some(pace) = &mut batch.pace {
                pace.next = now + micros(1.0 / pace.rate);
            }
            counts.calls += 1.0;
            tokens = (tokens + seconds(now - refilled) * refill).min(bucket);
            refilled = now;
            let granted = tokens >= 1.0;
            tokens -= f64::from(u8::from(granted));
            batch.waiting -= 1;
            batch.unanswered += 1;
            then(now + call, Happening::Answer { consumer, called: now, granted });
        }
        if batch.unanswered > 0 || batch.is_asleep || (batch.waiting > 0 && !has_given_up) {
            continue;
        }
        let copied = if batch.waiting == 0 { now } else { now + call };
        for _ in 0..std::mem::take(&mut batch.waiting) {
            counts.deferrals += 1.0;
            let delay = if batch.started > 0 {
                rng.u64(1..=2)
            } else {
                stack.backoff.seconds(0, rng.f64())
            };
            queue.push(Reverse(copied + delay * 1_000_000));
        }
        then(copied + micros(stack.between_batches), Happening::Receive { consumer });
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
