//! The local stack: Sluice's own template and binaries, deployed to an emulator of AWS on this
//! machine. What `cargo demo` shows and the end-to-end tests use.

mod build;
mod companion;
#[expect(clippy::print_stdout, clippy::print_stderr, reason = "what a command line prints")]
mod demo;
mod emulator;
mod error;
mod project;
mod stack;
mod supervise;
mod tools;
#[expect(clippy::print_stdout, reason = "what a command line prints")]
mod up;

pub use build::{Build, build, for_cargo};
pub use companion::{Companion, deploy_beside};
pub use demo::{Demo, DemoError, Reach};
pub use emulator::{Emulator, EmulatorOptions};
pub use error::Error;
pub use project::{Project, RunFolder, make_folder};
pub use stack::{Clients, Outputs, Stack, deploy};
pub use supervise::Job;
pub use tools::{Jsonata, Tools};
pub use up::{Down, Up};
