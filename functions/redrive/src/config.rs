use jiff::tz::TimeZone;
use runtime::{SettingError, Settings};

/// The defaults of a run; an invocation event may override those that a request has.
#[derive(Debug, Clone)]
pub struct Config {
    /// Where a day starts.
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
}

impl Config {
    pub fn read(settings: &Settings<'_>) -> Result<Self, SettingError> {
        let name: String = settings.required("TIME_ZONE")?;
        let time_zone = TimeZone::get(&name).map_err(|error| SettingError::Unparseable {
            name: "TIME_ZONE",
            value: name,
            problem: format!("expected an IANA time zone such as Asia/Seoul: {error}"),
        })?;
        let limit = |number: u64| (number > 0).then_some(number);
        let rate = settings.number("MAX_PER_SECOND", 0, 0..=10_000)?;
        Ok(Self {
            time_zone,
            max_redrives: settings.number("MAX_REDRIVES", 5, 1..=1_000)?,
            max_messages: limit(settings.number("MAX_MESSAGES", 0, 0..=u64::MAX)?),
            max_per_second: (rate > 0).then_some(rate),
            canary_messages: settings.number("CANARY_MESSAGES", 3, 0..=100)?,
            group_key_segments: settings.number("GROUP_KEY_SEGMENTS", 2, 1..=100)?,
        })
    }
}
