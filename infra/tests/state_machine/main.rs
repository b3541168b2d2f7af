//! The expressions of the state machine, judged by JSONata as its authors wrote it (npm's `jsonata`).
//!
//! The emulator evaluates them with a port to Python, whose numbers are other ones: it keeps all
//! digits, where the specification of JSONata rounds to 15. Nobody but AWS knows what Step Functions
//! does, so what the table holds must not depend on it.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot go on stops, and clippy knows only the test functions as tests"
)]

mod judge;
mod numbers;
mod order;
#[path = "../script.rs"]
mod script;
