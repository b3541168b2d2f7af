use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// The longest time-out that a function can have:
/// <https://docs.aws.amazon.com/lambda/latest/dg/gettingstarted-limits.html>.
const LONGEST_INVOCATION: Duration = Duration::from_mins(15);

/// When Lambda ends the invocation. It gives no partial answer then: everything that the function
/// had not answered for comes back.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// From the deadline in the invocation's context: milliseconds since the Unix epoch.
    ///
    /// One that has passed is taken for none. Lambda never sends such a deadline, but `cargo lambda
    /// watch` sends a number of milliseconds that is no point in time, and a function that believed
    /// it would give up before it began.
    pub fn from_epoch_millis(deadline: u64) -> Self {
        let left = (UNIX_EPOCH + Duration::from_millis(deadline))
            .duration_since(SystemTime::now())
            .unwrap_or(LONGEST_INVOCATION);
        Self(Instant::now() + left)
    }

    pub fn at(instant: Instant) -> Self {
        Self(instant)
    }

    /// The instant `reserve` before the end, or half-way there if there is less time than that.
    pub fn before(self, reserve: Duration) -> Instant {
        let left = self.0.saturating_duration_since(Instant::now());
        self.0.checked_sub(reserve.min(left / 2)).unwrap_or(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn the_reserve_is_at_most_half_of_what_is_left() {
        let end = Instant::now() + Duration::from_secs(10);
        for (wanted, reserve) in [(2, 2), (5, 5), (8, 5)] {
            let before = Deadline::at(end).before(Duration::from_secs(wanted));
            assert_eq!(end - before, Duration::from_secs(reserve));
        }
    }

    #[test]
    fn a_deadline_that_has_passed_is_none() {
        let left = |deadline| {
            Deadline::from_epoch_millis(deadline).before(Duration::ZERO) - Instant::now()
        };
        // What `cargo lambda watch` 1.9 sends.
        assert!(left(600_000) > Duration::from_mins(14));
        let in_ten_seconds = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default()
            + Duration::from_secs(10);
        let left = left(u64::try_from(in_ten_seconds.as_millis()).unwrap_or_default());
        assert!(left <= Duration::from_secs(10), "{left:?}");
    }
}
