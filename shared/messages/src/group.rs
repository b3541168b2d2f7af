use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::Event;

/// Characters that a message group id may hold: letters, digits and ASCII punctuation. The percent
/// sign is encoded too, so that two devices never share an encoding.
const GROUP_ID: &AsciiSet = &NON_ALPHANUMERIC
    .remove(b'!')
    .remove(b'"')
    .remove(b'#')
    .remove(b'$')
    .remove(b'&')
    .remove(b'\'')
    .remove(b'(')
    .remove(b')')
    .remove(b'*')
    .remove(b'+')
    .remove(b',')
    .remove(b'-')
    .remove(b'.')
    .remove(b'/')
    .remove(b':')
    .remove(b';')
    .remove(b'<')
    .remove(b'=')
    .remove(b'>')
    .remove(b'?')
    .remove(b'@')
    .remove(b'[')
    .remove(b'\\')
    .remove(b']')
    .remove(b'^')
    .remove(b'_')
    .remove(b'`')
    .remove(b'{')
    .remove(b'|')
    .remove(b'}')
    .remove(b'~');

/// Characters of a message group id at most. Two long names that share their beginning share a
/// group, which costs fairness, never order.
const MAX_GROUP_ID: usize = 128;

impl Event {
    /// The message group: the device, as the leading segments of the key name it, in the characters
    /// that SQS allows. Events of one group keep their order on a FIFO queue, and share fairly with
    /// others on a standard one.
    ///
    /// It is never empty, since SQS refuses that: slashes at the beginning of a key name no device,
    /// and a key of nothing but slashes is a device of its own.
    pub fn group(&self, segments: usize) -> String {
        let key = &self.data.key;
        let device = key.trim_start_matches('/');
        let device = if device.is_empty() { key } else { device };
        let slash = device.match_indices('/').nth(segments.saturating_sub(1));
        let device = match slash {
            Some((slash, _)) if slash > 0 => &device[..slash],
            _ => device,
        };
        let mut group = utf8_percent_encode(device, GROUP_ID).to_string();
        group.truncate(MAX_GROUP_ID);
        group
    }
}
