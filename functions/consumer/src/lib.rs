//! SQS batch in, one execution for each event, and for every record exactly one outcome.

mod batch;
mod config;
mod decision;
mod handler;
mod metrics;
mod object;
mod outcome;

pub use config::Config;
pub use decision::Cause;
pub use handler::{Consumer, Error};
pub use outcome::Outcome;
