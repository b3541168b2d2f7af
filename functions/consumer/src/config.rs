use std::{str::FromStr, time::Duration};

use platform::Settings;

use crate::{
    backoff::Backoff,
    running::{self, RunningLimit},
};

/// Bytes that the input of an execution may have.
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>
pub(crate) const MAX_INPUT_BYTES: usize = 262_144;

/// There must be room for the event around the object.
const MAX_INLINE_OBJECT_BYTES: u64 = MAX_INPUT_BYTES as u64 - 16_384;

#[derive(Debug, Clone)]
pub struct Config {
    pub state_machine_arn: String,
    pub inline_content: InlineContent,
    /// Objects up to this size are passed to the execution, larger ones by reference. With 0,
    /// nothing is read.
    pub inline_object_max_bytes: u64,
    /// Records of one batch under way at once.
    pub start_concurrency: usize,
    /// Starts of one invocation, evenly paced; none for no limit.
    pub start_rate_per_second: Option<u32>,
    /// How many executions may run at once; none for no limit.
    pub running_limit: Option<RunningLimit>,
    pub backoff: Backoff,
    /// How long a message may be deferred, from its first deferral on; then it is dead-lettered. A
    /// copy sent back starts its retention anew, so without this an event could go round for ever.
    pub max_deferral: Duration,
    /// As the forwarder has it, for the messages into which a message of several events is split.
    pub group_key_segments: usize,
}

/// What becomes of the content of an object that is small enough to be passed inline.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum InlineContent {
    /// It is passed inline. What is not JSON is poison.
    Required,
    /// JSON is passed inline, everything else by reference.
    Preferred,
    /// Every object is passed by reference, and none is read.
    Never,
}

impl FromStr for InlineContent {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        match text {
            "Required" => Ok(Self::Required),
            "Preferred" => Ok(Self::Preferred),
            "Never" => Ok(Self::Never),
            _ => Err("expected Required, Preferred or Never"),
        }
    }
}

impl Config {
    pub fn read(settings: &Settings<'_>) -> Self {
        let seconds = |name, default| {
            // `DelaySeconds` goes up to 900.
            Duration::from_secs(settings.number(name, default, 1..=900))
        };
        let rate = settings.number("START_RATE_PER_SECOND", 0, 0..=10_000);
        Self {
            state_machine_arn: settings.required("STATE_MACHINE_ARN"),
            inline_content: settings.optional("INLINE_CONTENT").unwrap_or(InlineContent::Required),
            inline_object_max_bytes: settings.number(
                "INLINE_OBJECT_MAX_BYTES",
                MAX_INLINE_OBJECT_BYTES,
                0..=MAX_INLINE_OBJECT_BYTES,
            ),
            start_concurrency: settings.number("START_CONCURRENCY", 10, 1..=1_000),
            start_rate_per_second: (rate > 0).then_some(rate),
            running_limit: running_limit(settings),
            backoff: Backoff {
                base: seconds("DEFERRAL_BASE_SECONDS", 5),
                cap: seconds("DEFERRAL_CAP_SECONDS", 900),
            },
            max_deferral: Duration::from_secs(
                settings.number("MAX_DEFERRAL_HOURS", 72, 1..=14 * 24) * 3600,
            ),
            group_key_segments: settings.number("GROUP_KEY_SEGMENTS", 2, 1..=100),
        }
    }
}

fn running_limit(settings: &Settings<'_>) -> Option<RunningLimit> {
    let limit = RunningLimit {
        executions: settings.number("MAX_RUNNING_EXECUTIONS", 0, 0..=running::MOST),
        consumers: settings.number("MAXIMUM_CONCURRENCY", 10, 2..=1_000),
        batch_size: settings.number("BATCH_SIZE", 10, 1..=10_000),
    };
    if limit.executions == 0 {
        return None;
    }
    if settings.optional::<String>("STATE_MACHINE_TYPE").as_deref() == Some("EXPRESS") {
        let problem = "it has to be 0 with STATE_MACHINE_TYPE=EXPRESS, because executions of an \
                       EXPRESS state machine cannot be listed";
        settings.refuse("MAX_RUNNING_EXECUTIONS", limit.executions.to_string(), problem);
    }
    Some(limit)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Result<Config, String> {
        let lookup = |name: &str| {
            let machine = ("STATE_MACHINE_ARN", "arn:machine");
            let mut all = settings.iter().chain([&machine]);
            all.find(|(other, _)| *other == name).map(|(_, value)| value.into())
        };
        Settings::from_lookup(&lookup, Config::read).map_err(|error| error.to_string())
    }

    #[test]
    fn the_defaults_are_those_of_the_template() {
        let config = read(&[]).expect("defaults");
        assert_eq!(config.state_machine_arn, "arn:machine");
        assert_eq!(config.inline_content, InlineContent::Required);
        assert_eq!(config.inline_object_max_bytes, 245_760);
        assert_eq!((config.start_concurrency, config.start_rate_per_second), (10, None));
        assert_eq!(config.running_limit, None);
        assert_eq!(config.backoff.base, Duration::from_secs(5));
        assert_eq!(config.backoff.cap, Duration::from_mins(15));
        assert_eq!(config.max_deferral, Duration::from_hours(72));
        assert_eq!(config.group_key_segments, 2);
    }

    #[test]
    fn every_setting_has_its_name() {
        let config = read(&[
            ("INLINE_OBJECT_MAX_BYTES", "1000"),
            ("START_CONCURRENCY", "20"),
            ("START_RATE_PER_SECOND", "30"),
            ("DEFERRAL_BASE_SECONDS", "7"),
            ("DEFERRAL_CAP_SECONDS", "70"),
            ("MAX_DEFERRAL_HOURS", "336"),
            ("GROUP_KEY_SEGMENTS", "3"),
        ])
        .expect("settings");
        assert_eq!(config.inline_object_max_bytes, 1_000);
        assert_eq!((config.start_concurrency, config.start_rate_per_second), (20, Some(30)));
        assert_eq!(config.backoff.base, Duration::from_secs(7));
        assert_eq!(config.backoff.cap, Duration::from_secs(70));
        assert_eq!(config.max_deferral, Duration::from_hours(14 * 24));
        assert_eq!(config.group_key_segments, 3);
        for (text, content) in [
            ("Required", InlineContent::Required),
            ("Preferred", InlineContent::Preferred),
            ("Never", InlineContent::Never),
        ] {
            let config = read(&[("INLINE_CONTENT", text)]).expect(text);
            assert_eq!(config.inline_content, content);
        }
    }

    #[test]
    fn what_aws_would_refuse_is_refused_at_the_start() {
        for (name, value) in [
            ("INLINE_CONTENT", "Always"),
            ("INLINE_OBJECT_MAX_BYTES", "245761"),
            ("DEFERRAL_CAP_SECONDS", "901"),
            ("MAX_DEFERRAL_HOURS", "337"),
        ] {
            let error = read(&[(name, value)]).expect_err("refused");
            assert!(error.contains(name), "{error}");
        }
    }
}
