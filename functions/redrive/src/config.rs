use std::ops::RangeInclusive;

use jiff::tz::TimeZone;
use platform::Settings;

use crate::reconcile::ENTRY_BYTES;

/// The defaults of a run; an invocation event may override those that a request has.
#[derive(Debug, Clone)]
pub struct Config {
    /// The time zone in which a day starts.
    pub time_zone: TimeZone,
    /// Redrives after which a message is archived instead.
    pub max_redrives: u64,
    /// Messages redriven or archived in one run; none for no limit.
    pub max_messages: Option<u64>,
    /// Rate of a whole run; none for no limit.
    pub max_per_second: Option<u32>,
    /// Messages redriven and watched before the others; 0 for none.
    pub canary_messages: u64,
    /// As the forwarder has it: how many leading segments of the key name the message group.
    pub group_key_segments: usize,
    /// How far back a ledger looks.
    pub reconcile_days: u32,
    /// Writes that a ledger keeps in memory at a time.
    pub most_entries: usize,
}

/// What settings and requests may say.
pub(crate) const REDRIVES: RangeInclusive<u64> = 1..=1_000;
pub(crate) const MESSAGES: RangeInclusive<u64> = 1..=u64::MAX;
pub(crate) const PER_SECOND: RangeInclusive<u32> = 1..=10_000;
pub(crate) const CANARIES: RangeInclusive<u64> = 0..=100;

/// Of a function's memory, one part in so many is for the entries of a ledger: a vector that grows has
/// two others in hand, and a run that stops saves a copy.
pub(crate) const MEMORY_FOR_ENTRIES: usize = 4;

impl Config {
    pub fn read(settings: &Settings<'_>) -> Self {
        let max_messages = settings.number("MAX_MESSAGES", 0, 0..=*MESSAGES.end());
        let rate = settings.number("MAX_PER_SECOND", 0, 0..=*PER_SECOND.end());
        Self {
            time_zone: time_zone(settings),
            max_redrives: settings.number("MAX_REDRIVES", 5, REDRIVES),
            max_messages: (max_messages > 0).then_some(max_messages),
            max_per_second: (rate > 0).then_some(rate),
            canary_messages: settings.number("CANARY_MESSAGES", 3, CANARIES),
            group_key_segments: settings.number("GROUP_KEY_SEGMENTS", 2, 1..=100),
            reconcile_days: settings.number("RECONCILE_DAYS", 7, 1..=90),
            most_entries: Self::most_entries_in(settings.number(
                "AWS_LAMBDA_FUNCTION_MEMORY_SIZE",
                256,
                128..=10_240,
            )),
        }
    }

    pub(crate) fn most_entries_in(megabytes: usize) -> usize {
        megabytes * 1024 * 1024 / MEMORY_FOR_ENTRIES / ENTRY_BYTES
    }
}

fn time_zone(settings: &Settings<'_>) -> TimeZone {
    const NAME: &str = "TIME_ZONE";
    let zone = settings.required(NAME);
    TimeZone::get(&zone).unwrap_or_else(|error| {
        let problem = format!("expected an IANA time zone such as Asia/Seoul: {error}");
        settings.refuse(NAME, zone, problem);
        TimeZone::UTC
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(settings: &[(&str, &str)]) -> Config {
        let lookup = |name: &str| {
            let zone = ("TIME_ZONE", "Asia/Seoul");
            let mut all = settings.iter().chain([&zone]);
            all.find(|(other, _)| *other == name).map(|(_, value)| value.into())
        };
        Settings::from_lookup(&lookup, Config::read).expect("settings")
    }

    #[test]
    fn the_defaults_are_those_of_the_template() {
        let config = read(&[]);
        assert_eq!(config.time_zone.iana_name(), Some("Asia/Seoul"));
        assert_eq!((config.max_messages, config.max_per_second), (None, None));
        assert_eq!((config.max_redrives, config.canary_messages), (5, 3));
        assert_eq!((config.group_key_segments, config.reconcile_days), (2, 7));
        assert_eq!(config.most_entries, Config::most_entries_in(256));
    }

    #[test]
    fn every_setting_has_its_name() {
        let config = read(&[
            ("MAX_MESSAGES", "1000"),
            ("MAX_PER_SECOND", "10"),
            ("MAX_REDRIVES", "6"),
            ("CANARY_MESSAGES", "0"),
            ("GROUP_KEY_SEGMENTS", "3"),
            ("RECONCILE_DAYS", "30"),
            ("AWS_LAMBDA_FUNCTION_MEMORY_SIZE", "512"),
        ]);
        assert_eq!((config.max_messages, config.max_per_second), (Some(1_000), Some(10)));
        assert_eq!((config.max_redrives, config.canary_messages), (6, 0));
        assert_eq!((config.group_key_segments, config.reconcile_days), (3, 30));
        assert_eq!(config.most_entries, Config::most_entries_in(512));
    }
}
