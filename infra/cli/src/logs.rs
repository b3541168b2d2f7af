//! `sluice logs`: what the functions have logged, and what they log.

use std::time::Duration;

use aws_sdk_cloudwatchlogs::types::FilteredLogEvent;
use clap::{Args, ValueEnum};
use futures::future::try_join_all;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::{Map, Value};
use tokio::time::sleep;

use crate::{
    aws::{FUNCTIONS, Found, LogLine, Options, Stack},
    failure::Failure,
    newcomers::Newcomers,
    output::{BAD, CAUTION, Manner, QUIET, STRONG, Verdict, paint},
};

/// Show what the functions have logged; with --follow, what they log from now on, too
///
/// Metrics, and what Lambda says of each invocation that went well, are left out, unless you add
/// --all. `--output json` prints one JSON document a line.
#[derive(Debug, Args)]
pub(crate) struct Logs {
    /// Go on with what is logged from now on, until Ctrl-C
    #[arg(long, short)]
    follow: bool,
    /// Only the lines of this function; may be repeated
    #[arg(long = "function", value_name = "NAME", value_enum)]
    functions: Vec<Function>,
    /// Where to begin: a time, or how long ago
    #[arg(long, value_name = "TIME", value_parser = crate::parse::moment, default_value = "10m")]
    since: Timestamp,
    /// Leave nothing out
    #[arg(long)]
    all: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Function {
    Forwarder,
    Consumer,
    Redrive,
    /// Which a stack with `Ordered=true` has
    OrderedRedrive,
}

/// A log that is read again and again.
#[derive(Debug)]
struct Log {
    function: &'static str,
    group: String,
    begin: Timestamp,
    seen: Newcomers,
}

/// A line of a log.
#[derive(Debug, Clone, PartialEq, Serialize)]
struct Line {
    at: Timestamp,
    function: &'static str,
    #[serde(flatten)]
    said: Said,
}

#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
enum Said {
    /// By our functions, and by Lambda.
    Fields(Map<String, Value>),
    /// A panic, for instance, before it is caught.
    Text(String),
}

/// How often the logs are asked. `FilterLogEvents` may be called five times a second in a region.
const POLL: Duration = Duration::from_secs(2);

/// How long a line takes at most until CloudWatch finds it, as far as this waits for it.
const DELAY: Duration = Duration::from_secs(20);

/// So many lines may be all that is answered at once, even where no next page is named, as by the
/// emulator. The rest is asked for at once.
const FULL_ANSWER: usize = 10_000;

/// How Lambda begins its own lines where the format is text.
const OF_LAMBDA: [&str; 4] =
    ["INIT_START ", "START RequestId", "END RequestId", "REPORT RequestId"];

impl Logs {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let zone = TimeZone::system();
        let mut groups = self.groups(&stack).await?;
        let mut is_noted = false;
        loop {
            let now = Timestamp::now();
            let found = try_join_all(
                groups.iter().map(|log| stack.log_events(&log.group, None, log.begin)),
            );
            let found = found.await?;
            let is_cut_short = found.iter().any(|found| found.cut_short);
            let is_full = found.iter().any(|found| found.lines.len() >= FULL_ANSWER);
            let new = groups.iter_mut().zip(found).flat_map(|(log, found)| log.take(found, now));
            let mut lines: Vec<_> = new.collect();
            lines.sort_by_key(|line| line.at);
            for line in lines.iter().filter(|line| self.all || line.is_of_interest()) {
                if !manner.print_line(line, |line| line.render(now, &zone))? {
                    return Ok(Verdict::Fine);
                }
            }
            if is_cut_short && !is_noted {
                is_noted = true;
                manner.note(
                    "this is as far as one look goes: see the newer lines with a later --since",
                );
            }
            if is_full {
                continue;
            }
            if !self.follow {
                return Ok(Verdict::Fine);
            }
            sleep(POLL).await;
        }
    }

    /// The logs of the functions that were asked for, else of those that the stack has.
    async fn groups(&self, stack: &Stack) -> Result<Vec<Log>, Failure> {
        let mut groups: Vec<Log> = Vec::new();
        let all = self.functions.is_empty();
        let functions = if all { Function::value_variants() } else { &self.functions };
        for (output, function) in functions.iter().map(|function| function.known_as()) {
            let name = match stack.optional_output(output) {
                Some(name) => name,
                None if all => continue,
                None => stack.output(output)?,
            };
            let group = stack.log_group(name).await?;
            // Both redrives write to one log.
            if groups.iter().all(|log| log.group != group) {
                let (begin, seen) = (self.since, Newcomers::default());
                groups.push(Log { function, group, begin, seen });
            }
        }
        Ok(groups)
    }
}

impl Log {
    /// The lines that were not found before. The next look begins shortly before the newest of them.
    fn take(&mut self, found: Found<FilteredLogEvent>, now: Timestamp) -> Vec<Line> {
        let times = found.lines.iter().filter_map(|event| event.timestamp);
        let newest = times.max().and_then(|millis| Timestamp::from_millisecond(millis).ok());
        let next = newest.unwrap_or(now).checked_sub(DELAY).unwrap_or(now);
        self.begin = next.max(self.begin);
        let function = self.function;
        self.seen.new_in(found.lines.into_iter().filter_map(|event| {
            let line = Line::read(function, event.timestamp?, event.message.as_deref()?)?;
            let id = event.event_id.unwrap_or_else(|| format!("{line:?}"));
            Some((id, line.at, line))
        }))
    }
}

impl Function {
    /// The output with its name, and what a person calls it.
    fn known_as(self) -> (&'static str, &'static str) {
        FUNCTIONS[self as usize]
    }
}

impl Line {
    fn read(function: &'static str, millis: i64, message: &str) -> Option<Self> {
        let message = message.trim_end();
        Some(match LogLine::read(function, Some(millis), message) {
            Some(LogLine { at, fields, .. }) => Self { at, function, said: Said::Fields(fields) },
            None => Self {
                at: Timestamp::from_millisecond(millis).ok()?,
                function,
                said: Said::Text(message.to_owned()),
            },
        })
    }

    /// Whether it is neither a metric nor what Lambda says when all goes well.
    fn is_of_interest(&self) -> bool {
        match &self.said {
            Said::Text(text) => !OF_LAMBDA.iter().any(|start| text.starts_with(start)),
            Said::Fields(fields) => {
                let is_of_lambda = fields
                    .get("type")
                    .and_then(Value::as_str)
                    .is_some_and(|kind| kind.starts_with("platform."));
                let status = fields.get("record").and_then(|record| record.get("status"));
                let failed = status.is_some_and(|status| status != "success");
                !fields.contains_key("_aws") && (!is_of_lambda || failed)
            }
        }
    }

    fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        let (at, now) = (self.at.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
        let is_today = at.date() == now.date();
        let format = if is_today { "%H:%M:%S%.3f" } else { "%Y-%m-%d %H:%M:%S%.3f" };
        let mut text = format!("{}  {:9}", paint(QUIET, at.strftime(format)), self.function);
        let fields = match &self.said {
            Said::Text(words) => return format!("{text}         {words}"),
            Said::Fields(fields) => fields,
        };
        let level = fields.get("level").and_then(Value::as_str).unwrap_or_default();
        let level_style = match level {
            "ERROR" => BAD,
            "WARN" => CAUTION,
            _ => QUIET,
        };
        let message = fields.get("message").or_else(|| fields.get("type")).and_then(Value::as_str);
        let message = paint(STRONG, message.unwrap_or_default());
        text.extend(["  ", &paint(level_style, format!("{level:5}")), "  ", &message]);
        for (name, value) in fields {
            if ["timestamp", "time", "level", "message", "type"].contains(&name.as_str()) {
                continue;
            }
            let value = value.as_str().map_or_else(|| value.to_string(), str::to_owned);
            text.extend([" ", &paint(QUIET, format!("{name}=")), &value]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(message: &str) -> Line {
        Line::read("consumer", 1_795_183_200_000, message).unwrap()
    }

    fn rendered(message: &str) -> String {
        let now = Timestamp::from_second(1_795_183_200 + 60).unwrap();
        anstream::adapter::strip_str(&line(message).render(now, &TimeZone::UTC)).to_string()
    }

    #[test]
    fn each_function_has_the_name_that_it_has_elsewhere() {
        for function in Function::value_variants() {
            let name = function.to_possible_value().unwrap().get_name().to_owned();
            assert_eq!(function.known_as().1.replace(' ', "-"), name);
        }
        assert_eq!(Function::value_variants().len(), FUNCTIONS.len());
    }

    #[test]
    fn a_line_is_its_time_function_level_message_and_fields() {
        let started = r#"{"timestamp":"2026-11-20T14:00:00.5Z","level":"INFO","message":"started","event.id":"60a5","message.receive_count":1}"#;
        assert_eq!(
            rendered(started),
            "14:00:00.500  consumer   INFO   started event.id=60a5 message.receive_count=1"
        );
        let yesterday =
            r#"{"timestamp":"2026-11-19T14:00:00.5Z","level":"WARN","message":"deferred"}"#;
        assert_eq!(rendered(yesterday), "2026-11-19 14:00:00.500  consumer   WARN   deferred");
        assert_eq!(
            rendered("thread 'main' panicked\n"),
            "14:00:00.000  consumer          thread 'main' panicked"
        );
    }

    #[test]
    fn metrics_and_what_lambda_says_of_what_went_well_are_left_out() {
        for (message, is_of_interest) in [
            (r#"{"level":"INFO","message":"started"}"#, true),
            (r#"{"_aws":{"Timestamp":1},"Started":1}"#, false),
            (r#"{"type":"platform.start","record":{}}"#, false),
            (r#"{"type":"platform.report","record":{"status":"success"}}"#, false),
            (r#"{"type":"platform.report","record":{"status":"timeout"}}"#, true),
            ("START RequestId: 1 Version: $LATEST", false),
            ("REPORT RequestId: 1 Duration: 1 ms", false),
            ("thread 'main' panicked", true),
        ] {
            assert_eq!(line(message).is_of_interest(), is_of_interest, "{message}");
        }
        assert!(
            rendered(r#"{"type":"platform.report","record":{"status":"timeout"}}"#)
                .contains("platform.report record={\"status\":\"timeout\"}")
        );
    }

    #[test]
    fn a_line_that_is_found_again_is_printed_once() {
        let event = |second: i64, id: &str| {
            let millis = (1_795_183_200 + second) * 1_000;
            FilteredLogEvent::builder().timestamp(millis).event_id(id).message(id).build()
        };
        let begin = Timestamp::from_second(1_795_183_200).unwrap();
        let after = |second: u64| begin + Duration::from_secs(second);
        let mut log =
            Log { function: "consumer", group: String::new(), begin, seen: Newcomers::default() };
        let mut take = |events: Vec<FilteredLogEvent>, now| {
            let lines = log.take(Found { lines: events, cut_short: false }, now);
            (lines.len(), log.begin)
        };
        assert_eq!(take(vec![event(30, "a"), event(60, "b")], after(61)), (2, after(40)));
        // One that came late, beside one that was there before.
        assert_eq!(take(vec![event(50, "late"), event(60, "b")], after(63)), (1, after(40)));
        // Nothing for long.
        assert_eq!(take(vec![event(60, "b")], after(7_200)), (0, after(40)));
        assert_eq!(take(vec![], after(7_200)), (0, after(7_180)));
    }

    #[test]
    fn a_line_is_one_json_document() {
        let text = serde_json::to_string(&line(r#"{"level":"INFO","message":"started"}"#)).unwrap();
        assert_eq!(
            text,
            r#"{"at":"2026-11-20T14:00:00Z","function":"consumer","fields":{"level":"INFO","message":"started"}}"#
        );
    }
}
