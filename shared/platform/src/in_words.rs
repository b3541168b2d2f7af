use std::{error::Error, fmt};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// Says in words why a call of AWS failed, for logs and dead letters.
///
/// The code and the message of the service, or, where no service answered, the chain of causes. An
/// `SdkError` alone prints "service error", and `DisplayErrorContext` appends Rust's debug text of
/// the whole response, headers and date included: no two lines are alike then, and nobody knows what
/// they may hold.
pub struct InWords<'a, E, R>(pub &'a SdkError<E, R>);

impl<E, R> fmt::Display for InWords<'_, E, R>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.0.as_service_error().and_then(ProvideErrorMetadata::code) {
            let message = self.0.as_service_error().and_then(ProvideErrorMetadata::message);
            return write!(f, "{code}: {}", message.unwrap_or("no message was given"));
        }
        self.0.fmt(f)?;
        let mut cause = self.0.source();
        while let Some(error) = cause {
            write!(f, ": {error}")?;
            cause = error.source();
        }
        Ok(())
    }
}

impl<E, R> fmt::Debug for InWords<'_, E, R>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
