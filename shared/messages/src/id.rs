use std::fmt;

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// The one identifier that runs through everything: message id, execution name, `lastEventId`.
///
/// 40 lowercase hex digits, the first 160 bits of a SHA-256. Step Functions allows names of 80
/// characters, so there is room for the attempt (`-r1`).
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct EventId(String);

#[derive(Debug, thiserror::Error)]
#[error("expected an id of 40 lowercase hex digits, found {0:?}")]
pub struct InvalidEventId(String);

/// What names an event. Two events that differ in any field have different ids, and the same event
/// has the same id on every route.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Identity<'a> {
    /// Family of the S3 event name: the part before the colon.
    pub(crate) family: &'a str,
    pub(crate) bucket: &'a str,
    pub(crate) key: &'a str,
    /// Version id if the bucket has one, else the sequencer, else nothing.
    pub(crate) version: Option<&'a str>,
    /// Event time to the second.
    pub(crate) time: &'a str,
}

impl EventId {
    const DIGITS: usize = 40;
    const BYTES: usize = Self::DIGITS / 2;

    /// Digests `family \0 bucket \0 key \0 version`. The key may hold any byte, NUL included; the
    /// other parts hold none (the decoder refuses them), so the split is unambiguous.
    pub(crate) fn of(identity: Identity<'_>) -> Self {
        let Identity { family, bucket, key, version, time } = identity;
        let mut digest = Sha256::new();
        for part in [family, "\0", bucket, "\0", key, "\0", version.unwrap_or_default()] {
            digest.update(part);
        }
        if version.is_none() || !happens_once(family) {
            digest.update("@");
            digest.update(time);
        }
        let mut hex = String::with_capacity(Self::DIGITS);
        for byte in digest.finalize().iter().take(Self::BYTES) {
            for digit in [byte >> 4, byte & 0xf] {
                hex.push(char::from(if digit < 10 { b'0' + digit } else { b'a' + digit - 10 }));
            }
        }
        Self(hex)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// The id of a write, by what a listing of the bucket shows.
    pub fn of_write(bucket: &str, key: &str, version_id: &str) -> Self {
        let family = "ObjectCreated";
        Self::of(Identity { family, bucket, key, version: Some(version_id), time: "" })
    }

    /// The bytes that the digits stand for.
    pub fn to_bytes(&self) -> [u8; Self::BYTES] {
        let mut bytes = [0; Self::BYTES];
        for (byte, digits) in bytes.iter_mut().zip(self.0.as_bytes().chunks_exact(2)) {
            let [high, low] = [digits[0], digits[1]].map(|digit| match digit {
                b'0'..=b'9' => digit - b'0',
                _ => digit.wrapping_sub(b'a').wrapping_add(10),
            });
            *byte = high << 4 | low;
        }
        bytes
    }
}

/// Whether one version of an object has at most one event of this family. Restores, tags, ACLs and
/// lifecycle actions repeat on one version, so only the time tells them apart.
fn happens_once(family: &str) -> bool {
    matches!(family, "ObjectCreated" | "ObjectRemoved")
}

impl TryFrom<String> for EventId {
    type Error = InvalidEventId;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        let is_digit = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
        if text.len() == Self::DIGITS && text.bytes().all(is_digit) {
            Ok(Self(text))
        } else {
            Err(InvalidEventId(text))
        }
    }
}

impl From<EventId> for String {
    fn from(id: EventId) -> Self {
        id.0
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}
