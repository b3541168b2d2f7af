use std::{
    fmt,
    io::{self, Write},
    sync::{Arc, Mutex, PoisonError},
    time::SystemTime,
};

use metrique_writer::{Entry, format::Format as _};
use metrique_writer_format_emf::Emf;
use tracing::error;

/// Publishes metrics as log lines in `CloudWatch`'s embedded metric format: no call, no permission,
/// and the line stays searchable.
#[derive(Clone)]
pub struct Metrics {
    namespace: String,
    function: String,
    out: Arc<Mutex<dyn Write + Send>>,
}

#[derive(Entry)]
struct Line<'f, E> {
    #[entry(timestamp)]
    timestamp: SystemTime,
    #[entry(name = "FunctionName")]
    function: &'f str,
    #[entry(flatten)]
    entry: E,
}

/// The dimension that every metric has.
const FUNCTION_NAME: &str = "FunctionName";

impl Metrics {
    /// To standard output, where Lambda collects it.
    pub fn new(namespace: impl Into<String>, function: impl Into<String>) -> Self {
        Self::to(namespace, function, io::stdout())
    }

    pub fn to(
        namespace: impl Into<String>,
        function: impl Into<String>,
        out: impl Write + Send + 'static,
    ) -> Self {
        let out = Arc::new(Mutex::new(out));
        Self { namespace: namespace.into(), function: function.into(), out }
    }

    /// Publishes what an entry holds: its numbers are metrics by the function's name. A metric that
    /// cannot be written is an error in the log and no reason to fail.
    pub fn publish<E: Entry>(&self, now: SystemTime, entry: E) {
        self.publish_by(&[], now, entry);
    }

    /// Publishes an entry with its text fields as further dimensions. Each value that occurs is
    /// billed as a metric of its own, so there must be few.
    pub fn publish_by<E: Entry>(&self, dimensions: &[&str], now: SystemTime, entry: E) {
        let dimensions = [FUNCTION_NAME].iter().chain(dimensions).map(ToString::to_string);
        let mut emf = Emf::all_validations(self.namespace.clone(), vec![dimensions.collect()]);
        let mut line = Vec::new();
        let entry = Line { timestamp: now, function: &self.function, entry };
        if let Err(problem) = emf.format(&entry, &mut line) {
            error!(error = %problem, "metrics not published");
            return;
        }
        let mut out = self.out.lock().unwrap_or_else(PoisonError::into_inner);
        if let Err(problem) = out.write_all(&line).and_then(|()| out.flush()) {
            error!(error = %problem, "metrics not published");
        }
    }
}

impl fmt::Debug for Metrics {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { namespace, function, out: _ } = self;
        f.debug_struct("Metrics")
            .field("namespace", namespace)
            .field("function", function)
            .finish_non_exhaustive()
    }
}
