//! How fast an environment starts executions: a rate learnt from what Step Functions answers.
//!
//! All environments share one quota of `StartExecution` and know nothing of each other. So each does
//! what the senders of a network do: a start that is granted raises its rate by a little, one that is
//! refused lowers it by a part. Who has more is refused more often, so the rates become alike; and
//! the rarer refusals are, the closer the sum of all comes to the quota.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until, timeout_at};

/// Starts in a second after the first refusal. It may be far too many or far too few, as nobody
/// knows how many environments there are. So the rate grows by a tenth with each start, up to the
/// next refusal.
const FIRST_RATE: f64 = 10.0;
const FIRST_GROWTH: f64 = 1.1;

/// What a start adds to the rate after that.
pub const RAISE: f64 = 0.1;

/// What a refusal leaves of it.
pub const LOWERED: f64 = 0.7;

/// No environment comes near this: what nothing has refused must not grow so far that it takes many
/// refusals to come down again.
const MOST_RATE: f64 = 1_000.0;

/// One start a second is tried however many were refused, so that an end of the throttling is
/// noticed.
pub const LEAST_RATE: f64 = 1.0;

/// After so many refusals without a start between them, nothing was granted to anybody. The next start
/// that is granted ends that, and the rate begins anew.
const OUTAGE: u32 = 10;

/// Tokio's timer has whole milliseconds. A turn that comes late by as much does not put off the next.
const TIMER: Duration = Duration::from_millis(2);

/// What nothing has contradicted for so long is forgotten.
pub const MEMORY: Duration = Duration::from_mins(1);

/// The turns of all starts of one environment. There is no limit until one of them is refused.
#[derive(Debug, Default)]
pub struct Pace {
    /// Those who wait for a turn, in order.
    queue: tokio::sync::Mutex<()>,
    limit: Mutex<Option<Limit>>,
}

#[derive(Debug, Clone, Copy)]
struct Limit {
    per_second: f64,
    /// When the next start may be tried.
    next: Instant,
    /// When the rate was lowered last.
    lowered: Instant,
    /// No other refusal has come since the first.
    is_first: bool,
    /// How often it was lowered since the last start.
    in_a_row: u32,
}

impl Pace {
    /// Waits for the next turn and tells when it came; none if it would come after `until`.
    pub(crate) async fn turn_before(&self, until: Instant) -> Option<Instant> {
        let _first = timeout_at(until, self.queue.lock()).await.ok()?;
        // A refusal of another start may put it off.
        loop {
            let now = Instant::now();
            let next = match &mut *self.limit() {
                Some(_) if now > until => return None,
                Some(limit) if limit.next > now => limit.next,
                Some(limit) => {
                    let due = limit.next.max(now.checked_sub(TIMER).unwrap_or(now));
                    limit.next = due + limit.interval();
                    return Some(now);
                }
                None => return Some(now),
            };
            if next > until {
                return None;
            }
            sleep_until(next).await;
        }
    }

    /// A start was granted, or answered with the execution that there is: both are within the quota.
    pub(crate) fn is_granted(&self) {
        if let Some(limit) = &mut *self.limit() {
            if limit.in_a_row >= OUTAGE {
                (limit.per_second, limit.is_first) = (FIRST_RATE, true);
            } else if limit.is_first {
                limit.per_second *= FIRST_GROWTH;
            } else {
                limit.per_second += RAISE;
            }
            limit.per_second = limit.per_second.min(MOST_RATE);
            limit.in_a_row = 0;
        }
    }

    /// A start was refused whose turn came at this time. Of the starts that were under way when the
    /// rate was lowered, no other lowers it again.
    pub(crate) fn is_refused(&self, turn: Instant) {
        let now = Instant::now();
        let mut limit = self.limit();
        let (per_second, in_a_row) = match *limit {
            Some(Limit { lowered, .. }) if turn < lowered => return,
            Some(Limit { per_second, in_a_row, .. }) => {
                ((per_second * LOWERED).max(LEAST_RATE), in_a_row + 1)
            }
            None => (FIRST_RATE, 1),
        };
        let is_first = limit.is_none();
        let lowered = Limit { per_second, next: now, lowered: now, is_first, in_a_row };
        // At random, so that environments that were refused together do not come back together.
        let next = now + lowered.interval().mul_f64(fastrand::f64());
        *limit = Some(Limit { next, ..lowered });
    }

    /// Whether there is a limit now.
    pub(crate) fn is_limited(&self) -> bool {
        self.limit().is_some()
    }

    fn limit(&self) -> MutexGuard<'_, Option<Limit>> {
        let mut limit = self.limit.lock().unwrap_or_else(PoisonError::into_inner);
        limit.take_if(|limit| limit.lowered.elapsed() > MEMORY);
        limit
    }
}

impl Limit {
    fn interval(&self) -> Duration {
        Duration::from_secs_f64(1.0 / self.per_second)
    }
}

#[cfg(test)]
mod tests {
    use tokio::time::sleep;

    use super::*;

    /// When the next turns come, in milliseconds from now.
    async fn turns(pace: &Pace, count: usize) -> Vec<u128> {
        let begin = Instant::now();
        let mut turns = Vec::new();
        for _ in 0..count {
            pace.turn_before(begin + Duration::from_hours(1)).await.expect("a turn");
            turns.push(begin.elapsed().as_millis());
        }
        turns
    }

    /// Refused as often as this, each time for a start of its own.
    async fn refused(times: u32) -> Pace {
        let pace = Pace::default();
        for _ in 0..times {
            pace.is_refused(Instant::now());
            sleep(Duration::from_millis(1)).await;
        }
        pace
    }

    fn rate(pace: &Pace) -> f64 {
        pace.limit().map_or(f64::INFINITY, |limit| limit.per_second)
    }

    #[tokio::test(start_paused = true)]
    async fn nothing_waits_before_the_first_refusal() {
        assert_eq!(turns(&Pace::default(), 3).await, [0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn turns_are_evenly_spaced_after_it() {
        let pace = refused(1).await;
        let turns = turns(&pace, 4).await;
        assert!(turns[0] <= 100, "{turns:?}");
        let gaps: Vec<_> = turns.windows(2).map(|two| two[1] - two[0]).collect();
        // A timer has whole milliseconds, and rounds up.
        assert!(gaps.iter().all(|gap| (100..=101).contains(gap)), "{gaps:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_would_come_too_late_is_refused_at_once() {
        let pace = refused(1).await;
        pace.turn_before(Instant::now() + Duration::from_secs(1)).await.expect("a turn");
        let begin = Instant::now();
        assert_eq!(pace.turn_before(begin + Duration::from_millis(50)).await, None);
        assert_eq!(begin.elapsed(), Duration::ZERO);
    }

    /// They wait one behind the other, and the first of them knows that there is none.
    #[tokio::test(start_paused = true)]
    async fn who_waits_behind_others_does_not_wait_for_nothing() {
        let pace = refused(100).await;
        let begin = Instant::now();
        let until = begin + Duration::from_millis(2_500);
        let waiting = (0..10).map(|_| pace.turn_before(until));
        let turns = futures::future::join_all(waiting).await;
        let granted = turns.iter().flatten().count();
        assert!((2..=3).contains(&granted), "{turns:?}");
        assert!(begin.elapsed() < Duration::from_millis(2_500), "{:?}", begin.elapsed());
    }

    /// Also where the rate is so high that the next turn is always due.
    #[tokio::test(start_paused = true)]
    async fn there_is_no_turn_once_the_time_is_over() {
        let pace = refused(1).await;
        let until = Instant::now();
        sleep(Duration::from_secs(1)).await;
        assert_eq!(pace.turn_before(until).await, None);
        // But without a limit nobody waits, and nobody is too late.
        assert!(Pace::default().turn_before(until).await.is_some());
    }

    #[tokio::test(start_paused = true)]
    async fn a_rate_that_nothing_has_refused_comes_down_soon() {
        let pace = refused(1).await;
        (0..10_000).for_each(|_| pace.is_granted());
        for _ in 0..15 {
            pace.is_refused(Instant::now());
            sleep(Duration::from_millis(1)).await;
        }
        assert!(rate(&pace) < 10.0, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn one_round_of_refusals_lowers_the_rate_once() {
        let pace = Pace::default();
        let together = Instant::now();
        sleep(Duration::from_millis(20)).await;
        for _ in 0..10 {
            pace.is_refused(together);
        }
        assert!((rate(&pace) - FIRST_RATE).abs() < 1e-9, "{pace:?}");
        pace.is_refused(Instant::now());
        assert!((rate(&pace) - 7.0).abs() < 1e-9, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_rate_grows_fast_up_to_the_second_refusal_and_slowly_after_it() {
        let pace = refused(1).await;
        pace.is_granted();
        assert!((rate(&pace) - 11.0).abs() < 1e-9, "{pace:?}");
        pace.is_refused(Instant::now());
        pace.is_granted();
        assert!((rate(&pace) - 7.8).abs() < 1e-9, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_start_after_an_outage_begins_anew() {
        for (refusals, per_second) in [(OUTAGE - 1, LEAST_RATE + RAISE), (OUTAGE, FIRST_RATE)] {
            let pace = refused(refusals).await;
            assert!((rate(&pace) - LEAST_RATE).abs() < 1e-9, "{pace:?}");
            pace.is_granted();
            assert!((rate(&pace) - per_second).abs() < 1e-9, "{pace:?}");
        }
        let pace = refused(OUTAGE).await;
        pace.is_granted();
        pace.is_granted();
        assert!((rate(&pace) - 11.0).abs() < 1e-9, "{pace:?}");
    }

    /// A start that waits for its turn waits longer if another is refused meanwhile.
    #[tokio::test(start_paused = true)]
    async fn a_refusal_puts_off_the_turn_that_is_waited_for() {
        let pace = refused(100).await;
        let begin = turns(&pace, 1).await;
        let wait = turns(&pace, 1);
        let refuse = async {
            sleep(Duration::from_millis(990)).await;
            // Its jitter is random, and nearly never nothing.
            (0..20).for_each(|_| pace.is_refused(Instant::now()));
        };
        let (turn, ()) = futures::join!(wait, refuse);
        assert!(turn[0] >= 990, "{begin:?} {turn:?}");
        assert!((rate(&pace) - LEAST_RATE).abs() < 1e-9, "{pace:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_learnt_is_forgotten_after_a_minute_without_a_refusal() {
        let pace = refused(100).await;
        sleep(MEMORY.mul_f64(0.99)).await;
        assert!(pace.is_limited());
        sleep(MEMORY.mul_f64(0.02)).await;
        assert!(!pace.is_limited());
        assert_eq!(turns(&pace, 3).await, [0, 0, 0]);
    }
}
