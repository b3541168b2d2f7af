//! The local stack: Sluice's own template and binaries, deployed to an emulator of AWS on this
//! machine. What `cargo demo` shows and the end-to-end tests use. And the set-up of the benchmark.

mod bench;
mod build;
mod emulator;
mod error;
mod project;
mod stack;
mod supervise;
mod tools;

pub use bench::Bench;
pub use build::{Build, build};
pub use emulator::{Emulator, EmulatorOptions};
pub use error::Error;
pub use project::{Project, RunFolder};
pub use stack::{Clients, Outputs, Stack, deploy};
pub use tools::Tools;
