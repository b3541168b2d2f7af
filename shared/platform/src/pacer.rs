use std::{
    sync::{Mutex, PoisonError},
    time::Duration,
};

use tokio::time::{Instant, sleep_until};

/// Rate limiter shared by all tasks of one invocation.
#[derive(Debug)]
pub struct Pacer {
    interval: Duration,
    next: Mutex<Instant>,
}

impl Pacer {
    pub fn new(per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self { interval, next: Mutex::new(Instant::now()) }
    }

    /// Waits for the turn of the first of `count` things, and keeps the next turns for the others.
    pub async fn turns(&self, count: usize) {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            *next = turn + self.interval * u32::try_from(count).unwrap_or(u32::MAX);
            turn
        };
        sleep_until(turn).await;
    }

    /// Waits for a turn if there is one before `until`. If there is none, it says so at once and
    /// keeps none.
    pub async fn turn_before(&self, until: Instant) -> bool {
        let turn = {
            let mut next = self.next.lock().unwrap_or_else(PoisonError::into_inner);
            let turn = (*next).max(Instant::now());
            if turn >= until {
                return false;
            }
            *next = turn + self.interval;
            turn
        };
        sleep_until(turn).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn turns_are_evenly_spaced() {
        let begin = Instant::now();
        let pacer = Pacer::new(5);
        let mut turns = Vec::new();
        for count in [1, 1, 3, 1] {
            pacer.turns(count).await;
            turns.push(begin.elapsed().as_millis());
        }
        assert_eq!(turns, [0, 200, 400, 1000]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_turn_that_would_come_too_late_is_refused_at_once() {
        let begin = Instant::now();
        let pacer = Pacer::new(1);
        let until = begin + Duration::from_millis(1_500);
        let turns = [
            pacer.turn_before(until).await,
            pacer.turn_before(until).await,
            pacer.turn_before(until).await,
        ];
        assert_eq!((turns, begin.elapsed().as_millis()), ([true, true, false], 1_000));
    }
}
