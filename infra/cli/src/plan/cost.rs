//! What a month costs.

use serde::Serialize;

use super::simulation::Work;

/// List prices of us-east-1 in dollars per million, as far as the first tier: those of the
/// benchmark, see infra/bench/src/cost.rs for where they are from. AWS' own pages fill them in by
/// script and could not be read where this was written.
const LAMBDA_REQUEST: f64 = 0.20;
/// Of a GB-second on arm64, in dollars.
const LAMBDA_GB_SECOND: f64 = 0.000_013_333_4;
/// With the charge for a queue whose messages have groups.
const QUEUE_REQUEST: f64 = 0.40 + 0.10;
const S3_GET: f64 = 0.40;
/// Of a state transition of a STANDARD execution. From memory, so assumed.
const TRANSITION: f64 = 25.0;
/// Of an EXPRESS execution, and of a GB-second of it in dollars, in the first tier:
/// <https://aws.amazon.com/step-functions/pricing/>, read in a copy that bears no date.
const EXPRESS_REQUEST: f64 = 1.00;
const EXPRESS_GB_SECOND: f64 = 0.06 / 3_600.0;
/// EXPRESS executions are billed by this much memory, which a small one does not exceed, and by this
/// much time.
const EXPRESS_GB: f64 = 64.0 / 1_024.0;
const EXPRESS_SECONDS: f64 = 0.1;

pub(crate) const PRICES: &str = "list prices of us-east-1, arm64, as quoted by others in 2026; \
                                 those of S3 and of state transitions are assumed";

/// Processor time of the forwarder for one upload, measured: infra/bench/results.md, 2026-11-21.
const FORWARDER: f64 = 0.000_468;

/// What an execution is billed by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Execution {
    Standard { transitions: f64 },
    Express { seconds: f64 },
}

/// Dollars.
#[derive(Debug, Clone, Copy, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Bill {
    pub(crate) lambda: f64,
    pub(crate) sqs: f64,
    pub(crate) s3: f64,
    pub(crate) step_functions: f64,
}

impl Bill {
    /// For this work, with functions of `memory` GB that are `slowdown` times as slow as with a whole
    /// processor, where a call takes `call` seconds.
    pub(crate) fn of(
        work: &Work,
        execution: Execution,
        memory: f64,
        slowdown: f64,
        call: f64,
    ) -> Self {
        let forwarding = work.uploads * (FORWARDER * slowdown + call);
        let gb_seconds = (work.billed_seconds + forwarding) * memory;
        let execution = match execution {
            Execution::Standard { transitions } => transitions * TRANSITION / 1e6,
            Execution::Express { seconds } => {
                let billed = (seconds / EXPRESS_SECONDS).ceil() * EXPRESS_SECONDS;
                EXPRESS_REQUEST / 1e6 + billed * EXPRESS_GB * EXPRESS_GB_SECOND
            }
        };
        Self {
            lambda: (work.uploads + work.invocations) * LAMBDA_REQUEST / 1e6
                + gb_seconds * LAMBDA_GB_SECOND,
            sqs: (work.uploads + work.queue_requests) * QUEUE_REQUEST / 1e6,
            s3: work.reads * S3_GET / 1e6,
            step_functions: work.starts * execution,
        }
    }

    pub(crate) fn sum(&self) -> f64 {
        self.lambda + self.sqs + self.s3 + self.step_functions
    }
}
