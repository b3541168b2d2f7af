use std::io;

use tracing::Subscriber;
use tracing_subscriber::{EnvFilter, fmt::MakeWriter, util::SubscriberInitExt};

/// Logs to standard output, where Lambda collects it, one JSON object a line. `filter` is in the
/// syntax of `RUST_LOG`; without one, `info`.
pub fn init(filter: Option<&str>) {
    to(filter, io::stdout).init();
}

/// The same to somewhere else, for whoever installs it.
pub fn to<W>(filter: Option<&str>, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(EnvFilter::new(filter.unwrap_or("info")))
        .with_writer(out)
        .finish()
}
