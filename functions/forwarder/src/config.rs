use platform::Settings;

#[derive(Debug, Clone)]
pub struct Config {
    /// How many leading segments of the key name the device, and so the message group.
    pub group_key_segments: usize,
}

impl Config {
    pub fn read(settings: &Settings<'_>) -> Self {
        Self { group_key_segments: settings.number("GROUP_KEY_SEGMENTS", 2, 1..=100) }
    }
}
