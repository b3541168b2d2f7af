use std::{fmt::Display, ops::RangeInclusive, time::Duration};

use jiff::{SignedDuration, Timestamp, Zoned};
use serde::Deserialize;

use crate::{
    Config, Error, archive, config,
    fate::Fate,
    reconcile::{self, Reconcile, Scope},
    restore::{Documents, RestoreRequest},
};

/// What an invocation is to do: its event over the defaults of the environment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Request {
    /// Boxed, because it is much larger than the others.
    Selective(Box<Selection>),
    Managed {
        max_per_second: Option<u32>,
    },
    Restore(RestoreRequest),
    /// How the newest move task is doing.
    MoveState,
    /// Stops the move task that is under way.
    CancelMove,
    Reconcile(Reconcile),
}

/// What a selective run is to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Selection {
    /// Only say what would be done.
    pub(crate) dry_run: bool,
    /// Messages enqueued before this are selected.
    pub(crate) before: Timestamp,
    pub(crate) max_messages: Option<u64>,
    pub(crate) max_per_second: Option<u32>,
    pub(crate) max_redrives: u64,
    pub(crate) canary_messages: u64,
    /// Whether EventBridge has started the run, and no person.
    pub(crate) nightly: bool,
    /// Archive what is selected, and send nothing.
    pub(crate) archive: bool,
    /// Only messages enqueued then or later.
    pub(crate) since: Option<Timestamp>,
    /// Only messages with this `errorClass`.
    pub(crate) error_class: Option<String>,
    /// Only messages about an object whose key begins with this.
    pub(crate) key_prefix: Option<String>,
    /// Only messages with one of these as their id, or as that of an event of theirs.
    pub(crate) ids: Option<Vec<String>>,
}

/// The invocation event of a person. A field that is misspelt must not be taken for a default.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Overrides {
    #[serde(default)]
    mode: Mode,
    keys: Option<Vec<String>>,
    prefix: Option<String>,
    dry_run: Option<bool>,
    before: Option<String>,
    max_messages: Option<u64>,
    max_per_second: Option<u32>,
    max_redrives: Option<u64>,
    canary_messages: Option<u64>,
    error_class: Option<String>,
    key_prefix: Option<String>,
    ids: Option<Vec<String>>,
    older_than_hours: Option<u32>,
    newer_than_hours: Option<u32>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    fix: Option<bool>,
    start_forgotten: Option<bool>,
    /// Said by the schedule.
    nightly: Option<bool>,
    next: Option<String>,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
enum Mode {
    #[default]
    Selective,
    Archive,
    Managed,
    MoveState,
    CancelMove,
    Restore,
    Reconcile,
}

/// How long ago a write must be to be in a ledger, unless somebody asks for later ones: most events
/// have arrived by then.
const SETTLED_AFTER: Duration = Duration::from_hours(1);

/// The fields by which the event of an EventBridge rule or schedule is known.
#[derive(Debug, Deserialize)]
struct Scheduled {
    source: String,
    #[serde(rename = "detail-type")]
    _detail_type: String,
}

impl Selection {
    /// Whether the report is to say of a letter that it is there, and not only what became of it:
    /// what a dry run selects, and where letters are selected by class, which other classes there
    /// are.
    pub(crate) fn describes(&self, fate: &Fate) -> bool {
        match fate {
            Fate::TooNew => false,
            Fate::Filtered => self.error_class.is_some(),
            _ => self.dry_run || self.error_class.is_some(),
        }
    }
}

impl Request {
    pub(crate) fn read(event: &str, config: &Config, now: Timestamp) -> Result<Self, Error> {
        let nightly = is_scheduled(event);
        let overrides = if nightly { Overrides::default() } else { overrides(event)? };
        overrides.check_mode()?;
        let max_messages = within("maxMessages", overrides.max_messages, &config::MESSAGES)?;
        let rate = within("maxPerSecond", overrides.max_per_second, &config::PER_SECOND)?;
        let max_per_second = rate.or(config.max_per_second);
        if matches!(overrides.mode, Mode::Reconcile) {
            return overrides.reconcile(max_per_second, config, now).map(Self::Reconcile);
        }
        match (overrides.mode, overrides.keys, overrides.prefix) {
            (Mode::Selective | Mode::Archive | Mode::Reconcile, ..) => {}
            (Mode::Managed, ..) => return Ok(Self::Managed { max_per_second }),
            (Mode::MoveState, ..) => return Ok(Self::MoveState),
            (Mode::CancelMove, ..) => return Ok(Self::CancelMove),
            (Mode::Restore, keys, prefix) => {
                return Ok(Self::Restore(RestoreRequest {
                    documents: read_documents(keys, prefix)?,
                    dry_run: overrides.dry_run.unwrap_or(false),
                    max_per_second,
                    max_messages,
                }));
            }
        }
        let max_redrives = within("maxRedrives", overrides.max_redrives, &config::REDRIVES)?;
        let canaries = within("canaryMessages", overrides.canary_messages, &config::CANARIES)?;
        for (field, text) in
            [("errorClass", &overrides.error_class), ("keyPrefix", &overrides.key_prefix)]
        {
            if text.as_deref() == Some("") {
                let problem = format!("`{field}`: expected a name, found none");
                return Err(Error::Request(problem));
            }
        }
        let hours_ago = |hours: u32| now.checked_sub(Duration::from_secs(u64::from(hours) * 3_600));
        let hours_ago = |field: &str, hours| {
            hours_ago(hours).map_err(|error| Error::Request(format!("`{field}`: {error}")))
        };
        let before = match (&overrides.before, overrides.older_than_hours) {
            (Some(_), Some(_)) => {
                let problem = "`olderThanHours`: has no effect beside `before`";
                return Err(Error::Request(problem.to_owned()));
            }
            (_, Some(hours)) => hours_ago("olderThanHours", hours)?,
            (before, None) => {
                read_before(before.as_deref().unwrap_or("start-of-day"), config, now)?
            }
        };
        let since = overrides.newer_than_hours.map(|hours| hours_ago("newerThanHours", hours));
        let archive = overrides.mode == Mode::Archive;
        let canaries = if archive { Some(0) } else { canaries };
        Ok(Self::Selective(Box::new(Selection {
            dry_run: overrides.dry_run.unwrap_or(false),
            nightly,
            archive,
            before,
            since: since.transpose()?,
            max_messages: max_messages.or(config.max_messages),
            max_per_second,
            max_redrives: max_redrives.unwrap_or(config.max_redrives),
            canary_messages: canaries.unwrap_or(config.canary_messages),
            error_class: overrides.error_class,
            key_prefix: overrides.key_prefix,
            ids: overrides.ids,
        })))
    }
}

impl Overrides {
    /// A field that its mode would ignore was meant to do something.
    fn check_mode(&self) -> Result<(), Error> {
        use Mode::{Archive, Managed, Reconcile, Restore, Selective};
        let fields: [(&str, bool, &[Mode]); 19] = [
            ("before", self.before.is_some(), &[Selective, Archive]),
            ("errorClass", self.error_class.is_some(), &[Selective, Archive]),
            ("keyPrefix", self.key_prefix.is_some(), &[Selective, Archive]),
            ("ids", self.ids.is_some(), &[Selective, Archive]),
            ("olderThanHours", self.older_than_hours.is_some(), &[Selective, Archive]),
            ("newerThanHours", self.newer_than_hours.is_some(), &[Selective, Archive]),
            ("maxRedrives", self.max_redrives.is_some(), &[Selective]),
            ("canaryMessages", self.canary_messages.is_some(), &[Selective]),
            ("dryRun", self.dry_run.is_some(), &[Selective, Archive, Restore]),
            ("maxMessages", self.max_messages.is_some(), &[Selective, Archive, Restore]),
            ("keys", self.keys.is_some(), &[Restore]),
            ("prefix", self.prefix.is_some(), &[Restore, Reconcile]),
            (
                "maxPerSecond",
                self.max_per_second.is_some(),
                &[Selective, Managed, Restore, Reconcile],
            ),
            ("since", self.since.is_some(), &[Reconcile]),
            ("until", self.until.is_some(), &[Reconcile]),
            ("fix", self.fix.is_some(), &[Reconcile]),
            ("startForgotten", self.start_forgotten.is_some(), &[Reconcile]),
            ("nightly", self.nightly.is_some(), &[Reconcile]),
            ("next", self.next.is_some(), &[Reconcile]),
        ];
        let ignored = fields.iter().find(|(_, given, modes)| *given && !modes.contains(&self.mode));
        match ignored {
            Some((field, ..)) => {
                let mode = self.mode.name();
                Err(Error::Request(format!("`{field}`: has no effect in mode `{mode}`")))
            }
            None => Ok(()),
        }
    }

    /// Which ledger to make.
    fn reconcile(
        self,
        max_per_second: Option<u32>,
        config: &Config,
        now: Timestamp,
    ) -> Result<Reconcile, Error> {
        let refuse =
            |field: &str, problem: &str| Err(Error::Request(format!("`{field}`: {problem}")));
        if let Some(next) = self.next {
            let others = [
                ("since", self.since.is_some()),
                ("until", self.until.is_some()),
                ("fix", self.fix.is_some()),
                ("startForgotten", self.start_forgotten.is_some()),
                ("prefix", self.prefix.is_some()),
                ("maxPerSecond", self.max_per_second.is_some()),
                ("nightly", self.nightly.is_some()),
            ];
            if let Some((field, _)) = others.iter().find(|(_, given)| *given) {
                return refuse(field, "has no effect beside `next`");
            }
            if !next.starts_with(reconcile::FOLDER) {
                return refuse("next", "expected the `next` of a run that has stopped");
            }
            return Ok(Reconcile::Continued(next));
        }
        let days = SignedDuration::from_hours(i64::from(config.reconcile_days) * 24);
        let until = self.until.unwrap_or(now.saturating_sub(SETTLED_AFTER).unwrap_or(now));
        let since = self.since.unwrap_or(now.saturating_sub(days).unwrap_or(Timestamp::MIN));
        if until > now {
            return refuse("until", "expected a time that has passed");
        }
        if since >= until {
            return refuse("since", "expected a time before `until`");
        }
        let scope = Scope {
            since,
            until,
            prefix: self.prefix.unwrap_or_default(),
            fix: self.fix.unwrap_or(false),
            start_forgotten: self.start_forgotten.unwrap_or(false),
            max_per_second,
        };
        Ok(if self.nightly == Some(true) {
            Reconcile::Nightly(scope)
        } else {
            Reconcile::ByHand(scope)
        })
    }
}

impl Mode {
    fn name(self) -> &'static str {
        match self {
            Self::Selective => "selective",
            Self::Archive => "archive",
            Self::Managed => "managed",
            Self::MoveState => "moveState",
            Self::CancelMove => "cancelMove",
            Self::Restore => "restore",
            Self::Reconcile => "reconcile",
        }
    }
}

/// Whether EventBridge has sent the event, by its rule or by a schedule.
fn is_scheduled(event: &str) -> bool {
    let is_ours = |source: &str| source == "aws.events" || source == "aws.scheduler";
    serde_json::from_str::<Scheduled>(event).is_ok_and(|event| is_ours(&event.source))
}

fn read_documents(keys: Option<Vec<String>>, prefix: Option<String>) -> Result<Documents, Error> {
    match (keys, prefix) {
        (Some(keys), None) => {
            keys.iter().try_for_each(|key| check_in_archive("keys", key))?;
            Ok(Documents::Keys(keys))
        }
        (None, Some(prefix)) => {
            check_in_archive("prefix", &prefix)?;
            Ok(Documents::Prefix(prefix))
        }
        _ => {
            let problem = "mode `restore`: expected either `keys` or `prefix`";
            Err(Error::Request(problem.to_owned()))
        }
    }
}

fn overrides(event: &str) -> Result<Overrides, Error> {
    let mut event = serde_json::Deserializer::from_str(event);
    let read: Result<Option<Overrides>, _> = serde_path_to_error::deserialize(&mut event);
    read.map(Option::unwrap_or_default)
        .map_err(|error| Error::Request(format!("`{}`: {}", error.path(), error.inner())))
}

fn within<N: PartialOrd + Display>(
    name: &str,
    value: Option<N>,
    range: &RangeInclusive<N>,
) -> Result<Option<N>, Error> {
    match value {
        Some(value) if !range.contains(&value) => Err(Error::Request(format!(
            "`{name}`: expected a number from {} to {}, found {value}",
            range.start(),
            range.end()
        ))),
        value => Ok(value),
    }
}

/// A prefix that is too short would restore all there is.
fn check_in_archive(name: &str, key: &str) -> Result<(), Error> {
    if key.starts_with(archive::FOLDER) {
        return Ok(());
    }
    let folder = archive::FOLDER;
    Err(Error::Request(format!("`{name}`: expected what starts with `{folder}`, found `{key}`")))
}

/// `start-of-day` is where the calendar day of the time zone starts, which is not always midnight
/// and not always 24 hours after the last.
fn read_before(text: &str, config: &Config, now: Timestamp) -> Result<Timestamp, Error> {
    let problem = |problem: String| Error::Request(format!("`before`: {problem}"));
    match text {
        "now" => Ok(now),
        "start-of-day" => {
            let now: Zoned = now.to_zoned(config.time_zone.clone());
            let start = now.start_of_day().map_err(|error| problem(error.to_string()))?;
            Ok(start.timestamp())
        }
        time => time.parse().map_err(|error| {
            problem(format!(
                "expected `start-of-day`, `now` or an RFC 3339 time, found `{time}`: {error}"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use jiff::tz::TimeZone;

    use super::*;

    fn read_in(zone: &str, event: &str, now: &str) -> Result<Selection, Error> {
        match read_mode_in(zone, event, now)? {
            Request::Selective(selection) => Ok(*selection),
            other => panic!("{other:?}"),
        }
    }

    fn read_mode_in(zone: &str, event: &str, now: &str) -> Result<Request, Error> {
        let config = Config {
            time_zone: TimeZone::get(zone).expect("zone"),
            max_redrives: 5,
            max_messages: None,
            max_per_second: Some(100),
            canary_messages: 3,
            group_key_segments: 2,
            reconcile_days: 7,
            most_entries: 1_000,
        };
        Request::read(event, &config, now.parse().expect("time"))
    }

    fn read(event: &str) -> Result<Selection, Error> {
        read_in("Asia/Seoul", event, "2026-11-20T21:00:00Z")
    }

    fn error(event: &str) -> String {
        read(event).expect_err("refused").to_string()
    }

    #[test]
    fn the_scheduled_event_means_the_defaults() {
        let event = include_str!("../../../events/scheduled-event.json");
        let request = read(event).expect("accepted");
        assert_eq!(
            request,
            Selection {
                dry_run: false,
                // 21:00 UTC is 06:00 in Seoul, so that day began at 15:00 UTC.
                before: "2026-11-20T15:00:00Z".parse().expect("time"),
                max_messages: None,
                max_per_second: Some(100),
                max_redrives: 5,
                canary_messages: 3,
                nightly: true,
                archive: false,
                since: None,
                error_class: None,
                key_prefix: None,
                ids: None,
            }
        );
        let by_hand = Selection { nightly: false, ..request };
        assert_eq!(read("{}").expect("accepted"), by_hand);
        assert_eq!(read("null").expect("accepted"), by_hand);
    }

    #[test]
    fn a_day_starts_where_the_time_zone_says() {
        let start = |zone, now| read_in(zone, "{}", now).expect("accepted").before.to_string();
        assert_eq!(start("Asia/Seoul", "2026-11-20T14:59:59Z"), "2026-11-19T15:00:00Z");
        assert_eq!(start("America/New_York", "2026-03-08T12:00:00Z"), "2026-03-08T05:00:00Z");
        assert_eq!(start("America/New_York", "2026-03-09T12:00:00Z"), "2026-03-09T04:00:00Z");
        // Clocks went from 24:00 to 01:00: the day had no midnight.
        assert_eq!(start("America/Sao_Paulo", "2018-11-04T12:00:00Z"), "2018-11-04T03:00:00Z");
        assert_eq!(start("Asia/Kathmandu", "2026-11-20T18:15:00Z"), "2026-11-20T18:15:00Z");
    }

    #[test]
    fn a_person_overrides_the_defaults() {
        let request = read(
            r#"{"dryRun": true, "before": "2026-11-01T00:00:00+09:00", "maxMessages": 10,
                "maxPerSecond": 5, "maxRedrives": 9, "canaryMessages": 0, "errorClass": "DeferredTooLong",
                "keyPrefix": "devices/", "ids": ["a"], "newerThanHours": 48}"#,
        );
        assert_eq!(
            request.expect("accepted"),
            Selection {
                dry_run: true,
                before: "2026-10-31T15:00:00Z".parse().expect("time"),
                max_messages: Some(10),
                max_per_second: Some(5),
                max_redrives: 9,
                canary_messages: 0,
                nightly: false,
                archive: false,
                since: Some("2026-11-18T21:00:00Z".parse().expect("time")),
                error_class: Some("DeferredTooLong".to_owned()),
                key_prefix: Some("devices/".to_owned()),
                ids: Some(vec!["a".to_owned()]),
            }
        );
        let now = read(r#"{"before": "now"}"#).expect("accepted").before;
        assert_eq!(now.to_string(), "2026-11-20T21:00:00Z");
        let old = read(r#"{"olderThanHours": 36}"#).expect("accepted").before;
        assert_eq!(old.to_string(), "2026-11-19T09:00:00Z");
    }

    #[test]
    fn a_bad_field_is_named() {
        assert!(error(r#"{"dryrun": true}"#).contains("unknown field `dryrun`, expected"));
        assert!(error(r#"{"maxMessages": "ten"}"#).contains("`maxMessages`: invalid type"));
        assert!(error(r#"{"maxMessages": -1}"#).contains("`maxMessages`: invalid value"));
        for (event, problem) in [
            (r#"{"maxMessages": 0}"#, "`maxMessages`: expected a number from 1 to "),
            (r#"{"maxPerSecond": 0}"#, "`maxPerSecond`: expected a number from 1 to 10000"),
            (r#"{"maxRedrives": 0}"#, "`maxRedrives`: expected a number from 1 to 1000"),
            (r#"{"canaryMessages": 101}"#, "`canaryMessages`: expected a number from 0 to 100"),
            (r#"{"errorClass": ""}"#, "`errorClass`: expected a name"),
            (r#"{"keyPrefix": ""}"#, "`keyPrefix`: expected a name"),
            (r#"{"before": "now", "olderThanHours": 1}"#, "`olderThanHours`: has no effect beside"),
            (r#"{"before": "2026-11-01"}"#, "`before`: expected `start-of-day`, `now` or"),
            (r#"{"source": "aws.s3", "detail-type": "Object Created"}"#, "unknown field `source`"),
        ] {
            assert!(error(event).contains(problem), "{event}: {}", error(event));
        }
        assert!(error(r#"{"before": "yesterday"}"#).contains("found `yesterday`"));
        assert!(error("[]").contains("cannot read the invocation event"));
    }

    #[test]
    fn a_mode_has_its_own_fields() {
        let read = |event| read_mode_in("UTC", event, "2026-11-20T21:00:00Z");
        assert_eq!(
            read(r#"{"mode": "managed", "maxPerSecond": 50}"#).expect("accepted"),
            Request::Managed { max_per_second: Some(50) }
        );
        assert_eq!(
            read(r#"{"mode": "restore", "prefix": "dead-letters/"}"#).expect("accepted"),
            Request::Restore(RestoreRequest {
                documents: Documents::Prefix("dead-letters/".to_owned()),
                dry_run: false,
                max_per_second: Some(100),
                max_messages: None,
            })
        );
        assert_eq!(read(r#"{"mode": "moveState"}"#).expect("accepted"), Request::MoveState);
        assert_eq!(read(r#"{"mode": "cancelMove"}"#).expect("accepted"), Request::CancelMove);
        let error = |event| read(event).expect_err("refused").to_string();
        for (event, problem) in [
            (r#"{"mode": "managed", "dryRun": true}"#, "`dryRun`: has no effect in mode `managed`"),
            (
                r#"{"mode": "restore", "before": "now"}"#,
                "`before`: has no effect in mode `restore`",
            ),
            (
                r#"{"mode": "archive", "canaryMessages": 1}"#,
                "`canaryMessages`: has no effect in mode `archive`",
            ),
            (
                r#"{"mode": "cancelMove", "maxPerSecond": 1}"#,
                "`maxPerSecond`: has no effect in mode `cancelMove`",
            ),
            (r#"{"keys": ["k"]}"#, "`keys`: has no effect in mode `selective`"),
            (r#"{"mode": "restore"}"#, "expected either `keys` or `prefix`"),
            (
                r#"{"mode": "restore", "prefix": ""}"#,
                "`prefix`: expected what starts with `dead-letters/`",
            ),
            (
                r#"{"mode": "restore", "keys": ["dead-letters/a", "b"]}"#,
                "`keys`: expected what starts with `dead-letters/`, found `b`",
            ),
            (r#"{"mode": "fast"}"#, "`mode`: unknown variant `fast`, expected one of"),
        ] {
            assert!(error(event).contains(problem), "{event}: {}", error(event));
        }
    }
}
