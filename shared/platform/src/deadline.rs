use std::time::{Duration, SystemTime, UNIX_EPOCH};

use tokio::time::Instant;

/// When Lambda ends the invocation. It gives no partial answer then: everything that the function
/// had not answered for comes back.
#[derive(Debug, Clone, Copy)]
pub struct Deadline(Instant);

impl Deadline {
    /// From the deadline in the invocation's context: milliseconds since the Unix epoch.
    pub fn from_epoch_millis(deadline: u64) -> Self {
        let left = (UNIX_EPOCH + Duration::from_millis(deadline))
            .duration_since(SystemTime::now())
            .unwrap_or_default();
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
