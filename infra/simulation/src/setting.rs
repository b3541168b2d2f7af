//! What the seed chooses of the stack and of its surroundings.

use std::fmt;

use fastrand::Rng;
use jiff::Timestamp;

/// Time zones, each with a time at which a run begins. The first has no daylight saving; in the
/// others, the clocks change two days after the begin: back, forward, forward at midnight, so that
/// the day begins at one, and back by half an hour.
const PLACES: [(&str, &str); 5] = [
    ("Asia/Seoul", "2026-11-20T15:30:00Z"),
    ("America/New_York", "2026-10-30T05:30:00Z"),
    ("Europe/Berlin", "2027-03-26T03:30:00Z"),
    ("Asia/Beirut", "2027-03-26T03:30:00Z"),
    ("Australia/Lord_Howe", "2027-04-01T20:30:00Z"),
];

/// How notifications reach the work queue: `Ingestion`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Route {
    Direct,
    Sns,
    EventBridge,
    Queue,
}

/// The parameters of the stack.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) route: Route,
    pub(crate) is_versioned: bool,
    /// `Ordered`: the work queue is FIFO.
    pub(crate) is_ordered: bool,
    /// `StateMachineType`.
    pub(crate) is_express: bool,
    pub(crate) time_zone: &'static str,
    pub(crate) start: Timestamp,
    /// `MaxReceiveCount`.
    pub(crate) max_receives: u32,
    pub(crate) quota: Quota,
    pub(crate) release: Release,
    /// `MaxRunningExecutions`; 0 for no limit.
    pub(crate) max_running: usize,
}

/// The settings of the functions, which a deployment may change.
#[derive(Debug, Clone)]
pub(crate) struct Release {
    pub(crate) inline_object_max_bytes: u32,
    pub(crate) max_redrives: u32,
    pub(crate) group_key_segments: u32,
    pub(crate) max_deferral_hours: u32,
}

/// What Step Functions allows, as small beside AWS' 1,300 starts and 300 a second as the load is:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Quota {
    /// Starts at once.
    pub(crate) bucket: f64,
    /// Starts a second after that.
    pub(crate) refill: f64,
    /// Executions that are open at a time.
    pub(crate) open: usize,
}

impl Setting {
    /// Whether a ledger is made every night: versions have to be listed, and executions.
    pub(crate) fn has_ledger(&self) -> bool {
        self.is_versioned && !self.is_express
    }

    /// The seed is that of the generator.
    pub(crate) fn draw(rng: &mut Rng, seed: u64) -> Self {
        let mut setting = Self::draw_all_but_the_limit(rng);
        // By a generator of its own, so that all other choices stay what they were without it.
        let mut rng = Rng::with_seed(!seed);
        if !setting.is_express && rng.u8(..4) == 0 {
            // Less than the quota of open executions.
            setting.max_running = rng.usize(1..=3);
        }
        setting
    }

    fn draw_all_but_the_limit(rng: &mut Rng) -> Self {
        let is_ordered = rng.bool();
        // The queue cannot be FIFO if S3 sends to it.
        let routes = [Route::Direct, Route::Sns, Route::EventBridge, Route::Queue];
        let routes = if is_ordered { &routes[..3] } else { &routes[..] };
        let (time_zone, start) = PLACES[rng.usize(..PLACES.len())];
        Self {
            route: routes[rng.usize(..routes.len())],
            is_versioned: rng.bool(),
            is_ordered,
            is_express: rng.u8(..4) == 0,
            time_zone,
            start: start.parse().unwrap_or_default(),
            max_receives: if is_ordered { 1_000 } else { rng.u32(5..=10) },
            quota: Quota {
                bucket: f64::from(rng.u32(3..=12)),
                refill: f64::from(rng.u32(1..=8)) / 4.0,
                open: rng.usize(4..=12),
            },
            release: Release::draw(rng),
            max_running: 0,
        }
    }
}

impl Release {
    pub(crate) fn draw(rng: &mut Rng) -> Self {
        Self {
            inline_object_max_bytes: if rng.u8(..4) == 0 { 0 } else { 1_000 },
            max_redrives: rng.u32(2..=5),
            group_key_segments: rng.u32(1..=3),
            max_deferral_hours: if rng.bool() { 72 } else { 3 },
        }
    }
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { route, time_zone, .. } = self;
        let bucket = if self.is_versioned { "versioned" } else { "unversioned" };
        let queue = if self.is_ordered { "FIFO" } else { "standard" };
        let machine = if self.is_express { "EXPRESS" } else { "STANDARD" };
        write!(f, "{route:?}, {bucket}, {queue} queue, {machine} machine, {time_zone}")?;
        match self.max_running {
            0 => Ok(()),
            most => write!(f, ", at most {most} running"),
        }
    }
}
