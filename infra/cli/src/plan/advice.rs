//! Better settings, found by trying some.

use super::simulation::{Outcome, Scenario, Stack, simulate};

/// Consumers are worth having for as much as the quota takes, even while calls take so many times as
/// long as assumed. Beyond that, they only fetch refusals.
const SLOWER: f64 = 2.0;

/// A quota should be so much larger than what is steadily asked of it.
const MARGIN: f64 = 1.1;

/// Settings that drain as fast as this one are as good.
const AS_FAST: f64 = 1.02;

/// Another setting is worth a change if it saves this part of the time, or of the calls.
const WORTH_IT: f64 = 0.95;

#[derive(Debug)]
pub(crate) enum Advice {
    /// The steady arrivals alone are more than Step Functions takes.
    RaiseQuota {
        refill: f64,
    },
    /// They keep more executions open than may be.
    RaiseOpenExecutions {
        open: f64,
    },
    /// These settings are as good as any that were tried.
    Keep,
    Change(Change),
}

#[derive(Debug)]
pub(crate) struct Change {
    pub(crate) maximum_concurrency: f64,
    pub(crate) batch_size: f64,
    pub(crate) start_rate_per_second: f64,
    /// When nothing is left then, and how many calls each start takes.
    pub(crate) drained: f64,
    pub(crate) calls_per_start: f64,
}

pub(crate) fn advise(scenario: &Scenario, outcome: &Outcome) -> Advice {
    let open = scenario.arrivals * scenario.service_time;
    if scenario.open_executions.is_some_and(|most| open > most) {
        return Advice::RaiseOpenExecutions { open: round_up(open * MARGIN) };
    }
    if scenario.arrivals >= scenario.quota.refill {
        return Advice::RaiseQuota { refill: round_up(scenario.arrivals * MARGIN) };
    }
    // Whoever takes an advice has to live with slower calls than were assumed.
    let slower = Scenario { call: SLOWER * scenario.call, ..scenario.clone() };
    let with = |stack: &Stack, scenario: &Scenario| {
        simulate(&Scenario { stack: stack.clone(), ..scenario.clone() })
    };
    let now = with(&scenario.stack, &slower);
    let tried: Vec<_> = candidates(scenario, &slower)
        .into_iter()
        .map(|stack| (with(&stack, &slower), stack))
        .collect();
    let fastest = tried.iter().map(|(slowly, _)| time(slowly)).fold(time(&now), f64::min);
    let best = tried
        .into_iter()
        .filter(|(slowly, _)| time(slowly) <= fastest * AS_FAST)
        .min_by(|(one, _), (other, _)| one.calls_per_start().total_cmp(&other.calls_per_start()));
    let Some((_, stack)) = best else { return Advice::Keep };
    let better = with(&stack, scenario);
    let is_faster = time(&better) < time(outcome) * WORTH_IT;
    let is_cheaper = better.calls_per_start() <= outcome.calls_per_start() * WORTH_IT;
    if time(&better) > time(outcome) * AS_FAST || !(is_faster || is_cheaper) {
        return Advice::Keep;
    }
    Advice::Change(Change {
        maximum_concurrency: stack.maximum_concurrency,
        batch_size: stack.batch_size,
        start_rate_per_second: stack.start_rate.unwrap_or(0.0),
        drained: time(&better),
        calls_per_start: better.calls_per_start(),
    })
}

fn time(outcome: &Outcome) -> f64 {
    outcome.drained.unwrap_or(f64::INFINITY)
}

/// As many consumers as the quota feeds, twice that, and as many as there are: without a start rate,
/// and with the one at which all of them together start as many as the quota allows.
fn candidates(scenario: &Scenario, slower: &Scenario) -> Vec<Stack> {
    let refill = scenario.quota.refill;
    let stack = &scenario.stack;
    let free = Stack { start_rate: None, ..stack.clone() };
    let busy = scenario.batch_seconds(&free);
    let needed = refill * slower.batch_seconds(&free) / stack.batch_size;
    let needed = needed.ceil().clamp(2.0, 1_000.0);
    let mut all = Vec::new();
    for consumers in [needed, (2.0 * needed).min(1_000.0), stack.maximum_concurrency] {
        let free = Stack { maximum_concurrency: consumers, start_rate: None, ..stack.clone() };
        // Each batch may take so long if all together are to start what the quota allows.
        let turns = consumers * stack.batch_size / refill - busy;
        if turns > 0.0 && stack.batch_size > 1.0 {
            let rate = ((stack.batch_size - 1.0) / turns).ceil();
            all.push(Stack { start_rate: Some(rate), ..free.clone() });
        }
        all.push(free);
    }
    all
}

/// To two digits.
fn round_up(number: f64) -> f64 {
    let unit = 10_f64.powf(number.log10().floor() - 1.0).max(1.0);
    // But for what the product of two fractions is off.
    (number / unit - 1e-9).ceil() * unit
}
