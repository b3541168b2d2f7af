use clap::{ArgGroup, Args};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{BAD, Manner, Verdict, columns, number, paint},
};

/// Put archived messages back into the work queue, once you have mended what was wrong with them
#[derive(Debug, Args)]
#[command(group = ArgGroup::new("documents").required(true))]
pub(crate) struct Restore {
    /// Documents of the archive
    #[arg(group = "documents", value_name = "KEY")]
    keys: Vec<String>,
    /// All documents whose keys begin with this, such as `dead-letters/date=2026-11-20/`
    #[arg(long, group = "documents")]
    prefix: Option<String>,
    /// All documents about messages that were sent on this day in the time zone of the stack, such
    /// as `2026-11-20`
    #[arg(long, group = "documents")]
    date: Option<jiff::civil::Date>,
    /// Only say what would be done
    #[arg(long)]
    dry_run: bool,
    /// Messages a second, such as `50/s`
    #[arg(long, value_parser = crate::parse::whole_rate)]
    rate: Option<u32>,
    /// At most so many documents
    #[arg(long, value_name = "COUNT")]
    max: Option<u64>,
}

/// The answer of the function.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_field_names, reason = "the fields of the function's answer")]
struct Restored {
    dry_run: bool,
    summary: String,
    restored: u64,
    restored_in_part: u64,
    restored_before: u64,
    nothing_to_send: u64,
    failed: u64,
    left: u64,
    problems: Vec<Problem>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Problem {
    key: String,
    problem: String,
}

impl Restore {
    pub(super) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        if !self.dry_run {
            manner.must_be_allowed("restore what was archived")?;
        }
        let stack = Stack::find(options).await?;
        let ask = |dry_run| self.request(dry_run);
        let looking = manner.progress("the redrive looks into the archive");
        let planned: Restored = stack.invoke("RedriveFunctionName", &ask(true)).await?;
        drop(looking);
        let would_send = planned.restored + planned.restored_in_part;
        if self.dry_run || would_send == 0 {
            manner.print(&planned, Restored::render)?;
            return Ok(Verdict::wrong_if(!planned.problems.is_empty()));
        }
        manner.note(&format!("Of the archive of stack `{}`: {}.", stack.name, planned.summary));
        manner.ask(&format!("put {} documents back into the work queue", number(would_send)))?;
        let working = manner.progress("the redrive puts them back");
        let restored: Restored = stack.invoke("RedriveFunctionName", &ask(false)).await?;
        drop(working);
        manner.print(&restored, Restored::render)?;
        Ok(Verdict::wrong_if(!restored.problems.is_empty()))
    }

    fn request(&self, dry_run: bool) -> Value {
        let mut request = Map::from_iter([
            ("mode".to_owned(), json!("restore")),
            ("dryRun".to_owned(), json!(dry_run)),
        ]);
        let of_day = self.date.map(|date| format!("dead-letters/date={date}/"));
        match self.prefix.clone().or(of_day) {
            Some(prefix) => request.insert("prefix".to_owned(), json!(prefix)),
            None => request.insert("keys".to_owned(), json!(self.keys)),
        };
        request.extend(self.rate.map(|rate| ("maxPerSecond".to_owned(), json!(rate))));
        request.extend(self.max.map(|most| ("maxMessages".to_owned(), json!(most))));
        Value::Object(request)
    }
}

impl Restored {
    fn render(&self) -> String {
        let would = if self.dry_run { "would be " } else { "" };
        let mut rows = vec![vec![format!("{would}restored"), number(self.restored), String::new()]];
        for (name, count, note) in [
            ("in part", self.restored_in_part, "the rest cannot be decoded"),
            ("restored before", self.restored_before, ""),
            ("nothing to send", self.nothing_to_send, "nothing in them can be decoded"),
            ("left", self.left, "run it again for these"),
        ] {
            if count > 0 {
                rows.push(vec![name.to_owned(), number(count), note.to_owned()]);
            }
        }
        if self.failed > 0 {
            rows.push(vec!["failed".to_owned(), paint(BAD, number(self.failed)), String::new()]);
        }
        let mut text = columns(&rows, &[1]);
        for Problem { key, problem } in &self.problems {
            text.extend(["\n  ", key, ": ", &paint(BAD, problem)]);
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn restore() -> Restore {
        Restore { keys: vec![], prefix: None, date: None, dry_run: false, rate: None, max: None }
    }

    #[test]
    fn a_day_is_a_prefix_of_the_archive() {
        let of_day = Restore { date: Some(jiff::civil::date(2026, 11, 20)), ..restore() };
        assert_eq!(
            of_day.request(true),
            json!({ "mode": "restore", "dryRun": true, "prefix": "dead-letters/date=2026-11-20/" })
        );
        let of_keys = Restore { keys: vec!["dead-letters/a".into()], rate: Some(5), ..restore() };
        assert_eq!(
            of_keys.request(false),
            json!({ "mode": "restore", "dryRun": false, "keys": ["dead-letters/a"], "maxPerSecond": 5 })
        );
    }

    #[test]
    fn what_failed_is_shown_with_its_key() {
        let restored = Restored {
            restored: 2,
            failed: 1,
            problems: vec![Problem { key: "dead-letters/x".into(), problem: "no document".into() }],
            ..Restored::default()
        };
        assert_eq!(
            anstream::adapter::strip_str(&restored.render()).to_string(),
            "  restored  2\n  failed    1\n\n  dead-letters/x: no document"
        );
    }
}
