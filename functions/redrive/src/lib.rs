//! Dead letters from before today go back to the work queue, and what cannot succeed goes to the
//! archive with its reason.

mod allowance;
mod archive;
mod canary;
mod config;
mod dead_letters;
mod error;
mod executions;
mod expiry;
mod failed_execution;
mod fate;
mod managed;
mod met;
mod metrics;
mod plan;
mod receive;
mod reconcile;
mod redriver;
mod report;
mod request;
mod restore;
mod run;
mod scout;
mod select;
mod settle;

pub use archive::Archive;
pub use canary::Canary;
pub use config::Config;
pub use dead_letters::{DeadLetter, DeadLetterQueue};
pub use error::Error;
pub use executions::Executions;
pub use managed::Moved;
pub use reconcile::{Effort, Ledger, Missing, Uploads};
pub use redriver::{Answer, Redriver};
pub use report::{Report, Stopped};
pub use restore::{Problem, Restored};
