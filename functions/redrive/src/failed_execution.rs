//! What a letter says about the execution that failed.

use serde::Deserialize;

/// A failed execution, as the state machine's own dead letter or as a status change describes it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct FailedExecution {
    /// Only status changes have it.
    pub(crate) arn: Option<String>,
    pub(crate) name: Option<String>,
    pub(crate) error: Option<String>,
    pub(crate) cause: Option<String>,
}

#[derive(Deserialize)]
struct Body {
    #[serde(rename = "failedExecution")]
    failed_execution: Option<Described>,
    source: Option<String>,
    detail: Option<Described>,
}

#[derive(Deserialize)]
struct Described {
    #[serde(rename = "executionArn")]
    arn: Option<String>,
    name: Option<String>,
    error: Option<String>,
    cause: Option<String>,
}

impl FailedExecution {
    /// None if the body is about something else.
    pub(crate) fn read(body: &str) -> Option<Self> {
        let body: Body = serde_json::from_str(body).ok()?;
        let is_status_change = body.source.as_deref() == Some("aws.states");
        let described = body.failed_execution.or(body.detail.filter(|_| is_status_change))?;
        let Described { arn, name, error, cause } = described;
        Some(Self { arn, name, error, cause })
    }
}
