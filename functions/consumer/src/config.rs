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
