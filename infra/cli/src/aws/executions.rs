use aws_sdk_sfn::{error::ProvideErrorMetadata as _, types::ExecutionStatus};
use serde::Serialize;

use super::Stack;
use crate::failure::Failure;

/// How many executions have a status. Only the first page is counted.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Count {
    pub(crate) count: u64,
    /// Whether there are more than these.
    pub(crate) or_more: bool,
}

/// The largest page of Step Functions.
const PAGE: i32 = 1000;

impl Stack {
    pub(crate) async fn count_executions(&self, status: ExecutionStatus) -> Result<Count, Failure> {
        let answer = self
            .sfn
            .list_executions()
            .state_machine_arn(self.output("StateMachineArn")?)
            .status_filter(status)
            .max_results(PAGE)
            .send()
            .await;
        match answer {
            Ok(page) => {
                let count = page.executions.len() as u64;
                Ok(Count { count, or_more: page.next_token.is_some() })
            }
            Err(error) if error.code() == Some("StateMachineTypeNotSupported") => {
                Err(Failure::Unknown("Step Functions lists no executions of an EXPRESS machine"))
            }
            Err(error) => Err(Failure::of("states:ListExecutions")(error)),
        }
    }
}

impl Count {
    pub(crate) fn in_words(self) -> String {
        let plus = if self.or_more { "+" } else { "" };
        format!("{}{plus}", crate::output::number(self.count))
    }
}
