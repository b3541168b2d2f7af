//! Why a verb could not do what it is there for, in one sentence that names the remedy.

use std::error::Error;

use aws_credential_types::provider::error::CredentialsError;
use aws_smithy_runtime_api::client::{orchestrator::HttpResponse, result::SdkError};
use aws_smithy_types::error::metadata::ProvideErrorMetadata;

use crate::aws::Place;

/// Where calls go that have no endpoint of their own.
const AWS: &str = "AWS";

#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    #[error("there is no profile `{name}`: {}", known_profiles(.known))]
    NoProfile { name: String, known: Vec<String> },
    #[error("cannot read the profiles of the AWS command line: {0}")]
    Profiles(String),
    #[error("no region is set: give --region, or set AWS_REGION, or a region in the profile")]
    NoRegion,
    #[error(
        "there are no credentials for AWS: log in (`aws sso login`), name a profile with --profile, or set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY"
    )]
    NoCredentials,
    #[error(
        "the credentials {of} cannot be had ({why}): log in again, for instance with `{login}`"
    )]
    Credentials { of: String, why: String, login: String },
    #[error(
        "the credentials have expired: log in again (`aws sso login`), or take new ones ({message})"
    )]
    Expired { message: String },
    #[error(
        "AWS does not know these credentials: check AWS_ACCESS_KEY_ID, the profile, and whether they are for this partition ({message})"
    )]
    UnknownCredentials { message: String },
    #[error("you lack the right `{action}`: have it added to your role ({message})")]
    Denied { action: &'static str, message: String },
    #[error(
        "there is no stack `{}` in {}{}: name it with --stack or SLUICE_STACK, or another region with --region",
        .0.stack, .0.region, at(.0.endpoint.as_deref())
    )]
    NoStack(Place),
    #[error(
        "stack `{stack}` has no output {output}: name a stack of Sluice with --stack, or update it to this version"
    )]
    NoOutput { stack: String, output: &'static str },
    #[error("nothing answers at {at}: {} ({why})", reach(.at))]
    Unreachable { at: String, why: String },
    #[error("`{action}` failed: {message}")]
    Aws { action: &'static str, message: String },
    #[error("the function {name} failed: {message}")]
    Function { name: String, message: String },
    #[error("cannot set up TLS: {0}")]
    Trust(String),
    #[error("--read-only refuses to {0}")]
    ReadOnly(String),
    #[error(
        "this asks before it acts, and there is no terminal to ask at: add --yes, or look first with --dry-run"
    )]
    NoTerminal,
    #[error(
        "CloudWatch has no figures of {metric} of {of} in this time: choose a longer --since, or say what arrives with --arrivals"
    )]
    NoFigures { metric: &'static str, of: String },
    #[error("nothing was done")]
    Declined,
    #[error(
        "`sluice watch` draws on a terminal, and standard output is none: take `sluice status`, which prints what there is to see once, as JSON too"
    )]
    NoScreen,
    #[error("cannot use the terminal: {0}")]
    Terminal(std::io::Error),
    #[error("cannot read an answer of `{of}`: {why}")]
    Unreadable { of: &'static str, why: String },
    #[error("{0}")]
    Unknown(&'static str),
    #[error("{0}")]
    Usage(String),
}

impl Failure {
    /// Says why a call failed. `action` is the right that it takes, as IAM calls it.
    pub(crate) fn of<E>(action: &'static str) -> impl Fn(SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        move |error| Self::of_call(action, AWS, &error)
    }

    fn of_call<E>(action: &'static str, at: &str, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let Some(service) = error.as_service_error() else {
            let why = chain(error);
            return match error {
                SdkError::DispatchFailure(_) | SdkError::TimeoutError(_) => {
                    Self::Unreachable { at: at.to_owned(), why }
                }
                _ => Self::Aws { action, message: why },
            };
        };
        let message = service.message().unwrap_or("no message was given").to_owned();
        match service.code().unwrap_or_default() {
            "ExpiredToken"
            | "ExpiredTokenException"
            | "RequestExpired"
            | "TokenRefreshRequired" => Self::Expired { message },
            "InvalidClientTokenId"
            | "InvalidAccessKeyId"
            | "UnrecognizedClientException"
            | "InvalidSignatureException"
            | "SignatureDoesNotMatch"
            | "IncompleteSignature"
            | "MissingAuthenticationToken"
            | "AuthFailure" => Self::UnknownCredentials { message },
            "AccessDenied"
            | "AccessDeniedException"
            | "UnauthorizedOperation"
            | "AuthorizationError"
            | "NotAuthorized" => Self::Denied { action, message },
            "" => Self::Aws { action, message },
            code => Self::Aws { action, message: format!("{code}: {message}") },
        }
    }

    /// Why the stack was not found.
    pub(crate) fn finding<E>(place: &Place, error: &SdkError<E, HttpResponse>) -> Self
    where
        E: ProvideErrorMetadata + Error + 'static,
    {
        let service = error.as_service_error();
        let is_missing = service.is_some_and(|error| {
            error.code() == Some("ValidationError")
                && error.message().is_some_and(|message| message.contains("does not exist"))
        });
        if is_missing {
            return Self::NoStack(place.clone());
        }
        let region = format!("{AWS} in {}", place.region);
        let at = place.endpoint.as_deref().unwrap_or(&region);
        Self::of_call("cloudformation:DescribeStacks", at, error)
    }

    pub(crate) fn credentials(error: &CredentialsError, profile: Option<&str>) -> Self {
        if matches!(error, CredentialsError::CredentialsNotLoaded(_)) && profile.is_none() {
            return Self::NoCredentials;
        }
        let (of, login) = match profile {
            Some(name) => {
                (format!("of profile `{name}`"), format!("aws sso login --profile {name}"))
            }
            None => ("for AWS".to_owned(), "aws sso login".to_owned()),
        };
        Self::Credentials { of, why: chain(error), login }
    }

    /// Whether what was asked for can go on without the answer: the reason why it is not known.
    pub(crate) fn is_of_everything(&self) -> bool {
        matches!(
            self,
            Self::Expired { .. } | Self::UnknownCredentials { .. } | Self::Unreachable { .. }
        )
    }
}

/// An error with its causes, each said once.
fn chain(error: &(dyn Error + 'static)) -> String {
    let mut words = error.to_string();
    let mut cause = error.source();
    while let Some(next) = cause {
        let text = next.to_string();
        if !words.contains(&text) {
            words = format!("{words}: {text}");
        }
        cause = next.source();
    }
    words
}

fn known_profiles(known: &[String]) -> String {
    if known.is_empty() {
        return "there are none; make one with `aws configure sso`".to_owned();
    }
    format!("there are {}; choose one with --profile", known.join(", "))
}

fn reach(at: &str) -> &'static str {
    if at.starts_with(AWS) {
        "check --region and the network, and AWS_ENDPOINT_URL if it is set"
    } else {
        "start the local stack, or check --endpoint-url"
    }
}

fn at(endpoint: Option<&str>) -> String {
    endpoint.map(|url| format!(" at {url}")).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use aws_sdk_cloudformation::{
        error::ErrorMetadata, operation::describe_stacks::DescribeStacksError,
    };
    use aws_smithy_runtime_api::{
        client::{orchestrator::HttpResponse, result::ConnectorError},
        http::StatusCode,
    };
    use aws_smithy_types::body::SdkBody;

    use super::*;

    type Refused = SdkError<DescribeStacksError, HttpResponse>;

    fn refused(code: &str, message: &str) -> Refused {
        let metadata = ErrorMetadata::builder().code(code).message(message).build();
        let response = HttpResponse::new(StatusCode::try_from(400).unwrap(), SdkBody::empty());
        SdkError::service_error(DescribeStacksError::generic(metadata), response)
    }

    fn place() -> Place {
        Place { stack: "mine".into(), region: "eu-west-1".into(), endpoint: None }
    }

    fn finding(code: &str, message: &str) -> String {
        Failure::finding(&place(), &refused(code, message)).to_string()
    }

    #[test]
    fn each_way_to_fail_is_one_sentence_with_the_remedy() {
        assert_eq!(
            finding("ValidationError", "Stack with id mine does not exist"),
            "there is no stack `mine` in eu-west-1: name it with --stack or SLUICE_STACK, or another region with --region"
        );
        assert_eq!(
            finding("AccessDenied", "User: me is not authorized"),
            "you lack the right `cloudformation:DescribeStacks`: have it added to your role (User: me is not authorized)"
        );
        assert!(finding("ExpiredToken", "old").starts_with("the credentials have expired: log in"));
        assert!(
            finding("InvalidClientTokenId", "bad")
                .starts_with("AWS does not know these credentials")
        );
        assert_eq!(
            finding("Throttling", "Rate exceeded"),
            "`cloudformation:DescribeStacks` failed: Throttling: Rate exceeded"
        );
    }

    #[test]
    fn what_does_not_answer_is_named() {
        let error = ConnectorError::io("connection refused".into());
        let error: Refused = SdkError::dispatch_failure(error);
        let local = Place { endpoint: Some("http://127.0.0.1:1".into()), ..place() };
        let sentence = Failure::finding(&local, &error).to_string();
        assert!(
            sentence.starts_with("nothing answers at http://127.0.0.1:1: start the local stack")
        );
        assert!(sentence.contains("connection refused"), "{sentence}");
        let sentence = Failure::finding(&place(), &error).to_string();
        assert!(
            sentence.starts_with("nothing answers at AWS in eu-west-1: check --region and the net"),
            "{sentence}"
        );
    }

    #[test]
    fn the_known_profiles_are_listed() {
        let known = vec!["default".to_owned(), "ops".to_owned()];
        let failure = Failure::NoProfile { name: "opps".to_owned(), known };
        assert_eq!(
            failure.to_string(),
            "there is no profile `opps`: there are default, ops; choose one with --profile"
        );
    }

    #[test]
    fn credentials_that_cannot_be_had_tell_how_to_log_in() {
        let none = CredentialsError::not_loaded("nothing there");
        assert!(matches!(Failure::credentials(&none, None), Failure::NoCredentials));
        let expired = CredentialsError::provider_error("the SSO token has expired");
        let sentence = Failure::credentials(&expired, Some("ops")).to_string();
        assert!(sentence.contains("the SSO token has expired"), "{sentence}");
        assert!(sentence.ends_with("`aws sso login --profile ops`"), "{sentence}");
    }
}
