use std::collections::{BTreeMap, HashMap};
use std::time::{Duration, SystemTime};

use aws_sdk_sfn::operation::describe_execution::DescribeExecutionOutput;
use aws_sdk_sfn::types::{ExecutionListItem, ExecutionStatus};
use serde_json::Value;

use super::Uploaded;

/// One execution: from the list, then with what its description adds.
#[derive(Debug)]
pub(crate) struct Execution {
    pub(crate) arn: String,
    name: String,
    status: ExecutionStatus,
    ended_at: Option<SystemTime>,
    /// Which write it is for: key and version of the object.
    write: (String, String),
    superseded: bool,
}

impl Execution {
    pub(crate) fn listed(item: ExecutionListItem) -> Self {
        Self {
            ended_at: item.stop_date.and_then(|time| SystemTime::try_from(time).ok()),
            arn: item.execution_arn,
            name: item.name,
            status: item.status,
            write: <(String, String)>::default(),
            superseded: false,
        }
    }

    pub(crate) fn described(self, described: &DescribeExecutionOutput) -> Self {
        let json = |text: Option<&str>| -> Value {
            text.and_then(|text| serde_json::from_str(text).ok()).unwrap_or_default()
        };
        let input = json(described.input());
        let text = |pointer: &str| {
            input.pointer(pointer).and_then(Value::as_str).unwrap_or_default().to_owned()
        };
        Self {
            write: (text("/data/key"), text("/data/versionId")),
            superseded: json(described.output())["outcome"] == "superseded",
            status: described.status.clone(),
            ..self
        }
    }

    pub(crate) fn succeeded(&self) -> bool {
        self.status == ExecutionStatus::Succeeded
    }
}

/// What became of every upload.
#[derive(Debug)]
pub(crate) struct Report {
    uploaded: usize,
    started: usize,
    succeeded: usize,
    superseded: usize,
    /// Expected dead letters by error class.
    poisoned: BTreeMap<String, usize>,
    dead_letters: BTreeMap<String, usize>,
    /// From the start of an upload to the end of the execution that wrote its item.
    latencies: Vec<Duration>,
    devices: usize,
    problems: Vec<String>,
}

impl Report {
    pub(crate) fn new(
        uploaded: &[Uploaded],
        executions: Vec<Execution>,
        dead_letter_classes: Vec<String>,
        items: &HashMap<String, String>,
    ) -> Self {
        let mut problems = Vec::new();
        let started = executions.len();
        let mut by_write: HashMap<(String, String), Vec<Execution>> = HashMap::new();
        for execution in executions {
            by_write.entry(execution.write.clone()).or_default().push(execution);
        }

        let mut latencies = Vec::new();
        let mut poisoned = Vec::new();
        let (mut succeeded, mut superseded) = (0, 0);
        // The last good write of each device: when, and the execution that its item must be from.
        let mut newest: HashMap<&str, (SystemTime, String)> = HashMap::new();
        for Uploaded { upload, version_id, at } in uploaded {
            let executions = by_write.remove(&(upload.key.clone(), version_id.clone()));
            let executions = executions.as_deref().unwrap_or_default();
            if let Some(class) = upload.poison {
                poisoned.push(class.to_owned());
                continue;
            }
            let [execution] = executions else {
                problems.push(format!("{} has {} executions", upload.key, executions.len()));
                continue;
            };
            if !execution.succeeded() {
                problems.push(format!("the execution of {} is {}", upload.key, execution.status));
                continue;
            }
            succeeded += 1;
            if execution.superseded {
                superseded += 1;
            } else {
                let latency = execution.ended_at.and_then(|end| end.duration_since(*at).ok());
                latencies.extend(latency);
            }
            if let Some(device) = upload.device_id.as_deref()
                && newest.get(device).is_none_or(|(earlier, _)| earlier < at)
            {
                newest.insert(device, (*at, execution.name.clone()));
            }
        }
        latencies.sort_unstable();
        problems.extend(
            by_write
                .into_keys()
                .map(|(key, _)| format!("an execution for {key}, which is no upload")),
        );
        for (device, (_, expected)) in newest {
            if items.get(device) != Some(&expected) {
                problems.push(format!("device {device} does not have the state of its last file"));
            }
        }

        let report = Self {
            uploaded: uploaded.len(),
            started,
            succeeded,
            superseded,
            poisoned: count(poisoned),
            dead_letters: count(dead_letter_classes),
            latencies,
            devices: items.len(),
            problems,
        };
        report.with_sums_checked()
    }

    fn with_sums_checked(mut self) -> Self {
        let poisoned = self.poisoned.values().sum::<usize>();
        if self.uploaded != self.succeeded + poisoned {
            self.problems.push(format!(
                "{} uploaded, but {} succeeded and {poisoned} were poisoned on purpose",
                self.uploaded, self.succeeded
            ));
        }
        if self.dead_letters != self.poisoned {
            self.problems.push(format!(
                "the dead-letter queue holds {}, but {} were poisoned on purpose",
                list(&self.dead_letters),
                list(&self.poisoned)
            ));
        }
        self
    }

    /// What became of all files, in one sentence; or an error that says what does not add up.
    pub(crate) fn verdict(&self) -> Result<String, String> {
        const SHOWN: usize = 5;
        if self.problems.is_empty() {
            return Ok(format!(
                "It adds up: {} files had one execution each, {} went to the dead-letter queue.",
                self.succeeded,
                self.poisoned.values().sum::<usize>()
            ));
        }
        // The sums come last and say it shortest.
        let mut shown: Vec<&str> = self.problems.iter().rev().map(String::as_str).collect();
        let more = shown.len().saturating_sub(SHOWN);
        shown.truncate(SHOWN);
        let mut sentence = shown.join("; ");
        if more > 0 {
            sentence = format!("{sentence}; and {more} more");
        }
        Err(sentence)
    }

    /// Nearest-rank percentile.
    fn latency(&self, percent: usize) -> String {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        match self.latencies.get(rank.saturating_sub(1)) {
            Some(latency) => format!("{:.2} s", latency.as_secs_f64()),
            None => "–".to_owned(),
        }
    }
}

fn count(classes: Vec<String>) -> BTreeMap<String, usize> {
    let mut counts = BTreeMap::new();
    for class in classes {
        *counts.entry(class).or_default() += 1;
    }
    counts
}

/// `5 NotJson, 5 InvalidDeviceState`
fn list(counts: &BTreeMap<String, usize>) -> String {
    if counts.is_empty() {
        return "nothing".to_owned();
    }
    let parts: Vec<String> =
        counts.iter().map(|(class, count)| format!("{count} {class}")).collect();
    parts.join(", ")
}

pub(crate) fn print(report: &Report) {
    let row = |name: &str, value: &dyn std::fmt::Display, note: &str| {
        println!("{}", format!("  {name:<28}{value:>8}  {note}").trim_end());
    };
    println!();
    row("uploaded", &report.uploaded, "");
    row("executions started", &report.started, "");
    row("executions succeeded", &report.succeeded, "");
    row("  of these superseded", &report.superseded, "a newer write of the device came first");
    row("items (devices)", &report.devices, "");
    row(
        "in the dead-letter queue",
        &report.dead_letters.values().sum::<usize>(),
        &list(&report.dead_letters),
    );
    row("poisoned on purpose", &report.poisoned.values().sum::<usize>(), &list(&report.poisoned));
    row("p50 from upload to item", &report.latency(50), "");
    row("p99 from upload to item", &report.latency(99), "");
    println!();
}

#[cfg(test)]
mod tests {
    use super::super::devices::Upload;
    use super::*;

    fn upload(device: &str, version: &str) -> Uploaded {
        Uploaded {
            upload: Upload {
                key: format!("devices/{device}/state.json"),
                body: String::new(),
                device_id: Some(device.to_owned()),
                poison: None,
            },
            version_id: version.to_owned(),
            at: SystemTime::UNIX_EPOCH,
        }
    }

    fn succeeded(device: &str, version: &str) -> Execution {
        Execution {
            arn: String::new(),
            name: format!("{device}-{version}"),
            status: ExecutionStatus::Succeeded,
            ended_at: Some(SystemTime::UNIX_EPOCH + Duration::from_secs(1)),
            write: (format!("devices/{device}/state.json"), version.to_owned()),
            superseded: false,
        }
    }

    fn items(items: &[(&str, &str)]) -> HashMap<String, String> {
        items.iter().map(|(device, id)| ((*device).to_owned(), (*id).to_owned())).collect()
    }

    #[test]
    fn adds_up_when_every_upload_has_its_execution_and_item() {
        let report = Report::new(
            &[upload("1", "a"), upload("2", "b")],
            vec![succeeded("1", "a"), succeeded("2", "b")],
            vec![],
            &items(&[("1", "1-a"), ("2", "2-b")]),
        );
        assert_eq!(
            report.verdict().unwrap(),
            "It adds up: 2 files had one execution each, 0 went to the dead-letter queue."
        );
        assert_eq!(report.latency(99), "1.00 s");
    }

    #[test]
    fn says_what_is_missing_double_stale_or_dead() {
        let uploads = [upload("1", "a"), upload("2", "b")];
        let both = || vec![succeeded("1", "a"), succeeded("2", "b")];
        let good = || items(&[("1", "1-a"), ("2", "2-b")]);
        let verdict = |executions, dead: &[&str], items| {
            let dead = dead.iter().map(|class| (*class).to_owned()).collect();
            Report::new(&uploads, executions, dead, &items).verdict().unwrap_err()
        };

        let missing = verdict(vec![succeeded("1", "a")], &[], good());
        assert!(missing.contains("2 uploaded, but 1 succeeded"), "{missing}");
        assert!(missing.contains("devices/2/state.json has 0 executions"), "{missing}");

        let mut twice = both();
        twice.push(succeeded("1", "a"));
        assert!(verdict(twice, &[], good()).contains("devices/1/state.json has 2 executions"));

        let stale = verdict(both(), &[], items(&[("1", "older"), ("2", "2-b")]));
        assert!(stale.contains("device 1 does not have the state of its last file"), "{stale}");

        let dead = verdict(both(), &["NotJson"], good());
        assert!(dead.contains("holds 1 NotJson, but nothing"), "{dead}");
    }
}
