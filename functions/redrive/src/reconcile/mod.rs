//! Mode `reconcile`: what was written to the bucket, against what became of it.
//!
//! Notifications, status changes and people fail in ways that no hop can see. The bucket itself and
//! Step Functions know better: a listing of the versions, from which the names of the executions are
//! computed, a listing of the executions, the names of the archive's documents, and what the
//! dead-letter queues hold. A version of which none of them knows is missing, and is put on the work
//! queue: should it turn up after all, it collapses with its repeat, because ids are deterministic.

mod effort;
mod entries;
mod ledger;
mod progress;
mod ranges;
mod uploads;

use std::{collections::HashSet, mem, time::Duration};

use aws_sdk_s3::error::{ProvideErrorMetadata, SdkError};
use futures::{StreamExt, future::try_join_all, stream};
use jiff::{SignedDuration, Timestamp};
use messages::{Event, EventId, Version};
use platform::{InWords, Message, Pacer};
use serde::{Deserialize, Serialize};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

pub(crate) use self::entries::ENTRY_BYTES;
pub use self::{
    effort::Effort,
    ledger::{Ledger, Missing},
    uploads::Uploads,
};
use self::{
    entries::{End, Entries, Fact},
    progress::{Phase, Progress},
    ranges::Ranges,
    uploads::Written,
};
use crate::{
    Archive, DeadLetterQueue, Error, Redriver,
    archive::{ArchiveError, day},
    dead_letters::MAX_MESSAGES,
    error::may_pass,
    executions::Listed,
};

/// Where the ledgers of the nights are, and what runs that are not over have found out.
pub(crate) const FOLDER: &str = "ledger/";

/// How long Step Functions remembers an execution that has ended, and its name:
/// <https://docs.aws.amazon.com/step-functions/latest/dg/service-quotas.html>.
const REMEMBERED: SignedDuration = SignedDuration::from_hours(90 * 24);

/// An execution may be listed with a time a little before that of the write, by another clock.
const CLOCK_SKEW: SignedDuration = SignedDuration::from_mins(5);

/// How long to wait before a call is made again that may work later.
const PAUSE: Duration = Duration::from_secs(1);

/// Documents read at once.
const CONCURRENCY: usize = 8;

/// For how long the letters of a dead-letter queue are looked at, and for how long they are hidden
/// meanwhile.
const LOOK: Duration = Duration::from_mins(2);
const HIDDEN_SECONDS: i32 = 150;

/// What a run is about.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Scope {
    /// Versions written then or later, and before `until`.
    pub(crate) since: Timestamp,
    pub(crate) until: Timestamp,
    pub(crate) prefix: String,
    /// Whether to put what is missing on the work queue.
    pub(crate) fix: bool,
    /// The same for versions of which Step Functions has forgotten whether they were started.
    pub(crate) start_forgotten: bool,
    pub(crate) max_per_second: Option<u32>,
}

/// Which run to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reconcile {
    /// Tonight's, be it from the beginning or from where an earlier one has stopped.
    Nightly(Scope),
    ByHand(Scope),
    /// One that has stopped: its `next`.
    Continued(String),
}

/// Why a run cannot go on now.
enum Stop {
    /// The next run goes on.
    Deadline,
    Failed(Error),
}

type Step<T> = Result<T, Stop>;

/// A run.
pub(crate) struct Reconciler<'a> {
    pub(crate) redriver: &'a Redriver,
    pub(crate) uploads: &'a Uploads,
    pub(crate) now: Timestamp,
    /// Nothing is begun after this.
    pub(crate) stop_by: Instant,
    /// Nothing is under way after this.
    pub(crate) end_by: Instant,
}

impl Reconciler<'_> {
    pub(crate) async fn run(&self, request: Reconcile) -> Result<Ledger, Error> {
        let archive = &self.redriver.archive;
        let (mut progress, saved_as, nightly) = match request {
            Reconcile::Continued(key) => match archive.bytes(&key).await {
                Ok(bytes) => (Progress::load(&bytes)?, key, false),
                Err(ArchiveError::Missing(key)) => {
                    return Err(Error::Request(format!("`next`: no run has stopped at {key}")));
                }
                Err(error) => return Err(Error::Archive(error)),
            },
            Reconcile::ByHand(scope) => {
                let key = format!("{FOLDER}by-hand/{}-{:08x}", self.now, fastrand::u32(..));
                (Progress::new(scope), key, false)
            }
            Reconcile::Nightly(scope) => {
                let night = self.night();
                if let Some(ledger) = self.closed_already(&night).await? {
                    return Ok(ledger);
                }
                let key = format!("{night}.progress");
                let progress = match archive.bytes(&key).await {
                    // Another version may have saved it, before a deployment.
                    Ok(bytes) => Progress::load(&bytes).unwrap_or_else(|error| {
                        warn!(s3.key = key, "{error}; the ledger of this night begins anew");
                        Progress::new(scope)
                    }),
                    Err(ArchiveError::Missing(_)) => Progress::new(scope),
                    Err(error) => return Err(Error::Archive(error)),
                };
                (progress, key, true)
            }
        };
        let begin = Instant::now();
        let result = self.go_on(&mut progress).await;
        let duration = u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX);
        progress.ledger.duration_ms = progress.ledger.duration_ms.saturating_add(duration);
        match result {
            Ok(()) => progress.ledger.finish(true, None),
            Err(Stop::Deadline) => {
                let saved = archive.save(&saved_as, progress.save()?);
                saved.await.map_err(Error::Archive)?;
                progress.ledger.finish(false, Some(saved_as));
            }
            Err(Stop::Failed(error)) => return Err(error),
        }
        let ledger = progress.ledger;
        if nightly && ledger.complete {
            let document = serde_json::to_vec(&ledger).map_err(ArchiveError::Json);
            let document = document.map_err(Error::Archive)?;
            let key = format!("{}.json", self.night());
            archive.save(&key, document).await.map_err(Error::Archive)?;
            ledger.publish(&self.redriver.metrics, self.now);
        }
        log(&ledger);
        Ok(ledger)
    }

    /// The name of what belongs to this night.
    fn night(&self) -> String {
        format!("{FOLDER}{}", day(self.now, &self.redriver.config.time_zone))
    }

    /// Tonight's ledger, if another run has come to its end. The schedule invokes several.
    async fn closed_already(&self, night: &str) -> Result<Option<Ledger>, Error> {
        match self.redriver.archive.bytes(&format!("{night}.json")).await {
            Ok(bytes) => {
                let ledger = serde_json::from_slice(&bytes).map_err(ArchiveError::Json);
                ledger.map(Some).map_err(Error::Archive)
            }
            Err(ArchiveError::Missing(_)) => Ok(None),
            Err(error) => Err(Error::Archive(error)),
        }
    }

    async fn go_on(&self, progress: &mut Progress) -> Step<()> {
        let pacer = progress.scope.max_per_second.map(Pacer::new);
        loop {
            let phase = progress.phase.clone();
            progress.phase = match phase {
                Phase::Writes(ranges) => self.list_writes(progress, ranges).await?,
                Phase::Executions(token) => self.list_executions(progress, token).await?,
                Phase::Count => self.count(progress).await?,
                Phase::Name(ranges) => {
                    let ranges = self.name(progress, ranges, pacer.as_ref()).await?;
                    if !ranges.is_empty() {
                        Phase::Name(ranges)
                    } else if progress.rest.is_empty() {
                        return Ok(());
                    } else {
                        progress.entries = Entries::default();
                        progress.begin = mem::take(&mut progress.rest);
                        Phase::Writes(progress.begin.clone())
                    }
                }
            };
        }
    }

    /// A page of each of the ranges whose turn it is, in the order of their keys. The ranges then go
    /// on behind it.
    async fn list(&self, scope: &Scope, ranges: &mut Ranges) -> Step<Vec<Written>> {
        let prefix = self.prefix(scope);
        let pages = ranges
            .front()
            .map(|range| self.patiently(async || self.uploads.page(prefix, range).await));
        let pages = try_join_all(pages).await?;
        let (written, next): (Vec<_>, Vec<_>) =
            pages.into_iter().map(|page| (page.written, page.next)).unzip();
        ranges.go_on(next);
        Ok(written.into_iter().flatten().collect())
    }

    /// Some pages of what was written, to the entries of this part of the bucket.
    async fn list_writes(&self, progress: &mut Progress, mut ranges: Ranges) -> Step<Phase> {
        let Scope { since, until, .. } = progress.scope;
        for written in self.list(&progress.scope, &mut ranges).await? {
            if written.at < since || written.at >= until || !self.uploads.include(&written) {
                continue;
            }
            progress.ledger.versions += 1;
            match &written.version_id {
                None => {
                    progress.ledger.unknown += 1;
                    progress.ledger.without_version += 1;
                }
                Some(_) if self.is_forgotten(&progress.scope, &written) => {
                    progress.ledger.unknown += 1;
                    progress.ledger.forgotten += 1;
                }
                Some(version_id) => {
                    let id = EventId::of_write(&self.uploads.bucket, &written.key, version_id);
                    progress.entries.push(&id, written.at, self.now);
                }
            }
        }
        if !ranges.is_empty() && progress.entries.len() < self.redriver.config.most_entries {
            return Ok(Phase::Writes(ranges));
        }
        progress.rest = ranges;
        progress.entries.sort();
        // What was never written was never started.
        let is_empty = progress.entries.len() == 0;
        Ok(if is_empty { Phase::Count } else { Phase::Executions(None) })
    }

    /// What is listed. Nothing outside of the prefix of the stack is an upload.
    fn prefix<'s>(&'s self, scope: &'s Scope) -> &'s str {
        if scope.prefix.is_empty() { &self.uploads.key_prefix } else { &scope.prefix }
    }

    /// Whether Step Functions may have forgotten the execution of this write, so that its silence
    /// says nothing.
    fn is_forgotten(&self, scope: &Scope, written: &Written) -> bool {
        !scope.start_forgotten && self.now.duration_since(written.at) > REMEMBERED
    }

    /// A page of executions, the newest first. Those from before the window are about other writes.
    async fn list_executions(&self, progress: &mut Progress, token: Option<String>) -> Step<Phase> {
        let executions = &self.redriver.executions;
        let (page, next) = self.patiently(async || executions.page(token.clone()).await).await?;
        let begin = progress.scope.since.saturating_sub(CLOCK_SKEW).unwrap_or(Timestamp::MIN);
        let reaches_back = page.last().is_none_or(|last| last.last_seen() >= begin);
        for listed in page {
            if let Some((id, fact)) = fact(&listed, self.now) {
                progress.entries.note(&id, fact, self.now);
            }
        }
        match next {
            Some(next) if reaches_back => Ok(Phase::Executions(Some(next))),
            _ => Ok(Phase::Count),
        }
    }

    /// Looks at the documents and, where that is not enough, into the dead-letter queues, and counts
    /// how many writes have which end.
    async fn count(&self, progress: &mut Progress) -> Step<Phase> {
        let mut hidden = 0;
        if has_open_ends(&progress.entries) {
            self.note_documents(progress).await?;
        }
        if has_open_ends(&progress.entries) {
            hidden += self.note_letters(&mut progress.entries).await?;
            let work_queue = &self.redriver.work_queue;
            hidden += self.patiently(async || work_queue.depth().await).await?.messages;
        }
        let missing_before = progress.ledger.missing;
        let (mut old, mut young) = (0, 0);
        for end in progress.entries.ends() {
            progress.ledger.add(end);
            match end {
                End::None { may_wait: true } => young += 1,
                End::None { may_wait: false } => old += 1,
                _ => {}
            }
        }
        // If all of them can be on the queue, nobody can tell whether one is not.
        let all_may_wait = young <= hidden;
        progress.entries.miss(!all_may_wait);
        if all_may_wait {
            progress.ledger.waiting += young;
            progress.ledger.missing += old;
        } else {
            progress.ledger.missing += old + young;
        }
        // What the part holds is listed once more only for what is to be named.
        let is_missing = progress.ledger.missing > missing_before;
        Ok(Phase::Name(if is_missing {
            progress.begin.without(&progress.rest)
        } else {
            Ranges::default()
        }))
    }

    /// Notes what the documents of the archive are about. A write has its document on the day of its
    /// message or later.
    async fn note_documents(&self, progress: &mut Progress) -> Step<()> {
        let Redriver { archive, config, .. } = self.redriver;
        let mut after = Archive::before_day(progress.scope.since, &config.time_zone);
        loop {
            let (keys, is_last) = self.patiently(async || archive.page(&after).await).await?;
            let mut documents = stream::iter(&keys)
                .map(async |key| archive.given_up_in(key).await)
                .buffer_unordered(CONCURRENCY);
            while let Some(events) = documents.next().await {
                self.check_time()?;
                for event in events.map_err(|error| Stop::Failed(Error::Archive(error)))? {
                    progress.entries.note(&event.id, Fact::Archived(event.attempt), self.now);
                }
            }
            drop(documents);
            match keys.last() {
                Some(last) if !is_last => after.clone_from(last),
                _ => return Ok(()),
            }
        }
    }

    /// Notes what the dead letters are about, without taking one away. Returns how many letters may
    /// be there that were not seen.
    async fn note_letters(&self, entries: &mut Entries) -> Step<u64> {
        let Redriver { dead_letter_queue, other_dead_letter_queue, .. } = self.redriver;
        let mut unseen = 0;
        for queue in [Some(dead_letter_queue), other_dead_letter_queue.as_ref()] {
            let Some(queue) = queue else { continue };
            let seen = self.note_letters_of(queue, entries).await?;
            let depth = self.patiently(async || queue.depth().await).await?;
            unseen += depth.messages.saturating_sub(seen);
        }
        Ok(unseen)
    }

    /// How many letters were seen.
    async fn note_letters_of(&self, queue: &DeadLetterQueue, entries: &mut Entries) -> Step<u64> {
        let until = self.stop_by.min(Instant::now() + LOOK);
        let mut receipts = Vec::new();
        let mut seen = HashSet::new();
        let mut empty_answers = 0;
        while empty_answers < 2 && Instant::now() < until {
            let receive = queue.receive(MAX_MESSAGES, HIDDEN_SECONDS);
            let letters = match timeout_at(until, receive).await {
                Ok(Ok(letters)) => letters,
                Ok(Err(error)) if error.is_over_limit() => break,
                Ok(Err(error)) if !error.may_pass() => return Err(Stop::Failed(error)),
                Ok(Err(_)) => {
                    sleep(PAUSE).await;
                    continue;
                }
                Err(_) => break,
            };
            empty_answers = if letters.is_empty() { empty_answers + 1 } else { 0 };
            for letter in letters {
                let failed =
                    letter.failed_execution.as_ref().and_then(|failed| failed.name.as_deref());
                let failed = failed.and_then(Event::read_execution_name).map(|(id, _)| id);
                let events = messages::decode(&letter.body).into_iter().filter_map(Result::ok);
                for id in events.map(|event| event.id).chain(failed) {
                    entries.note(&id, Fact::InLetter, self.now);
                }
                seen.insert(letter.message_id);
                receipts.push(letter.receipt_handle);
            }
        }
        for receipts in receipts.chunks(usize::from(MAX_MESSAGES)) {
            let receipts: Vec<&str> = receipts.iter().map(String::as_str).collect();
            // A letter that is not released shows again by itself.
            drop(timeout_at(self.end_by, queue.release(&receipts)).await);
        }
        Ok(seen.len() as u64)
    }

    /// Names what is missing on some pages of the listing, and puts it on the work queue. Returns
    /// where to go on.
    async fn name(
        &self,
        progress: &mut Progress,
        mut ranges: Ranges,
        pacer: Option<&Pacer>,
    ) -> Step<Ranges> {
        let written = self.list(&progress.scope, &mut ranges).await?;
        let missing: Vec<(&Written, Event)> = written
            .iter()
            .filter_map(|written| {
                let mut event = self.event(written)?;
                event.attempt = progress.entries.missing(&event.id)?;
                Some((written, event))
            })
            .collect();
        for batch in missing.chunks(usize::from(MAX_MESSAGES)) {
            if progress.scope.fix {
                self.send(progress, batch, pacer).await?;
            }
            for (written, event) in batch {
                progress.name(written, event);
            }
        }
        Ok(ranges)
    }

    /// The event of a write, if its id can be computed.
    fn event(&self, written: &Written) -> Option<Event> {
        let Uploads { region, bucket, .. } = self.uploads;
        let Written { key, version_id, e_tag, size, at } = written;
        let version_id = version_id.as_deref()?;
        let (size, written) = (*size, *at);
        Some(Event::from(Version { region, bucket, key, version_id, e_tag, size, written }))
    }

    /// Puts missing events on the work queue. Those that it confirms are missing no more.
    async fn send(
        &self,
        progress: &mut Progress,
        missing: &[(&Written, Event)],
        pacer: Option<&Pacer>,
    ) -> Step<()> {
        self.check_time()?;
        if let Some(pacer) = pacer {
            let turns = timeout_at(self.stop_by, pacer.turns(missing.len()));
            turns.await.map_err(|_| Stop::Deadline)?;
        }
        let segments = self.redriver.config.group_key_segments;
        let messages = missing.iter().map(|(_, event)| Message::of_event(event, segments));
        let messages = messages.collect::<Result<Vec<_>, _>>().map_err(ArchiveError::Json);
        let messages = messages.map_err(|error| Stop::Failed(Error::Archive(error)))?;
        let answers = self.redriver.work_queue.send(messages, self.end_by).await;
        for ((_, event), answer) in missing.iter().zip(answers) {
            match answer {
                Ok(()) => {
                    progress.entries.found(&event.id);
                    progress.ledger.fixed += 1;
                }
                Err(error) => {
                    warn!(event.id = event.id.as_str(), %error, "the work queue did not take it");
                }
            }
        }
        Ok(())
    }

    fn check_time(&self) -> Step<()> {
        if Instant::now() < self.stop_by { Ok(()) } else { Err(Stop::Deadline) }
    }

    /// Makes a call again for which waiting may help, until the time is up.
    async fn patiently<T, E>(&self, call: impl AsyncFn() -> Result<T, SdkError<E>>) -> Step<T>
    where
        E: ProvideErrorMetadata + std::error::Error + 'static,
    {
        loop {
            self.check_time()?;
            match timeout_at(self.end_by, call()).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) if may_pass(&error) => {
                    info!(error = %InWords(&error), "a call failed, and is made again");
                    sleep(PAUSE.mul_f64(0.5 + fastrand::f64())).await;
                }
                Ok(Err(error)) => return Err(Stop::Failed(refused(&error))),
                Err(_) => return Err(Stop::Deadline),
            }
        }
    }
}

/// Whether something is left for which it matters what else is known.
fn has_open_ends(entries: &Entries) -> bool {
    entries.ends().any(|end| matches!(end, End::None { .. }))
}

/// What an execution says about its event. None if no message of Sluice has started it.
fn fact(listed: &Listed, now: Timestamp) -> Option<(EventId, Fact)> {
    use aws_sdk_sfn::types::ExecutionStatus;
    let (id, attempt) = Event::read_execution_name(&listed.name)?;
    let fact = match &listed.status {
        ExecutionStatus::Succeeded => Fact::Succeeded,
        ExecutionStatus::Running | ExecutionStatus::PendingRedrive => Fact::Running,
        ExecutionStatus::Aborted => Fact::Aborted,
        _ => Fact::Failed(attempt, listed.stopped.unwrap_or(now)),
    };
    Some((id, fact))
}

fn refused<E>(error: &SdkError<E>) -> Error
where
    E: ProvideErrorMetadata + std::error::Error + 'static,
{
    let words = InWords(error).to_string();
    Error::Reconcile(match error.code() {
        Some("StateMachineTypeNotSupported") => {
            "the executions of an EXPRESS state machine cannot be listed, so nobody can tell what \
             became of a write"
                .to_owned()
        }
        _ => words,
    })
}

fn log(ledger: &Ledger) {
    let text = serde_json::to_string(ledger).unwrap_or_default();
    if ledger.missing > 0 {
        warn!(ledger = text, ledger.missing = ledger.missing, "reconcile found writes missing");
    } else if ledger.complete {
        info!(ledger = text, "reconcile done");
    } else {
        warn!(ledger = text, "reconcile stopped before its end");
    }
}
