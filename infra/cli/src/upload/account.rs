//! What became of every object of a run.

use std::collections::{HashMap, HashSet};

use jiff::Timestamp;
use serde::Serialize;

use super::{Write, ids};
use crate::{
    aws::Stack,
    failure::Failure,
    output::{BAD, CAUTION, GOOD, columns, number, paint, since},
};

/// An upload that S3 has confirmed.
#[derive(Debug, Clone)]
pub(super) struct Uploaded {
    pub(super) id: String,
    pub(super) write: Write,
    /// When the request was sent.
    pub(super) at: Timestamp,
}

/// An execution, as it is listed.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Listed {
    pub(super) name: String,
    pub(super) status: String,
    pub(super) started: Timestamp,
    pub(super) ended: Option<Timestamp>,
}

#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Account {
    uploaded: u64,
    poisoned: u64,
    notified_twice: u64,
    started: u64,
    /// Executions of the same object beyond its first. There must be none.
    started_twice: u64,
    succeeded: u64,
    /// Of the succeeded ones, those whose device had a newer write already.
    superseded: u64,
    running: u64,
    /// Those that ended as a dead letter, with or without an execution.
    dead: u64,
    /// Of these, those that nothing was wrong with.
    dead_but_good: u64,
    /// Nothing is known of them.
    missing: u64,
    /// From the upload to the end of the execution, in seconds.
    p50: Option<f64>,
    p90: Option<f64>,
    p99: Option<f64>,
    #[serde(skip)]
    pub(super) started_at: Vec<Timestamp>,
    #[serde(skip)]
    pub(super) latencies: Vec<f64>,
}

pub(super) async fn take(
    stack: &Stack,
    uploaded: &[Uploaded],
    begin: Timestamp,
) -> Result<Account, Failure> {
    let executions = stack.executions_since(begin).await?;
    let executions: Vec<Listed> = executions
        .into_iter()
        .map(|(name, status, started, ended)| Listed { name, status, started, ended })
        .collect();
    let dead = dead_lettered(stack, uploaded, begin).await?;
    let mut account = Account::of(uploaded, &executions, &dead);
    if account.is_settled() {
        for name in may_be_superseded(uploaded, &executions) {
            if stack.outcome(name).await?.as_deref() == Some("superseded") {
                account.superseded += 1;
            }
        }
    }
    Ok(account)
}

/// The ids that the consumer has sent to the dead-letter queue, by its log: a look into the queue
/// would count as a receive.
async fn dead_lettered(
    stack: &Stack,
    uploaded: &[Uploaded],
    begin: Timestamp,
) -> Result<HashSet<String>, Failure> {
    let back = since(begin, Timestamp::now());
    let found = stack.log_lines("ConsumerFunctionName", "consumer", "dead-lettered", back).await?;
    let ours = ids(uploaded);
    let lines = found.lines.iter().map(|line| line.text("event.id"));
    Ok(lines.filter(|id| ours.contains(id)).map(str::to_owned).collect())
}

/// Executions that may have ended as superseded: that of a newer write of the device came before.
/// The others cannot have, and need not be asked for.
fn may_be_superseded<'a>(uploaded: &[Uploaded], executions: &'a [Listed]) -> Vec<&'a str> {
    let by_name: HashMap<&str, &Listed> =
        executions.iter().map(|execution| (execution.name.as_str(), execution)).collect();
    let mut newer_ended: HashMap<&str, Timestamp> = HashMap::new();
    let mut names = Vec::new();
    // Newest upload first.
    for upload in uploaded.iter().rev() {
        let Some(execution) = by_name.get(upload.id.as_str()) else { continue };
        let Some(ended) = execution.ended.filter(|_| execution.status == "SUCCEEDED") else {
            continue;
        };
        let earliest = newer_ended.entry(&upload.write.device).or_insert(Timestamp::MAX);
        // Times are to the millisecond, and tell nothing within one.
        if *earliest <= ended {
            names.push(execution.name.as_str());
        }
        *earliest = ended.min(*earliest);
    }
    names
}

impl Account {
    pub(super) fn of(
        uploaded: &[Uploaded],
        executions: &[Listed],
        dead_lettered: &HashSet<String>,
    ) -> Self {
        let mut by_id: HashMap<&str, Vec<&Listed>> = HashMap::new();
        for execution in executions {
            let id = execution.name.split_once("-r").map_or(execution.name.as_str(), |(id, _)| id);
            by_id.entry(id).or_default().push(execution);
        }
        let mut account = Self { uploaded: uploaded.len() as u64, ..Self::default() };
        for Uploaded { id, write, at } in uploaded {
            account.poisoned += u64::from(write.is_poison);
            account.notified_twice += u64::from(write.is_notified_twice);
            let of_it = by_id.get(id.as_str()).map(Vec::as_slice).unwrap_or_default();
            let first = of_it.iter().filter(|execution| execution.name == *id).count() as u64;
            account.started += first.min(1);
            account.started_twice += first.saturating_sub(1);
            account.started_at.extend(of_it.iter().map(|execution| execution.started).min());
            let is = |status: &str| of_it.iter().find(|execution| execution.status == status);
            if let Some(execution) = is("SUCCEEDED") {
                account.succeeded += 1;
                let ended = execution.ended.map(|ended| since(*at, ended).as_secs_f64());
                account.latencies.extend(ended);
            } else if is("RUNNING").is_some() {
                account.running += 1;
            } else if !of_it.is_empty() || dead_lettered.contains(id) {
                account.dead += 1;
                account.dead_but_good += u64::from(!write.is_poison);
            } else {
                account.missing += 1;
            }
        }
        account.started_at.sort_unstable();
        account.latencies.sort_by(f64::total_cmp);
        account.p50 = account.percentile(50);
        account.p90 = account.percentile(90);
        account.p99 = account.percentile(99);
        account
    }

    /// Nearest rank.
    fn percentile(&self, percent: usize) -> Option<f64> {
        let rank = (self.latencies.len() * percent).div_ceil(100);
        self.latencies.get(rank.saturating_sub(1)).copied()
    }

    pub(super) fn is_settled(&self) -> bool {
        self.running + self.missing == 0
    }

    pub(super) fn adds_up(&self) -> bool {
        self.is_settled()
            && self.started_twice == 0
            && self.dead_but_good == 0
            && self.succeeded + self.dead == self.uploaded
    }

    /// What changes while the end is waited for.
    pub(super) fn counts(&self) -> [u64; 4] {
        [self.succeeded, self.dead, self.running, self.missing]
    }

    pub(super) fn so_far(&self) -> String {
        let [succeeded, dead, running, waiting] = self.counts().map(number);
        format!("{succeeded} succeeded, {dead} dead, {running} running, {waiting} not seen yet")
    }

    pub(super) fn rows(&self) -> Vec<(&'static str, u64, &'static str)> {
        vec![
            ("uploaded", self.uploaded, ""),
            ("poisoned on purpose", self.poisoned, ""),
            ("notified of twice on purpose", self.notified_twice, ""),
            ("executions started", self.started, ""),
            ("started twice", self.started_twice, "this must never happen"),
            ("succeeded", self.succeeded, ""),
            ("of these superseded", self.superseded, "a newer write of the device came first"),
            ("still running", self.running, ""),
            ("dead", self.dead, "in the dead-letter queue, each with its reason"),
            ("dead, but not poisoned", self.dead_but_good, "`sluice dead-letters ls` tells why"),
            (
                "missing",
                self.missing,
                "no execution and no dead letter; `sluice reconcile` looks again",
            ),
        ]
    }

    pub(super) fn render(&self) -> String {
        let always = ["uploaded", "executions started", "succeeded", "dead", "missing"];
        let rows = self.rows().into_iter().filter(|row| row.1 > 0 || always.contains(&row.0));
        let rows: Vec<_> = rows
            .map(|(name, count, note)| {
                let is_bad = matches!(name, "started twice" | "dead, but not poisoned" | "missing");
                let digits = number(count);
                let digits = match (is_bad && count > 0, name == "still running") {
                    (true, _) => paint(BAD, digits),
                    (_, true) => paint(CAUTION, digits),
                    _ => digits,
                };
                vec![
                    name.to_owned(),
                    digits,
                    if count > 0 { note.to_owned() } else { String::new() },
                ]
            })
            .collect();
        let mut text = columns(&rows, &[1]);
        if let (Some(p50), Some(p90), Some(p99)) = (self.p50, self.p90, self.p99) {
            let times =
                format!("\n  from upload to end: p50 {p50:.2} s, p90 {p90:.2} s, p99 {p99:.2} s\n");
            text.push_str(&times);
        }
        text.push_str(if self.adds_up() { "\n  " } else { "\n  it does not add up: " });
        text.push_str(&self.verdict());
        text
    }

    pub(super) fn verdict(&self) -> String {
        if self.adds_up() {
            return paint(GOOD, "it adds up: every object has exactly one end");
        }
        let mut problems = Vec::new();
        for (count, what) in [
            (self.missing, "missing"),
            (self.running, "still running"),
            (self.started_twice, "started twice"),
            (self.dead_but_good, "dead without having been poisoned"),
        ] {
            if count > 0 {
                problems.push(format!("{} {what}", number(count)));
            }
        }
        paint(BAD, problems.join(", "))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    fn upload(id: &str, device: &str, second: i64) -> Uploaded {
        let write = Write {
            device: device.into(),
            key: format!("devices/{device}"),
            body: String::new(),
            is_poison: id.starts_with("poison"),
            is_notified_twice: false,
        };
        Uploaded { id: id.into(), write, at: at(second) }
    }

    fn execution(name: &str, status: &str, started: i64, ended: i64) -> Listed {
        Listed {
            name: name.into(),
            status: status.into(),
            started: at(started),
            ended: Some(at(ended)),
        }
    }

    fn uploads() -> Vec<Uploaded> {
        vec![
            upload("a", "1", 0),
            upload("b", "1", 1),
            upload("poison-1", "1", 2),
            upload("poison-2", "2", 3),
        ]
    }

    fn dead() -> HashSet<String> {
        HashSet::from(["poison-1".to_owned()])
    }

    #[test]
    fn every_object_is_counted_once_and_it_adds_up() {
        let executions = [
            execution("a", "SUCCEEDED", 1, 4),
            execution("b", "SUCCEEDED", 2, 3),
            execution("poison-2", "FAILED", 4, 5),
            execution("somebody-else", "SUCCEEDED", 1, 2),
        ];
        let account = Account::of(&uploads(), &executions, &dead());
        assert_eq!((account.uploaded, account.started, account.succeeded), (4, 3, 2));
        assert_eq!((account.dead, account.poisoned, account.missing), (2, 2, 0));
        assert_eq!((account.p50, account.p99), (Some(2.0), Some(4.0)));
        assert!(account.adds_up());
        // Write b came after a and was through before it.
        assert_eq!(may_be_superseded(&uploads(), &executions), ["a"]);
    }

    #[test]
    fn what_is_missing_dead_or_double_does_not_add_up() {
        let a = || execution("a", "SUCCEEDED", 1, 2);
        let b = || execution("b", "SUCCEEDED", 2, 3);
        let poison = || execution("poison-2", "FAILED", 4, 5);
        let verdict = |executions: &[Listed], dead: &HashSet<String>| {
            let account = Account::of(&uploads(), executions, dead);
            assert!(!account.adds_up());
            anstream::adapter::strip_str(&account.verdict()).to_string()
        };
        assert_eq!(verdict(&[a(), poison()], &dead()), "1 missing");
        assert_eq!(verdict(&[a(), b(), poison()], &HashSet::new()), "1 missing");
        assert_eq!(verdict(&[a(), b(), b(), poison()], &dead()), "1 started twice");
        let running = execution("b", "RUNNING", 2, 3);
        assert_eq!(verdict(&[a(), running, poison()], &dead()), "1 still running");
        let failed = execution("b", "FAILED", 2, 3);
        assert_eq!(
            verdict(&[a(), failed, poison()], &dead()),
            "1 dead without having been poisoned"
        );
    }

    #[test]
    fn a_redrive_of_the_same_object_is_no_second_start() {
        let executions = [
            execution("a", "FAILED", 1, 2),
            execution("a-r1", "SUCCEEDED", 5, 6),
            execution("b", "SUCCEEDED", 2, 3),
            execution("poison-2", "FAILED", 4, 5),
        ];
        let account = Account::of(&uploads(), &executions, &dead());
        assert_eq!((account.started, account.started_twice, account.succeeded), (3, 0, 2));
        assert!(account.adds_up());
    }
}
