use std::{borrow::Cow, error::Error, fmt};

use aws_sdk_sqs::error::{ProvideErrorMetadata, SdkError};

/// Says in words why a call of AWS failed, for logs and dead letters.
///
/// The code and the message of the service, or, where no service answered, the chain of causes. An
/// `SdkError` alone prints "service error", and `DisplayErrorContext` appends Rust's debug text of
/// the whole response, headers and date included: no two lines are alike then, and nobody knows what
/// they may hold.
///
/// The message of a validation error quotes the refused value, which may be the content of an
/// object. It is left out.
pub struct InWords<'a, E, R>(pub &'a SdkError<E, R>);

impl<E, R> fmt::Display for InWords<'_, E, R>
where
    E: ProvideErrorMetadata + Error + 'static,
    R: fmt::Debug + 'static,
{
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(code) = self.0.as_service_error().and_then(ProvideErrorMetadata::code) {
            let message = self.0.as_service_error().and_then(ProvideErrorMetadata::message);
            let message = message.map_or("no message was given".into(), without_value);
            return write!(f, "{code}: {message}");
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

/// "1 validation error detected: Value '…' at 'input' failed to satisfy constraint: …" in the form of
/// <https://docs.aws.amazon.com/step-functions/latest/apireference/CommonErrors.html>. A value may
/// hold any text, the words around it included, so all from the first to the last is taken out.
fn without_value(message: &str) -> Cow<'_, str> {
    const BEFORE: &str = "Value '";
    const BEHIND: &str = "' at '";
    match (message.find(BEFORE), message.rfind(BEHIND)) {
        (Some(start), Some(end)) if start + BEFORE.len() <= end => {
            format!("{}…{}", &message[..start + BEFORE.len()], &message[end..]).into()
        }
        _ => message.into(),
    }
}

#[cfg(test)]
mod tests {
    use aws_sdk_sqs::{error::ErrorMetadata, operation::send_message::SendMessageError};

    use super::*;

    fn in_words(message: &str) -> String {
        let metadata = ErrorMetadata::builder().code("ValidationException").message(message);
        let error = SendMessageError::generic(metadata.build());
        let error = SdkError::service_error(error, ());
        let words = InWords(&error);
        // Wherever an error is printed, a value is left out.
        assert_eq!(format!("{words:?}"), words.to_string());
        words.to_string()
    }

    #[test]
    fn a_value_that_a_service_quotes_is_left_out() {
        let quoting = |value: &str| {
            format!("1 validation error detected: Value '{value}' at 'input' failed to satisfy it")
        };
        let expected = format!("ValidationException: {}", quoting("…"));
        for value in ["{\"pin\":1234}", "", "Value 'a' at 'b'", "' at '"] {
            assert_eq!(in_words(&quoting(value)), expected, "{value}");
        }
        for message in ["' at 'x', Value 'y", "Value ' at 'x"] {
            assert_eq!(in_words(message), format!("ValidationException: {message}"));
        }
    }
}
