use aws_sdk_sfn::{
    error::ProvideErrorMetadata as _,
    operation::{
        describe_execution::DescribeExecutionOutput,
        list_executions::builders::ListExecutionsFluentBuilder,
    },
    types::{ExecutionListItem, ExecutionStatus},
};
use aws_smithy_types::DateTime;
use jiff::Timestamp;
use serde::Serialize;

use super::Stack;
use crate::failure::Failure;

/// A time of the SDK.
pub(crate) fn timestamp(time: &DateTime) -> Option<Timestamp> {
    Timestamp::from_nanosecond(time.as_nanos()).ok()
}

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
    /// Name, status, start and end of the executions since a time, newest first.
    pub(crate) async fn executions_since(
        &self,
        begin: Timestamp,
    ) -> Result<Vec<(String, String, Timestamp, Option<Timestamp>)>, Failure> {
        let mut pages = self
            .sfn
            .list_executions()
            .state_machine_arn(self.output("StateMachineArn")?)
            .max_results(PAGE)
            .into_paginator()
            .send();
        let mut found = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::of("states:ListExecutions"))?;
            for execution in page.executions {
                let Some(started) = timestamp(&execution.start_date) else { continue };
                if started < begin {
                    return Ok(found);
                }
                let ended = execution.stop_date.as_ref().and_then(timestamp);
                found.push((execution.name, execution.status.as_str().to_owned(), started, ended));
            }
        }
        Ok(found)
    }

    /// The field `outcome` in the output of an execution.
    pub(crate) async fn outcome(&self, name: &str) -> Result<Option<String>, Failure> {
        let machine = self.output("StateMachineArn")?;
        let arn = format!("{}:{name}", machine.replacen(":stateMachine:", ":execution:", 1));
        let output = self
            .describe(&arn)
            .await?
            .output
            .and_then(|text| serde_json::from_str::<serde_json::Value>(&text).ok());
        Ok(output.and_then(|output| output["outcome"].as_str().map(str::to_owned)))
    }

    /// The newest executions with a status, newest first.
    pub(crate) async fn newest_with(
        &self,
        status: ExecutionStatus,
        most: i32,
    ) -> Result<Vec<ExecutionListItem>, Failure> {
        let answer = self.executions_with(status, most)?.send().await;
        Ok(answer.map_err(Failure::of("states:ListExecutions"))?.executions)
    }

    /// The question for the newest executions with a status.
    fn executions_with(
        &self,
        status: ExecutionStatus,
        most: i32,
    ) -> Result<ListExecutionsFluentBuilder, Failure> {
        let call = self.sfn.list_executions().status_filter(status).max_results(most);
        Ok(call.state_machine_arn(self.output("StateMachineArn")?))
    }

    pub(crate) async fn describe(
        &self,
        execution_arn: &str,
    ) -> Result<DescribeExecutionOutput, Failure> {
        let call = self.sfn.describe_execution().execution_arn(execution_arn);
        call.send().await.map_err(Failure::of("states:DescribeExecution"))
    }

    pub(crate) async fn count_executions(&self, status: ExecutionStatus) -> Result<Count, Failure> {
        let answer = self.executions_with(status, PAGE)?.send().await;
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
