use std::time::Duration;

/// What waits for a place waits for so small a part of its time longer.
const PART_OF_WAIT: u32 = 5;

/// How long a deferred message waits before its next try.
#[derive(Debug, Clone)]
pub struct Backoff {
    /// The wait of the first deferral; it doubles with each further one.
    pub base: Duration,
    pub cap: Duration,
}

impl Backoff {
    /// Whole seconds, exponential from base to cap, with equal jitter, so that what was deferred
    /// together does not come back together. `random` is from 0 to 1.
    pub fn seconds(&self, deferrals: u64, random: f64) -> u64 {
        let doublings = u32::try_from(deferrals).unwrap_or(u32::MAX).min(20);
        spread(self.base.saturating_mul(1 << doublings).min(self.cap), random)
    }

    /// The same for what waits for a place among the executions that may run: a part of the time that
    /// it has waited already. Places become free one after the other as long as anything waits, and
    /// with doubled waits, too few messages would be there to take them.
    pub fn for_a_place(&self, waited: Duration, random: f64) -> u64 {
        spread((waited / PART_OF_WAIT).max(self.base).min(self.cap), random)
    }
}

/// Whole seconds up to a ceiling, half of them at random.
fn spread(ceiling: Duration, random: f64) -> u64 {
    let delay = ceiling.mul_f64(0.5 + random / 2.0);
    delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_cap_and_are_spread() {
        let backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_mins(15) };
        let seconds = |deferrals, random| backoff.seconds(deferrals, random);
        assert_eq!([seconds(0, 0.0), seconds(0, 1.0)], [3, 5]);
        assert_eq!([seconds(3, 0.0), seconds(3, 1.0)], [20, 40]);
        assert_eq!(seconds(8, 1.0), 900);
        assert_eq!(seconds(u64::MAX, 1.0), 900);
    }

    #[test]
    fn who_waits_for_a_place_waits_for_a_part_of_its_time_longer() {
        let backoff = Backoff { base: Duration::from_secs(5), cap: Duration::from_mins(15) };
        let seconds = |waited| backoff.for_a_place(Duration::from_secs(waited), 1.0);
        assert_eq!([0, 25, 100, 4_500, u64::MAX].map(seconds), [5, 5, 20, 900, 900]);
        assert_eq!(backoff.for_a_place(Duration::from_secs(100), 0.0), 10);
    }
}
