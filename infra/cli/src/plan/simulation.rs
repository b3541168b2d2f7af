//! What becomes of the messages: the token bucket of Step Functions, the consumers with their
//! batches and the rate that each has learnt, and the deferrals, in steps of simulated time.
//!
//! A day of thousands of uploads a second has to take a moment, so messages are counted and not
//! simulated one by one. A *cohort* is the messages that arrived, or were deferred, in the same
//! step. What the consumers do in a step is solved for at once ([`World::flow`]). What then becomes of
//! each cohort is drawn at random, so that the last few messages of a burst are as few as they would
//! be. How the consumers learn their rate and how long they wait is the consumer's own.

#![expect(
    clippy::cast_possible_truncation,
    clippy::cast_precision_loss,
    clippy::cast_sign_loss,
    reason = "counts and times are mixed with rates here, and are far from any limit"
)]

use std::collections::{BTreeMap, VecDeque};

use consumer::{
    Backoff, SETTLE_RESERVE, SOON,
    pace::{LEAST_RATE, LOWERED, MEMORY, RAISE},
};
use fastrand::Rng;

/// What the plan is about. Times are in seconds, rates in a second.
#[derive(Debug, Clone)]
pub(crate) struct Scenario {
    pub(crate) arrivals: f64,
    pub(crate) burst: Option<Burst>,
    /// How long an execution runs. The consumers do not wait for it.
    pub(crate) service_time: f64,
    pub(crate) quota: Quota,
    /// How many executions may be open, by the quota or by `MaxRunningExecutions`; none for EXPRESS.
    pub(crate) open_executions: Option<f64>,
    pub(crate) stack: Stack,
    /// How long a call to AWS takes.
    pub(crate) call: f64,
    pub(crate) seed: u64,
}

/// Uploads beside the steady ones, from the beginning on.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Burst {
    pub(crate) rate: f64,
    pub(crate) length: f64,
}

/// A quota of calls, as AWS keeps it: a bucket of tokens that is full at first.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Quota {
    pub(crate) bucket: f64,
    pub(crate) refill: f64,
}

/// The settings of the stack that matter here.
#[derive(Debug, Clone)]
pub(crate) struct Stack {
    pub(crate) maximum_concurrency: f64,
    pub(crate) batch_size: f64,
    pub(crate) batching_window: f64,
    pub(crate) start_concurrency: f64,
    /// Starts of one invocation in a second; none for no limit.
    pub(crate) start_rate: Option<f64>,
    pub(crate) backoff: Backoff,
    pub(crate) max_deferral: f64,
    pub(crate) consumer_timeout: f64,
    /// Processor time for one message, on the share of a processor that the function has.
    pub(crate) processor: f64,
    /// Calls to S3 for each message.
    pub(crate) reads: f64,
    /// What passes between two batches of a consumer: receiving, invoking, deleting.
    pub(crate) between_batches: f64,
    /// Consumers that Lambda has from the first moment on.
    pub(crate) first_consumers: f64,
}

/// How long SQS keeps a message: the retention of the work queue in the template.
pub(crate) const RETENTION: f64 = 1_209_600.0;

/// Lambda begins with five batches at a time, and adds up to 300 in a minute:
/// <https://docs.aws.amazon.com/lambda/latest/dg/services-sqs-scaling.html>
pub(crate) const FIRST_CONSUMERS: f64 = 5.0;
const MORE_CONSUMERS: f64 = 300.0 / 60.0;

/// Steps are short while much changes, and longer the longer nothing has.
const SHORTEST_STEP: f64 = 0.1;
const LONGEST_STEP: f64 = 30.0;
const STEPS_TO_A_CHANGE: f64 = 500.0;
const STEPS_TO_THE_END: f64 = 50.0;

/// How long the simulation goes on after the burst, and without one, at least.
const PATIENCE: f64 = 30.0 * 86_400.0;
const STEADY: f64 = 3_600.0;

/// How far ahead it says what will be lost if nothing changes.
const FORESIGHT: f64 = 3_650.0 * 86_400.0;

/// The messages of a cohort are spread over at most so many different delays.
const DELAYS: f64 = 16.0;
/// What waits is about so many cohorts at most.
const COHORTS: f64 = 20_000.0;
/// The times of a first deferral are told apart to this part of the longest deferral.
const SINCE_PARTS: f64 = 64.0;

/// Messages that have gone the same way so far.
#[derive(Debug, Clone, Copy)]
struct Cohort {
    count: f64,
    /// When the oldest of them was uploaded.
    uploaded: f64,
    /// When the oldest of them, or its copy, was sent to the queue.
    sent: f64,
    deferrals: u64,
    deferred_since: Option<f64>,
}

impl Cohort {
    fn add(&mut self, other: &Self) {
        self.count += other.count;
        self.uploaded = self.uploaded.min(other.uploaded);
        self.sent = self.sent.min(other.sent);
        self.deferred_since = match (self.deferred_since, other.deferred_since) {
            (Some(one), Some(another)) => Some(one.min(another)),
            (one, another) => one.or(another),
        };
    }
}

/// The queue at one moment.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Sample {
    pub(crate) time: f64,
    pub(crate) visible: f64,
    pub(crate) delayed: f64,
    pub(crate) in_flight: f64,
    pub(crate) running: f64,
    /// Since the upload of what is received next.
    pub(crate) age: f64,
    /// For how long that, or its copy, has been in the queue.
    pub(crate) waited: f64,
}

impl Sample {
    pub(crate) fn depth(&self) -> f64 {
        self.visible + self.delayed + self.in_flight
    }
}

/// What was done, for the bill.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Work {
    pub(crate) uploads: f64,
    pub(crate) starts: f64,
    pub(crate) calls: f64,
    pub(crate) refused: f64,
    pub(crate) deferrals: f64,
    pub(crate) invocations: f64,
    pub(crate) billed_seconds: f64,
    /// Receives, deletions, and sends of copies.
    pub(crate) queue_requests: f64,
    pub(crate) reads: f64,
}

impl Work {
    /// This and `times` the other.
    pub(crate) fn and(self, times: f64, other: Self) -> Self {
        Self {
            uploads: self.uploads + times * other.uploads,
            starts: self.starts + times * other.starts,
            calls: self.calls + times * other.calls,
            refused: self.refused + times * other.refused,
            deferrals: self.deferrals + times * other.deferrals,
            invocations: self.invocations + times * other.invocations,
            billed_seconds: self.billed_seconds + times * other.billed_seconds,
            queue_requests: self.queue_requests + times * other.queue_requests,
            reads: self.reads + times * other.reads,
        }
    }
}

/// What came of it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Outcome {
    pub(crate) samples: Vec<Sample>,
    /// The most of each at any time.
    pub(crate) peak: Sample,
    /// The most of messages that are in the queue in whatever state, and when.
    pub(crate) deepest: Sample,
    pub(crate) work: Work,
    /// When nothing was left in the queue; none if that never happened.
    pub(crate) drained: Option<f64>,
    /// Messages that became dead letters as `DeferredTooLong`, and when the first did.
    pub(crate) deferred_too_long: f64,
    pub(crate) first_deferred_too_long: Option<f64>,
    /// Messages that SQS deleted, and when it does so first: beyond the end of the simulation by
    /// how fast the oldest message grows older.
    pub(crate) lost: f64,
    pub(crate) first_lost: Option<f64>,
    /// How long the simulation went on.
    pub(crate) end: f64,
}

impl Outcome {
    pub(crate) fn calls_per_start(&self) -> f64 {
        self.work.calls / self.work.starts.max(1.0)
    }
}

impl Scenario {
    /// How long a consumer of such a stack is busy with a full batch of which no call is refused.
    pub(crate) fn batch_seconds(&self, stack: &Stack) -> f64 {
        let scenario = Self { stack: stack.clone(), ..self.clone() };
        World::new(&scenario).batch(stack.batch_size, 0.0)
    }
}

pub(crate) fn simulate(scenario: &Scenario) -> Outcome {
    let mut world = World::new(scenario);
    world.run();
    world.outcome
}

/// What the consumers do in one step.
#[derive(Debug, Clone, Copy)]
struct Flow {
    /// Messages that they take.
    taken: f64,
    /// Messages of a batch, and how long that takes.
    fill: f64,
    batch: f64,
    /// Share of the messages that are deferred without a call, because there was no turn or a
    /// neighbour was refused.
    untried: f64,
    /// Share of those that are tried which are refused in the end.
    refused: f64,
    /// Calls that are refused for each that is granted, and are made again.
    refusals: f64,
    /// Whether the quota decides.
    is_throttled: bool,
}

impl Flow {
    fn starts(&self) -> f64 {
        self.taken * (1.0 - self.untried) * (1.0 - self.refused)
    }
}

#[derive(Debug)]
struct World<'a> {
    scenario: &'a Scenario,
    rng: Rng,
    now: f64,
    visible: VecDeque<Cohort>,
    visible_count: f64,
    /// By the time at which they become visible, their deferrals, and the part of the longest
    /// deferral in which they were deferred first.
    delayed: BTreeMap<(u64, u64, u64), Cohort>,
    delayed_count: f64,
    consumers: f64,
    tokens: f64,
    /// When the quota was last the limit.
    throttled: Option<f64>,
    /// By step: when it began, how long it was, and how many it started.
    executions: VecDeque<(f64, f64, f64)>,
    /// How many that is, and how many of them run.
    open: f64,
    running: f64,
    /// The part of an upload that has not arrived yet.
    remainder: f64,
    outcome: Outcome,
}

impl<'a> World<'a> {
    fn new(scenario: &'a Scenario) -> Self {
        Self {
            scenario,
            rng: Rng::with_seed(scenario.seed),
            now: 0.0,
            visible: VecDeque::new(),
            visible_count: 0.0,
            delayed: BTreeMap::new(),
            delayed_count: 0.0,
            consumers: scenario.stack.first_consumers.min(scenario.stack.maximum_concurrency),
            tokens: scenario.quota.bucket,
            throttled: None,
            executions: VecDeque::new(),
            open: 0.0,
            running: 0.0,
            remainder: 0.0,
            outcome: Outcome::default(),
        }
    }

    fn run(&mut self) {
        let burst_end = self.scenario.burst.map_or(0.0, |burst| burst.length);
        let steady = STEADY.max(2.0 * self.scenario.service_time);
        let end = if burst_end > 0.0 { burst_end + PATIENCE } else { steady };
        let mut last_change = 0.0;
        let mut depth = 0.0;
        while self.now < end {
            let mut step = ((self.now - last_change) / STEPS_TO_A_CHANGE)
                .min(self.time_to_the_end() / STEPS_TO_THE_END)
                .clamp(SHORTEST_STEP, LONGEST_STEP);
            if self.now < burst_end && self.now + step >= burst_end {
                step = burst_end - self.now;
                last_change = burst_end;
            }
            self.step(step);
            let left = self.visible_count + self.delayed_count;
            // Without a burst, the whole time shows whether the stack keeps up.
            if left == 0.0 && self.now >= burst_end && burst_end > 0.0 {
                self.outcome.drained = Some(self.now);
                break;
            }
            depth = left;
        }
        self.outcome.end = self.now;
        if burst_end == 0.0 && depth == 0.0 {
            self.outcome.drained = Some(0.0);
        }
        self.look_ahead();
    }

    /// How long it takes to empty what is visible, by the rate of the quota. Without a burst there is
    /// no end.
    fn time_to_the_end(&self) -> f64 {
        self.scenario
            .burst
            .map_or(f64::INFINITY, |_| self.visible_count / self.scenario.quota.refill)
    }

    /// If the queue did not drain, says when the oldest message will be too old.
    fn look_ahead(&mut self) {
        let Outcome { samples, drained, first_lost, .. } = &mut self.outcome;
        let (Some(last), Some(middle)) = (samples.last(), samples.get(samples.len() / 2)) else {
            return;
        };
        let ageing = (last.waited - middle.waited) / (last.time - middle.time);
        let after = (RETENTION - last.waited) / ageing;
        if drained.is_none() && first_lost.is_none() && (0.0..FORESIGHT).contains(&after) {
            *first_lost = Some(last.time + after);
        }
    }

    fn step(&mut self, length: f64) {
        self.arrive(length);
        self.now += length;
        self.show_due();
        self.forget_old();
        self.end_executions();
        self.tokens += self.scenario.quota.refill * length;
        let flow = self.flow(length);
        self.consume(&flow, length);
        self.tokens = self.tokens.min(self.scenario.quota.bucket);
        self.scale(length);
        self.sample(&flow, length);
    }

    fn arrive(&mut self, length: f64) {
        let burst = self.scenario.burst.filter(|burst| self.now < burst.length);
        let rate = self.scenario.arrivals + burst.map_or(0.0, |burst| burst.rate);
        let count = (self.remainder + rate * length).floor();
        self.remainder += rate * length - count;
        if count > 0.0 {
            // The last of them. If the consumers keep up, they take each as it comes.
            let (uploaded, sent) = (self.now + length, self.now + length);
            self.show(Cohort { count, uploaded, sent, deferrals: 0, deferred_since: None });
            self.outcome.work.uploads += count;
        }
    }

    fn show(&mut self, cohort: Cohort) {
        self.visible_count += cohort.count;
        self.visible.push_back(cohort);
    }

    fn show_due(&mut self) {
        let now = ticks(self.now, SHORTEST_STEP);
        let mut shown: BTreeMap<(u64, u64), Cohort> = BTreeMap::new();
        while let Some(due) = self.delayed.first_entry().filter(|due| due.key().0 <= now) {
            let ((_, deferrals, part), cohort) = due.remove_entry();
            self.delayed_count -= cohort.count;
            shown.entry((deferrals, part)).and_modify(|same| same.add(&cohort)).or_insert(cohort);
        }
        for cohort in shown.into_values() {
            self.show(cohort);
        }
    }

    /// SQS deletes what is too old.
    fn forget_old(&mut self) {
        while let Some(old) =
            self.visible.front().copied().filter(|cohort| self.now - cohort.sent > RETENTION)
        {
            self.visible.pop_front();
            self.visible_count -= old.count;
            self.outcome.lost += old.count;
            self.outcome.first_lost.get_or_insert(self.now);
        }
    }

    /// Counts what runs. Those that a step has started one after the other end so.
    fn end_executions(&mut self) {
        // What was started before this has ended.
        let over = self.now - self.scenario.service_time;
        while let Some((.., count)) =
            self.executions.front().filter(|(begin, length, _)| begin + length <= over)
        {
            self.open -= count;
            self.executions.pop_front();
        }
        let ending = self.executions.iter().take_while(|(begin, ..)| *begin < over);
        let ended: f64 = ending.map(|(begin, length, count)| count * (over - begin) / length).sum();
        self.running = self.open - ended;
    }

    fn scale(&mut self, length: f64) {
        let Stack { maximum_concurrency, first_consumers, .. } = self.scenario.stack;
        let change = if self.visible_count > 0.0 { MORE_CONSUMERS } else { -MORE_CONSUMERS };
        self.consumers = (self.consumers + change * length)
            .clamp(first_consumers.min(maximum_concurrency), maximum_concurrency);
    }

    /// How many messages the consumers take in this step, and what becomes of them.
    fn flow(&self, length: f64) -> Flow {
        let free = self.free_executions(length);
        let all = self.granted(1.0, length);
        if all.starts() <= self.tokens.min(free) {
            all
        } else if self.tokens <= free {
            self.paced(length)
        } else {
            self.refused(free, length)
        }
    }

    /// The quota is the limit, and the rates of all consumers together come to what it grants.
    fn paced(&self, length: f64) -> Flow {
        let fill = self.fill(length);
        let rate = self.tokens / length / self.consumers;
        let overhead = self.batch(1.0, 0.0);
        // A batch takes as long as its turns take, and no longer than patience lasts.
        let batch =
            (fill / rate).min(overhead + consumer::PATIENCE.as_secs_f64() + self.scenario.call);
        let started = (rate * batch).min(fill);
        // As many refusals lower the rate as starts raise it.
        let steady = RAISE / rate / (1.0 / LOWERED).ln();
        Flow {
            taken: (self.consumers * fill * length / batch).min(self.visible_count),
            fill,
            batch,
            untried: 1.0 - started / fill,
            refused: 0.0,
            refusals: steady.max(LEAST_RATE / rate - 1.0),
            is_throttled: true,
        }
    }

    /// Too many executions are open. The chance of a place is the one at which the starts use up just
    /// what is free: the fewer calls are refused, the more are made.
    fn refused(&self, free: f64, length: f64) -> Flow {
        let (mut low, mut high) = (0.0, 1.0);
        for _ in 0..24 {
            let middle = f64::midpoint(low, high);
            if self.granted(middle, length).starts() > free {
                high = middle;
            } else {
                low = middle;
            }
        }
        self.granted(low, length)
    }

    /// How many executions may be started in a step of this length. In a long one, some of them end.
    fn free_executions(&self, length: f64) -> f64 {
        let ending = (length / self.scenario.service_time - 1.0).max(0.0);
        self.scenario
            .open_executions
            .map_or(f64::INFINITY, |most| (most - self.running).max(0.0) + most * ending)
    }

    /// What they do if each call is granted with this chance.
    fn granted(&self, chance: f64, length: f64) -> Flow {
        let fill = self.fill(length);
        let refused = 1.0 - chance;
        let batch = self.batch(fill, refused);
        Flow {
            taken: (self.consumers * fill * length / batch).min(self.visible_count),
            fill,
            batch,
            untried: self.untried(fill, refused),
            refused,
            refusals: 0.0,
            is_throttled: false,
        }
    }

    /// Messages of one batch: as many as there are for each consumer, up to its size.
    fn fill(&self, length: f64) -> f64 {
        let Stack { batch_size, batching_window, .. } = self.scenario.stack;
        let for_each = self.visible_count / length / self.consumers;
        let one = self.batch(1.0, 0.0);
        let more = self.batch(batch_size, 0.0) - one;
        let each = more / (batch_size - 1.0).max(1.0);
        // A batch takes `one + (fill - 1) * each`, and `fill` messages come in that time.
        let fill = if for_each * each < 1.0 {
            (for_each * (one - each) / (1.0 - for_each * each)).clamp(1.0, batch_size)
        } else {
            batch_size
        };
        fill.max((for_each * batching_window).min(batch_size))
    }

    /// How long a consumer is busy with a batch of which this share is refused.
    fn batch(&self, fill: f64, refused: f64) -> f64 {
        self.scenario.stack.between_batches + self.invocation(fill, refused)
    }

    /// How long an invocation takes: reading and starting, so many at once, and sending copies.
    fn invocation(&self, fill: f64, refused: f64) -> f64 {
        let Stack { start_concurrency, start_rate, processor, reads, .. } = self.scenario.stack;
        let call = self.scenario.call;
        let rounds = (fill / start_concurrency).max(1.0);
        let unpaced = rounds * (reads + 1.0) * call;
        let paced = start_rate.map_or(0.0, |rate| {
            let turns = (fill - 1.0).min(rate * self.time_to_start());
            reads * call + turns / rate + call
        });
        let any_refused = 1.0 - (1.0 - refused).powf(fill);
        unpaced.max(paced) + fill * processor + any_refused * call
    }

    fn time_to_start(&self) -> f64 {
        self.scenario.stack.consumer_timeout - SETTLE_RESERVE.as_secs_f64()
    }

    /// Share of the messages that are deferred without a call. Once one is refused for good, the
    /// batch is closed: those that had begun are tried, and those that had not are not.
    fn untried(&self, fill: f64, refused: f64) -> f64 {
        let Stack { start_concurrency, start_rate, .. } = self.scenario.stack;
        let turns = start_rate.map_or(fill, |rate| rate * self.time_to_start() + 1.0);
        let beyond_turns = (fill - turns).max(0.0);
        let closed = 1.0 - (1.0 - refused).powf(fill);
        let behind = (fill - start_concurrency).max(0.0) * closed;
        beyond_turns.max(behind) / fill
    }

    /// Takes the oldest visible messages, and draws what becomes of each cohort.
    fn consume(&mut self, flow: &Flow, length: f64) {
        let available = self.tokens.min(self.free_executions(length));
        let mut left = flow.taken.ceil().min(self.visible_count);
        let (mut started, mut deferred, taken) = (0.0, 0.0, left);
        while left > 0.0 {
            let Some(mut cohort) = self.visible.pop_front() else { break };
            let count = cohort.count.min(left);
            if count < cohort.count {
                self.visible.push_front(Cohort { count: cohort.count - count, ..cohort });
            }
            left -= count;
            self.visible_count -= count;
            let untried = self.draw(count, flow.untried);
            let tried = count - untried;
            let refused = self.draw(tried, flow.refused);
            // A token is a whole one.
            let starts = (tried - refused).min((available - started).floor());
            started += starts;
            if starts > 0.0 {
                let peak = &mut self.outcome.peak;
                peak.age = peak.age.max(self.now - cohort.uploaded + flow.batch);
            }
            cohort.count = untried;
            deferred += self.defer(cohort, flow, false, length);
            cohort.count = tried - starts;
            deferred += self.defer(cohort, flow, true, length);
        }
        self.start(started, length);
        self.count(flow, taken, started, deferred);
    }

    /// How many of `count` meet something that has this chance.
    fn draw(&mut self, count: f64, chance: f64) -> f64 {
        const FEW: f64 = 50.0;
        if count <= 0.0 || chance <= 0.0 {
            return 0.0;
        }
        if count <= FEW {
            return (0..count as u64).map(|_| f64::from(self.rng.f64() < chance)).sum();
        }
        // The sum of many is normally distributed.
        let (length, angle) = ((-2.0 * (1.0 - self.rng.f64()).ln()).sqrt(), self.rng.f64());
        let normal = length * (std::f64::consts::TAU * angle).cos();
        let deviation = (count * chance * (1.0 - chance)).sqrt();
        (count * chance + normal * deviation).round().clamp(0.0, count)
    }

    /// Sends copies to the queue, or dead letters of what was deferred for too long. Returns how
    /// many copies.
    fn defer(&mut self, cohort: Cohort, flow: &Flow, tried: bool, length: f64) -> f64 {
        if cohort.count <= 0.0 {
            return 0.0;
        }
        let Stack { max_deferral, ref backoff, .. } = self.scenario.stack;
        if tried && cohort.deferred_since.is_some_and(|since| self.now - since >= max_deferral) {
            self.outcome.deferred_too_long += cohort.count;
            self.outcome.first_deferred_too_long.get_or_insert(self.now);
            return 0.0;
        }
        let since = cohort.deferred_since.unwrap_or(self.now);
        let part = (since / max_deferral * SINCE_PARTS) as u64;
        let (deferrals, count) = (cohort.deferrals + 1, cohort.count);
        // One by one if they are few.
        let depth = self.visible_count + self.delayed_count;
        let each = (count / DELAYS).max(depth / COHORTS).ceil();
        let mut left = count;
        while left > 0.0 {
            let count = each.min(left);
            left -= count;
            let delay = if flow.is_throttled {
                self.rng.u64(SOON)
            } else {
                backoff.seconds(cohort.deferrals, self.rng.f64())
            } as f64;
            let deferred_since = Some(since);
            let copy = Cohort { count, sent: self.now, deferrals, deferred_since, ..cohort };
            self.delayed
                .entry((ticks(self.now + delay, length), deferrals, part))
                .and_modify(|same| same.add(&copy))
                .or_insert(copy);
        }
        self.delayed_count += count;
        count
    }

    fn start(&mut self, count: f64, length: f64) {
        self.tokens -= count;
        self.open += count;
        self.executions.push_back((self.now - length, length, count));
        self.end_executions();
    }

    /// What all of this cost, in calls and time.
    fn count(&mut self, flow: &Flow, taken: f64, started: f64, deferred: f64) {
        if taken <= 0.0 {
            return;
        }
        let tried = taken * (1.0 - flow.untried);
        let mut calls = tried.max(started) + started * flow.refusals;
        if flow.is_throttled {
            // Before the first refusal there is no limit, and what is under way is refused with it.
            if self.throttled.is_none_or(|last| self.now - last > MEMORY.as_secs_f64()) {
                calls += self.consumers * flow.fill.min(self.scenario.stack.start_concurrency);
            }
            self.throttled = Some(self.now);
        }
        let invocations = taken / flow.fill;
        // SQS gives and deletes ten at a time.
        let tens = (flow.fill / 10.0).ceil();
        let with_copies = 1.0 - ((1.0 - flow.refused) * (1.0 - flow.untried)).powf(flow.fill);
        let sends = (deferred / 10.0).max((invocations * with_copies).min(deferred));
        let work = &mut self.outcome.work;
        work.starts += started;
        work.calls += calls;
        work.refused += calls - started;
        work.deferrals += deferred;
        work.invocations += invocations;
        work.billed_seconds += invocations * (flow.batch - self.scenario.stack.between_batches);
        work.queue_requests += invocations * 2.0 * tens + sends;
        work.reads += taken * self.scenario.stack.reads;
    }

    fn sample(&mut self, flow: &Flow, length: f64) {
        let in_flight = (flow.taken / length * flow.batch).min(self.consumers * flow.fill);
        let sample = Sample {
            time: self.now,
            visible: self.visible_count,
            delayed: self.delayed_count,
            in_flight,
            running: self.running,
            age: self.visible.front().map_or(0.0, |next| self.now - next.uploaded),
            waited: self.visible.front().map_or(0.0, |next| self.now - next.sent),
        };
        let Outcome { samples, peak, deepest, .. } = &mut self.outcome;
        peak.visible = peak.visible.max(sample.visible);
        peak.delayed = peak.delayed.max(sample.delayed);
        peak.in_flight = peak.in_flight.max(sample.in_flight);
        peak.running = peak.running.max(sample.running);
        peak.age = peak.age.max(sample.age);
        if sample.depth() > deepest.depth() {
            *deepest = sample;
        }
        samples.push(sample);
    }
}

/// The end of the step of this length in which a time is, in shortest steps.
fn ticks(time: f64, length: f64) -> u64 {
    let tick = (length / SHORTEST_STEP).round().max(1.0) * SHORTEST_STEP;
    ((time / tick).ceil() * tick / SHORTEST_STEP).round() as u64
}
