use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Stack;
use crate::failure::Failure;

/// A line that one of the functions has logged.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct LogLine {
    pub(crate) at: Timestamp,
    pub(crate) function: &'static str,
    pub(crate) fields: Map<String, Value>,
}

impl LogLine {
    pub(crate) fn text(&self, field: &str) -> &str {
        self.fields.get(field).and_then(Value::as_str).unwrap_or_default()
    }

    pub(crate) fn read(function: &'static str, millis: Option<i64>, message: &str) -> Option<Self> {
        let fields: Map<String, Value> = serde_json::from_str(message.trim()).ok()?;
        let said = fields.get("timestamp").and_then(Value::as_str);
        let at = said.and_then(|time| time.parse().ok());
        let at = at.or_else(|| Timestamp::from_millisecond(millis?).ok())?;
        Some(Self { at, function, fields })
    }
}

/// Lines that were looked for.
#[derive(Debug)]
pub(crate) struct Found<T = LogLine> {
    pub(crate) lines: Vec<T>,
    /// Whether there may be more, because the log is too long to be read to its end.
    pub(crate) cut_short: bool,
}

impl<T> Default for Found<T> {
    fn default() -> Self {
        Self { lines: Vec::new(), cut_short: false }
    }
}

/// The functions by the names of their outputs, and what a person calls them.
pub(crate) const FUNCTIONS: [(&str, &str); 4] = [
    ("ForwarderFunctionName", "forwarder"),
    ("ConsumerFunctionName", "consumer"),
    ("RedriveFunctionName", "redrive"),
    ("OrderedRedriveFunctionName", "ordered redrive"),
];

/// Pages of one log. CloudWatch reads about a megabyte for each, and answers empty ones on the way.
const MAX_PAGES: usize = 200;

impl Stack {
    /// The lines of a function with this text in them, oldest first.
    pub(crate) async fn log_lines(
        &self,
        output: &'static str,
        function: &'static str,
        text: &str,
        back: Duration,
    ) -> Result<Found, Failure> {
        let Some(name) = self.optional_output(output) else { return Ok(Found::default()) };
        let group = self.log_group(name).await?;
        let start = Timestamp::now().checked_sub(back).unwrap_or(Timestamp::UNIX_EPOCH);
        let Found { lines, cut_short } = self.log_events(&group, Some(text), start).await?;
        let mut lines: Vec<_> = lines
            .iter()
            .filter_map(|event| LogLine::read(function, event.timestamp, event.message.as_deref()?))
            .collect();
        lines.sort_by_key(|line| line.at);
        Ok(Found { lines, cut_short })
    }

    /// What is in a log since a time, as CloudWatch has it: all, or what has a text in it.
    pub(crate) async fn log_events(
        &self,
        group: &str,
        text: Option<&str>,
        start: Timestamp,
    ) -> Result<Found<FilteredLogEvent>, Failure> {
        let mut found = Found::default();
        let pattern = text.map(|text| format!("\"{}\"", text.replace(['"', '\\'], "?")));
        let mut pages = self
            .logs
            .filter_log_events()
            .log_group_name(group)
            .set_filter_pattern(pattern)
            .start_time(start.as_millisecond())
            .into_paginator()
            .send();
        let mut count = 0;
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::of("logs:FilterLogEvents"))?;
            found.lines.extend(page.events.unwrap_or_default());
            count += 1;
            if count == MAX_PAGES {
                found.cut_short = true;
                break;
            }
        }
        Ok(found)
    }

    pub(crate) async fn log_group(&self, function: &str) -> Result<String, Failure> {
        let answer = self
            .lambda
            .get_function_configuration()
            .function_name(function)
            .send()
            .await
            .map_err(Failure::of("lambda:GetFunctionConfiguration"))?;
        let group = answer.logging_config.and_then(|config| config.log_group);
        Ok(group.unwrap_or_else(|| format!("/aws/lambda/{function}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_has_the_time_that_it_says() {
        let line = r#"{"timestamp":"2026-11-20T21:00:00.5Z","level":"INFO","message":"started"}"#;
        let read = LogLine::read("consumer", Some(0), line).unwrap();
        assert_eq!(read.at.to_string(), "2026-11-20T21:00:00.5Z");
        assert_eq!(read.text("message"), "started");
        // Lambda's own lines have none of their own.
        let start = LogLine::read("consumer", Some(1_000), r#"{"type":"platform.start"}"#).unwrap();
        assert_eq!(start.at.to_string(), "1970-01-01T00:00:01Z");
        assert_eq!(LogLine::read("consumer", Some(0), "no JSON"), None);
    }
}
