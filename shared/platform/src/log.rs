use std::io;

use tracing::{Subscriber, level_filters::LevelFilter};
use tracing_subscriber::{
    filter::Targets,
    fmt::{self, MakeWriter},
    layer::SubscriberExt,
    registry,
    util::SubscriberInitExt,
};

/// Logs to standard output, where Lambda collects it, one JSON object a line. Without a filter, from
/// `info` on.
pub fn init(filter: Option<Targets>) {
    to(filter, io::stdout).init();
}

/// A subscriber that writes the same lines to another place. The caller installs it.
pub fn to<W>(filter: Option<Targets>, out: W) -> impl Subscriber + Send + Sync
where
    W: for<'w> MakeWriter<'w> + Send + Sync + 'static,
{
    let lines = fmt::layer()
        .json()
        .flatten_event(true)
        .with_current_span(false)
        .with_span_list(false)
        .with_target(false)
        .with_writer(out);
    let filter = filter.unwrap_or_else(|| Targets::new().with_default(LevelFilter::INFO));
    registry().with(lines).with(filter)
}

#[cfg(test)]
mod tests {
    use testing::Lines;
    use tracing::{info, subscriber, warn};

    use super::*;

    fn logged(filter: Option<&str>) -> usize {
        let lines = Lines::default();
        let out = lines.clone();
        let filter = filter.map(|filter| filter.parse().unwrap());
        subscriber::with_default(to(filter, move || out.clone()), || {
            info!("one");
            warn!("two");
            warn!(target: "hyper", "three");
        });
        lines.read().len()
    }

    #[test]
    fn the_filter_has_levels_for_all_and_for_single_targets() {
        assert_eq!(logged(None), 3);
        assert_eq!(logged(Some("warn")), 2);
        assert_eq!(logged(Some("warn,hyper=off")), 1);
    }
}
