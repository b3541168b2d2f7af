use std::time::Duration;

use platform::{SettingError, Settings};

/// Bytes of the input of an execution: 262,144, less room for the event around the object.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
const MAX_INLINE_OBJECT_BYTES: u64 = 262_144 - 16_384;

#[derive(Debug, Clone)]
pub struct Config {
    pub state_machine_arn: String,
    /// Objects up to this size are passed to the execution, larger ones by reference.
    pub inline_object_max_bytes: u64,
    /// Records of one batch under way at once.
    pub start_concurrency: usize,
    /// Starts of one invocation, evenly paced; none for no limit.
    pub start_rate_per_second: Option<u32>,
    /// Delay of the first deferral; it doubles with each further one, up to the cap.
    pub deferral_base: Duration,
    pub deferral_cap: Duration,
    /// Age of an event beyond which it is dead-lettered instead of deferred once more. A copy sent
    /// back starts its retention anew, so without this an event could go round for ever.
    pub max_deferral: Duration,
}

impl Config {
    pub fn read(settings: &Settings<'_>) -> Result<Self, SettingError> {
        let seconds = |name, default| {
            // `DelaySeconds` goes up to 900.
            settings.number(name, default, 1..=900).map(Duration::from_secs)
        };
        let rate = settings.number("START_RATE_PER_SECOND", 0, 0..=10_000)?;
        Ok(Self {
            state_machine_arn: settings.required("STATE_MACHINE_ARN")?,
            inline_object_max_bytes: settings.number(
                "INLINE_OBJECT_MAX_BYTES",
                131_072,
                0..=MAX_INLINE_OBJECT_BYTES,
            )?,
            start_concurrency: settings.number("START_CONCURRENCY", 10, 1..=1_000)?,
            start_rate_per_second: (rate > 0).then_some(rate),
            deferral_base: seconds("DEFERRAL_BASE_SECONDS", 5)?,
            deferral_cap: seconds("DEFERRAL_CAP_SECONDS", 900)?,
            max_deferral: Duration::from_secs(
                settings.number("MAX_DEFERRAL_HOURS", 72, 1..=14 * 24)? * 3600,
            ),
        })
    }

    /// Seconds to wait before the next try: exponential from base to cap, with equal jitter, so
    /// that what was deferred together does not come back together. `random` is from 0 to 1.
    pub(crate) fn deferral_seconds(&self, deferrals: u64, random: f64) -> u64 {
        let doublings = u32::try_from(deferrals).unwrap_or(u32::MAX).min(20);
        let ceiling = self.deferral_base.saturating_mul(1 << doublings).min(self.deferral_cap);
        let delay = ceiling.mul_f64(0.5 + random / 2.0);
        delay.as_secs() + u64::from(delay.subsec_nanos() > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferrals_grow_to_the_cap_and_are_spread() {
        let lookup = |name: &str| (name == "STATE_MACHINE_ARN").then(|| "arn".into());
        let config = Config::read(&Settings::from_lookup(&lookup)).expect("defaults");
        let seconds = |deferrals, random| config.deferral_seconds(deferrals, random);
        assert_eq!([seconds(0, 0.0), seconds(0, 1.0)], [3, 5]);
        assert_eq!([seconds(3, 0.0), seconds(3, 1.0)], [20, 40]);
        assert_eq!(seconds(8, 1.0), 900);
        assert_eq!(seconds(u64::MAX, 1.0), 900);
    }
}
