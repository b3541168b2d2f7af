//! The template as CloudFormation sees it, after the SAM transform: what must hold between its
//! numbers, what its policies must say, and that its alarms, dashboard, queries and table name only
//! what the functions write.
#![expect(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on stops, and clippy knows only the test functions as tests"
)]

mod alarms;
#[path = "../api.rs"]
mod api;
mod archive;
mod companions;
mod functions;
mod order;
mod outputs;
mod ratios;
#[path = "../script.rs"]
mod script;
mod security;
mod settings;
mod signals;
mod template;
mod versions;
