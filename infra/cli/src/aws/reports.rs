use std::{collections::BTreeMap, time::Duration};

use jiff::Timestamp;
use redrive::Ledger;
use serde::{Deserialize, Serialize};

use super::Stack;
use crate::failure::Failure;

/// What a run of the redrive says of itself, as far as the verbs show it. The fields are those of
/// the function's report.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
#[expect(clippy::struct_excessive_bools, reason = "the fields of the function's report")]
pub(crate) struct RedriveReport {
    pub(crate) dry_run: bool,
    pub(crate) nightly: bool,
    pub(crate) summary: String,
    pub(crate) before: String,
    pub(crate) seen: u64,
    pub(crate) selected: u64,
    pub(crate) redriven: u64,
    pub(crate) archived: BTreeMap<String, u64>,
    pub(crate) too_new: u64,
    pub(crate) filtered: u64,
    pub(crate) failed: u64,
    pub(crate) succeeded: u64,
    pub(crate) running: u64,
    pub(crate) held_back: u64,
    pub(crate) left: Option<u64>,
    pub(crate) complete: bool,
    pub(crate) classes: BTreeMap<String, u64>,
    /// When the oldest letter of each class was first sent.
    pub(crate) oldest: BTreeMap<String, Timestamp>,
    pub(crate) first_keys: Vec<String>,
    pub(crate) stopped: String,
    pub(crate) moved_nothing: bool,
}

/// The newest reports in the log of the redrive.
#[derive(Debug, Clone, Default)]
pub(crate) struct LastReports {
    pub(crate) redrive: Option<Dated<RedriveReport>>,
    /// The newest that EventBridge has started.
    pub(crate) nightly: Option<Dated<RedriveReport>>,
    pub(crate) ledger: Option<Dated<Ledger>>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Dated<T> {
    pub(crate) at: Timestamp,
    #[serde(flatten)]
    pub(crate) report: T,
}

/// The redrive runs every night unless somebody has set another schedule.
const BACK: Duration = Duration::from_hours(48);

impl Stack {
    pub(crate) async fn last_reports(&self) -> Result<LastReports, Failure> {
        let lines = |field| self.log_lines("RedriveFunctionName", "redrive", field, BACK);
        let (redrives, ledgers) = tokio::try_join!(lines("report"), lines("ledger"))?;
        let redrives = redrives.lines.iter().map(|line| (line.at, line.text("report")));
        let ledgers = ledgers.lines.iter().map(|line| (line.at, line.text("ledger")));
        Ok(LastReports::newest(redrives.chain(ledgers)))
    }
}

impl LastReports {
    /// `reports` is what was logged, those of each kind oldest first.
    fn newest<'a>(reports: impl Iterator<Item = (Timestamp, &'a str)>) -> Self {
        let mut last = Self::default();
        for (at, text) in reports {
            if let Ok(report) = serde_json::from_str::<Ledger>(text)
                && report.mode == "reconcile"
            {
                last.ledger = Some(Dated { at, report });
            } else if let Ok(report) = serde_json::from_str::<RedriveReport>(text)
                && !report.dry_run
            {
                let dated = Dated { at, report };
                if dated.report.nightly {
                    last.nightly = Some(dated.clone());
                }
                last.redrive = Some(dated);
            }
        }
        last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_report_of_each_kind_counts_and_no_dry_run() {
        let at = |second| Timestamp::from_second(second).unwrap();
        let last = LastReports::newest(
            [
                (at(1), r#"{"nightly":true,"summary":"night","stopped":"empty"}"#),
                (at(2), r#"{"mode":"reconcile","missing":1,"closed":false}"#),
                (at(3), r#"{"nightly":false,"summary":"by hand","stopped":"empty"}"#),
                (at(4), r#"{"dryRun":true,"summary":"only said"}"#),
                (at(5), "no JSON"),
            ]
            .into_iter(),
        );
        assert_eq!(last.nightly.unwrap().report.summary, "night");
        let redrive = last.redrive.unwrap();
        assert_eq!((redrive.at, redrive.report.summary.as_str()), (at(3), "by hand"));
        assert_eq!(last.ledger.unwrap().report.missing, 1);
    }
}
