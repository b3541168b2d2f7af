//! What the tests of the functions share: a simulated AWS, the sample events, and captured log
//! lines.
//!
//! [`Aws`] simulates SQS, Step Functions and S3 behind the HTTP client of the SDK. The clients that
//! it hands out are real: they serialise, sign, retry and time out as the deployed functions do. Its
//! time is tokio's, so a test says `start_paused = true` and waits for nothing. Everything that it
//! decides follows from its seed and its state, so a test that failed fails again.
//!
//! A test says what is different from a world in which everything works, in verbs:
//!
//! ```text
//! let aws = Aws::new();
//! aws.s3().holds("device-state", "k", b"{}");
//! aws.step_functions().throttles("k");
//! aws.work_queue().rejects("k");
//! …
//! assert_eq!(aws.dead_letter_queue().messages().len(), 1);
//! ```
//!
//! **What it does.** Two queues, standard or FIFO, with visibility, delays, retention, deduplication,
//! a redrive policy, move tasks, and the limits of SQS on batches and on messages in flight. One
//! state machine, STANDARD unless a test says otherwise, whose executions end as a test says, and
//! whose names stay taken. Buckets
//! with versions, conditional writes and listings. Every call takes some milliseconds of simulated
//! time, half of them before its effect; a long poll waits its seconds. Any call, and any entry of a
//! batch, can fail, be lost or stay unanswered.
//!
//! **What it does not do.** It runs no state machine and no function: [`SimulatedQueue::is_consumed_after`]
//! stands in for the consumer. It checks no signature, right or key. A standard queue keeps its order
//! and repeats a message only if it is told to, and what was written is seen at once, while AWS
//! promises less. A call that no function of ours makes panics.

#![expect(
    clippy::expect_used,
    clippy::missing_panics_doc,
    reason = "only tests call this, and a test may panic"
)]
#![expect(clippy::return_self_not_must_use, reason = "a builder that is dropped is seen to be")]

mod aws;
mod fault;
mod gate;
mod http;
mod lines;
mod s3;
mod samples;
mod server;
mod sqs;
mod step_functions;
mod world;

pub use aws::Aws;
pub use fault::{Weather, When};
pub use gate::{Gate, Sent, Trip, Way};
pub use lines::{Captured, Lines};
pub use s3::{Object, SimulatedS3};
pub use samples::{E_TAG, message, notification, record, sample, sample_json};
pub use server::serve;
pub use sqs::{Attribute, Message, MoveTask, Moved, SimulatedQueue, WhenEntry};
pub use step_functions::{Execution, SimulatedStepFunctions, Status};
pub use world::Call;
