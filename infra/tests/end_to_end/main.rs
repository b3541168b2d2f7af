//! The whole pipeline: the binaries that `sam build` makes and the committed template, in an
//! emulator of AWS, with a proxy between the functions and AWS that injects faults.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops, and clippy knows only the test functions as tests"
)]

#[path = "../api.rs"]
mod api;
mod burst;
mod by_reference;
mod companions;
mod fates;
mod faults;
mod generated;
mod harness;
mod matrix;
mod outcomes;
mod poison;
mod proxy;
mod reconcile;
mod redrive;
mod redrive_faults;
mod redrive_scale;
mod rights;
mod running;
#[path = "../script.rs"]
mod script;
mod writes;
