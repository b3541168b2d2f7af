//! What all verbs share towards the person: the two forms of output, columns, times, questions.

use std::{
    io::{IsTerminal as _, Write as _, stderr, stdin},
    time::Duration,
};

use anstyle::{AnsiColor, Style};
use clap::{Args, ValueEnum};
use indicatif::{ProgressBar, ProgressStyle};
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use unicode_width::UnicodeWidthStr as _;

use crate::failure::Failure;

/// How a verb speaks, and what it may do
#[derive(Debug, Clone, Copy, Args)]
#[command(next_help_heading = "Output and safety")]
pub(crate) struct Manner {
    /// What goes to standard output
    #[arg(long, global = true, value_enum, default_value_t)]
    pub(crate) output: Format,
    /// Refuse everything that sends, moves, deletes or switches
    #[arg(long, global = true, env = "SLUICE_READ_ONLY", value_parser = clap::builder::FalseyValueParser::new())]
    pub(crate) read_only: bool,
    /// Do not ask
    #[arg(long, short, global = true)]
    pub(crate) yes: bool,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For a person; in colours on a terminal, unless `NO_COLOR` is set
    #[default]
    Table,
    /// For a program: one JSON document
    Json,
}

/// What a verb that came to its end has found. The exit code says the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    Fine,
    /// The system needs somebody.
    Wrong,
}

impl Verdict {
    pub(crate) fn wrong_if(wrong: bool) -> Self {
        if wrong { Self::Wrong } else { Self::Fine }
    }
}

pub(crate) const GOOD: Style = AnsiColor::Green.on_default();
pub(crate) const BAD: Style = AnsiColor::Red.on_default().bold();
pub(crate) const CAUTION: Style = AnsiColor::Yellow.on_default();
pub(crate) const QUIET: Style = Style::new().dimmed();
pub(crate) const STRONG: Style = Style::new().bold();

/// The text in a style. Where no terminal reads it, the printing takes the style off again.
pub(crate) fn paint(style: Style, text: impl std::fmt::Display) -> String {
    format!("{style}{text}{style:#}")
}

impl Manner {
    /// Prints the result in the form that was asked for.
    pub(crate) fn print<T: Serialize>(
        self,
        result: &T,
        table: impl FnOnce(&T) -> String,
    ) -> Result<(), Failure> {
        let text = match self.output {
            Format::Table => table(result),
            Format::Json => serde_json::to_string_pretty(result)
                .map_err(|error| Failure::Usage(format!("cannot write JSON: {error}")))?,
        };
        // A reader that has seen enough, such as `head`, is no error.
        drop(writeln!(anstream::stdout().lock(), "{}", text.trim_end()));
        Ok(())
    }

    /// Prints one of many results: a line of text, or a JSON document in one line. False if nobody
    /// reads it any more.
    pub(crate) fn print_line<T: Serialize>(
        self,
        result: &T,
        line: impl FnOnce(&T) -> String,
    ) -> Result<bool, Failure> {
        let text = match self.output {
            Format::Table => line(result),
            Format::Json => serde_json::to_string(result)
                .map_err(|error| Failure::Usage(format!("cannot write JSON: {error}")))?,
        };
        Ok(writeln!(anstream::stdout().lock(), "{text}").is_ok())
    }

    /// Asks before something is done. `what` completes "This will …" and "--read-only refuses to …".
    pub(crate) fn ask(self, what: &str) -> Result<(), Failure> {
        self.must_be_allowed(what)?;
        if self.yes {
            return Ok(());
        }
        if !stdin().is_terminal() {
            return Err(Failure::NoTerminal);
        }
        let mut err = anstream::stderr().lock();
        drop(write!(err, "This will {what}. Go on? [y/N] ").and_then(|()| err.flush()));
        let mut answer = String::new();
        let read = stdin().read_line(&mut answer);
        if read.is_ok() && matches!(answer.trim().to_lowercase().as_str(), "y" | "yes") {
            Ok(())
        } else {
            Err(Failure::Declined)
        }
    }

    pub(crate) fn must_be_allowed(self, what: &str) -> Result<(), Failure> {
        if self.read_only { Err(Failure::ReadOnly(what.to_owned())) } else { Ok(()) }
    }

    /// Something said on the way to the result, apart from it.
    #[expect(clippy::unused_self, reason = "as for the result, so that no verb prints by itself")]
    pub(crate) fn note(self, text: &str) {
        drop(writeln!(anstream::stderr().lock(), "{text}"));
    }

    /// A line that changes on a terminal while long work goes on; plain lines elsewhere.
    pub(crate) fn progress(self, what: &str) -> Progress {
        let bar = stderr().is_terminal().then(|| {
            let style = ProgressStyle::with_template("{spinner:.cyan} {msg} {elapsed:.dim}");
            let bar = ProgressBar::new_spinner()
                .with_style(style.unwrap_or_else(|_| ProgressStyle::default_spinner()))
                .with_message(what.to_owned());
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Progress { bar, manner: self }
    }
}

/// See [`Manner::progress`].
pub(crate) struct Progress {
    bar: Option<ProgressBar>,
    manner: Manner,
}

impl Progress {
    pub(crate) fn say(&self, text: &str) {
        match &self.bar {
            Some(bar) => bar.set_message(text.to_owned()),
            None => self.manner.note(text),
        }
    }
}

impl Drop for Progress {
    fn drop(&mut self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }
}

/// Rows in aligned columns; the numbers of the columns in `right` stand at the right.
pub(crate) fn columns(rows: &[Vec<String>], right: &[usize]) -> String {
    let count = rows.iter().map(Vec::len).max().unwrap_or_default();
    let widths: Vec<usize> = (0..count)
        .map(|at| {
            rows.iter().filter_map(|row| row.get(at)).map(|cell| width(cell)).max().unwrap_or(0)
        })
        .collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::from(" ");
        for (at, cell) in row.iter().enumerate() {
            let fill = " ".repeat(widths[at].saturating_sub(width(cell)));
            let (before, behind) =
                if right.contains(&at) { (fill, String::new()) } else { (String::new(), fill) };
            line.extend([" ", &before, cell, &behind, " "]);
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

/// How many columns of a terminal a text takes, styles apart.
pub(crate) fn width(text: &str) -> usize {
    anstream::adapter::strip_str(text).to_string().width()
}

/// `1,234,567`
pub(crate) fn number(count: u64) -> String {
    let digits = count.to_string();
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `1 letter`, `2,000 letters`
pub(crate) fn counted(count: u64, one: &str, many: &str) -> String {
    format!("{} {}", number(count), if count == 1 { one } else { many })
}

/// A span of time in its two largest units, as a person says it: `3 h 5 min`.
pub(crate) fn span(time: Duration) -> String {
    let seconds = time.as_secs();
    let (days, hours, minutes) = (seconds / 86_400, seconds / 3_600 % 24, seconds / 60 % 60);
    match (days, hours, minutes) {
        (0, 0, 0) => format!("{seconds} s"),
        (0, 0, _) if seconds.is_multiple_of(60) || minutes >= 10 => format!("{minutes} min"),
        (0, 0, _) => format!("{minutes} min {} s", seconds % 60),
        (0, _, 0) => format!("{hours} h"),
        (0, ..) => format!("{hours} h {minutes} min"),
        (_, 0, _) => format!("{days} d"),
        _ => format!("{days} d {hours} h"),
    }
}

pub(crate) fn since(then: Timestamp, now: Timestamp) -> Duration {
    Duration::try_from(now.duration_since(then)).unwrap_or_default()
}

/// A point in time on the operator's clock: the hour alone if it is today's.
pub(crate) fn clock(time: Timestamp, now: Timestamp, zone: &TimeZone) -> String {
    let (time, now) = (time.to_zoned(zone.clone()), now.to_zoned(zone.clone()));
    let format = if time.date() == now.date() { "%H:%M" } else { "%Y-%m-%d %H:%M" };
    time.strftime(format).to_string()
}

/// The beginning of a text, with a mark if there was more.
pub(crate) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    let begin: String = text.chars().take(most.saturating_sub(1)).collect();
    format!("{begin}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn columns_stand_below_each_other_whatever_is_painted() {
        let rows = [
            vec!["work queue".to_owned(), paste("5")],
            vec!["상태".to_owned(), "1,234".to_owned()],
        ];
        let text = anstream::adapter::strip_str(&columns(&rows, &[1])).to_string();
        assert_eq!(text, "  work queue      5\n  상태        1,234\n");
    }

    fn paste(text: &str) -> String {
        paint(BAD, text)
    }

    #[test]
    fn numbers_and_spans_are_said_as_people_do() {
        assert_eq!([0, 999, 1_000, 1_234_567].map(number), ["0", "999", "1,000", "1,234,567"]);
        let said = |seconds| span(Duration::from_secs(seconds));
        assert_eq!(said(59), "59 s");
        assert_eq!(said(60), "1 min");
        assert_eq!(said(61), "1 min 1 s");
        assert_eq!(said(601), "10 min");
        assert_eq!(said(3_600 + 300), "1 h 5 min");
        assert_eq!(said(2 * 86_400 + 7_200), "2 d 2 h");
    }

    #[test]
    fn a_time_of_another_day_has_its_date() {
        let zone = TimeZone::get("Asia/Seoul").unwrap();
        let at = |time: &str| {
            clock(time.parse().unwrap(), "2026-11-20T21:00:00Z".parse().unwrap(), &zone)
        };
        assert_eq!(at("2026-11-20T15:00:00Z"), "00:00");
        assert_eq!(at("2026-11-20T14:59:00Z"), "2026-11-20 23:59");
    }

    #[test]
    fn read_only_refuses_before_anything_is_asked() {
        let manner = Manner { output: Format::Table, read_only: true, yes: true };
        let refused = manner.ask("pause the consumer").unwrap_err().to_string();
        assert_eq!(refused, "--read-only refuses to pause the consumer");
        assert!(Manner { read_only: false, ..manner }.ask("pause the consumer").is_ok());
    }
}
