//! S3 event in, one message for each of its records on the work queue.

mod config;
mod error;
mod handler;
mod metrics;

pub use config::Config;
pub use error::Error;
pub use handler::{Forwarded, Forwarder};
