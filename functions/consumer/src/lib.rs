//! SQS batch in, one execution for each event, and for every record exactly one outcome.

mod backoff;
mod config;
mod handler;
mod metrics;
mod object;
mod outcome;
pub mod pace;
mod record;
mod retries;
pub mod running;
mod settle;
mod start;
mod verdict;

pub use backoff::Backoff;
pub use config::{Config, InlineContent};
pub use handler::{Consumer, Error, SETTLE_RESERVE};
pub use outcome::{Cause, Outcome};
pub use pace::Pace;
pub use retries::step_functions_client;
pub use running::{Running, RunningLimit};
pub use settle::SOON;
pub use start::PATIENCE;
