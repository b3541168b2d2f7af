//! The real forwarder, consumer and redrive in a world that is as nasty as AWS is allowed to be, in
//! simulated time. See this crate's `README.md`.

mod drain;
mod fault;
mod lambda;
mod ledger;
mod machine;
mod nights;
mod order;
mod people;
mod plan;
mod run;
mod setting;
mod shrink;
mod state;
mod uploads;
mod world;

pub use drain::{Burst, Drained};
pub use fault::Fault;
pub use ledger::{Promise, Violation};
pub use plan::{Plan, QUIET_NIGHTS};
pub use run::Run;
pub use shrink::shrink;
pub use world::run;
