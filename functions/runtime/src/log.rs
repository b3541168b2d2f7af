use tracing_subscriber::EnvFilter;

/// Logs to standard output, where Lambda collects it, one JSON object a line. `filter` is in the
/// syntax of `RUST_LOG`; without one, `info`.
pub fn init(filter: Option<&str>) {
    tracing_subscriber::fmt()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_env_filter(EnvFilter::new(filter.unwrap_or("info")))
        .init();
}
