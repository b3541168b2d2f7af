use clap::Args;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;
use serde_json::Map;

use super::{Filter, Group, Groups, receives};
use crate::{
    aws::{Dated, Options, RedriveReport, Stack},
    failure::Failure,
    output::{BAD, Manner, QUIET, STRONG, Verdict, clock, columns, number, paint},
    status::went_well,
};

/// Tell what the redrive did last night, and what tonight's would do with the letters of this moment
#[derive(Debug, Args)]
pub(crate) struct LastNight {}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Nights {
    last: Option<Dated<RedriveReport>>,
    tonight: Tonight,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
struct Tonight {
    #[serde(flatten)]
    groups: Groups,
    would_be_redriven: u64,
    would_be_archived: u64,
}

impl LastNight {
    pub(super) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        let stack = Stack::find(options).await?;
        let last = stack.last_reports().await?.nightly;
        let planned = Filter::default().look(&stack, Map::new(), manner).await?;
        let nights = Nights {
            last,
            tonight: Tonight {
                groups: Groups::of(&planned, None),
                would_be_redriven: planned.redriven,
                would_be_archived: planned.archived.values().sum(),
            },
        };
        let zone = TimeZone::system();
        manner.print(&nights, |nights| nights.render(Timestamp::now(), &zone))?;
        if nights.tonight.groups.letters > 0 {
            manner.note(&receives(nights.tonight.groups.letters));
        }
        let went_well = nights.last.as_ref().is_some_and(|last| went_well(&last.report));
        Ok(Verdict::wrong_if(!went_well))
    }
}

impl Nights {
    fn render(&self, now: Timestamp, zone: &TimeZone) -> String {
        let mut text = match &self.last {
            None => format!(
                "{}\n",
                paint(
                    BAD,
                    "no nightly redrive within 48 hours: see NoRedriveAlarm in operations.md"
                )
            ),
            Some(Dated { at, report }) => {
                let title = format!("The redrive of {}", clock(*at, now, zone));
                format!("{}\n\n{}", paint(STRONG, title), did(report))
            }
        };
        let Tonight { groups, would_be_redriven, would_be_archived } = &self.tonight;
        let title = paint(STRONG, "Tonight, of the letters of this moment");
        text.extend(["\n", &title, "\n\n"]);
        if groups.letters == 0 {
            text.push_str("  nothing: there are no dead letters\n");
            return text;
        }
        let rows: Vec<_> =
            groups.classes.iter().map(|group: &Group| group.row(now, zone)).collect();
        text.push_str(&columns(&rows, &[0]));
        let (redriven, archived) = (number(*would_be_redriven), number(*would_be_archived));
        text.extend([
            "
  ",
            &redriven,
            " would be redriven, ",
            &archived,
            " archived
",
        ]);
        text
    }
}

fn did(report: &RedriveReport) -> String {
    let mut rows = vec![vec!["redriven".to_owned(), number(report.redriven), String::new()]];
    for (class, count) in &report.archived {
        rows.push(vec!["archived".to_owned(), number(*count), class.clone()]);
    }
    for (name, count, is_bad) in [
        ("succeeded since", report.succeeded, false),
        ("running", report.running, false),
        ("too new", report.too_new, false),
        ("held back", report.held_back, true),
        ("failed", report.failed, true),
    ] {
        if count > 0 {
            let count = number(count);
            let count = if is_bad { paint(BAD, count) } else { count };
            rows.push(vec![name.to_owned(), count, String::new()]);
        }
    }
    let mut text = columns(&rows, &[1]);
    if !report.complete {
        text.push_str(&paint(QUIET, format!("\n  not to its end: {}\n", report.stopped)));
    }
    text
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn both_nights_are_told_by_class() {
        let report = serde_json::from_value(json!({
            "nightly": true, "redriven": 7, "archived": { "NotJson": 3 }, "heldBack": 2,
            "complete": true, "stopped": "canary"
        }));
        let at = "2026-11-20T06:00:00Z".parse().unwrap();
        let planned: RedriveReport = serde_json::from_value(json!({
            "classes": { "E": 2 }, "redriven": 2, "complete": true
        }))
        .unwrap();
        let nights = Nights {
            last: Some(Dated { at, report: report.unwrap() }),
            tonight: Tonight {
                groups: Groups::of(&planned, None),
                would_be_redriven: 2,
                would_be_archived: 0,
            },
        };
        let text = nights.render("2026-11-20T09:00:00Z".parse().unwrap(), &TimeZone::UTC);
        assert_eq!(
            anstream::adapter::strip_str(&text).to_string(),
            "The redrive of 06:00\n\n  redriven   7\n  archived   3  NotJson\n  held back  2\n\n\
             Tonight, of the letters of this moment\n\n  2  × E\n\n  2 would be redriven, 0 archived\n"
        );
    }

    #[test]
    fn a_night_without_a_redrive_is_said() {
        let groups = Groups::of(&RedriveReport::default(), None);
        let tonight = Tonight { groups, would_be_redriven: 0, would_be_archived: 0 };
        let text = Nights { last: None, tonight }.render(Timestamp::UNIX_EPOCH, &TimeZone::UTC);
        assert!(text.contains("no nightly redrive within 48 hours"), "{text}");
    }
}
