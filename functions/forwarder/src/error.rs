use messages::DecodeError;
use platform::SendError;

/// Why an invocation failed. Lambda repeats it twice and then hands the whole event to the
/// dead-letter queue; what was sent already is sent again, which is harmless, because ids
/// are deterministic.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    #[error("{} of {events} events cannot be decoded, first: {}", failures.len(), First(failures))]
    Undecodable { events: usize, failures: Vec<DecodeError> },
    #[error("{} of {events} events are not on the queue, first: {}", failures.len(), First(failures))]
    NotSent { events: usize, failures: Vec<SendError> },
    #[error("an event cannot be written as JSON")]
    Unwritable(#[source] serde_json::Error),
}

struct First<'a, T>(&'a [T]);

impl<T: std::fmt::Display> std::fmt::Display for First<'_, T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.first().map_or(Ok(()), |first| first.fmt(f))
    }
}

impl From<Error> for lambda_runtime::Diagnostic {
    fn from(error: Error) -> Self {
        let error_type = match error {
            Error::Undecodable { .. } => "Undecodable",
            Error::NotSent { .. } => "NotSent",
            Error::Unwritable(_) => "Unwritable",
        };
        Self { error_type: error_type.to_owned(), error_message: error.to_string() }
    }
}
