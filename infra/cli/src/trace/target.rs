use std::{convert::Infallible, str::FromStr};

use messages::EventId;

/// What a person asks about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Target {
    Object {
        bucket: Option<String>,
        key: String,
    },
    /// An event, by its id.
    Event(EventId),
}

impl FromStr for Target {
    type Err = Infallible;

    /// Everything that is no id is a key.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((bucket, key)) =
            text.strip_prefix("s3://").and_then(|rest| rest.split_once('/'))
        {
            return Ok(Self::Object { bucket: Some(bucket.to_owned()), key: key.to_owned() });
        }
        let is_execution = text.starts_with("arn:") && text.contains(":execution:");
        let name = if is_execution { text.rsplit(':').next().unwrap_or(text) } else { text };
        let id = name.split_once("-r").map_or(name, |(id, _)| id);
        Ok(match EventId::try_from(id.to_owned()) {
            Ok(id) => Self::Event(id),
            Err(_) => Self::Object { bucket: None, key: text.to_owned() },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_name_of_an_object_or_event_is_understood() {
        const ID: &str = "60a564b35e9db02ade816b779bdb953583907372";
        let object = |bucket: Option<&str>, key: &str| Target::Object {
            bucket: bucket.map(str::to_owned),
            key: key.to_owned(),
        };
        let event = || Target::Event(ID.to_owned().try_into().unwrap());
        for (text, expected) in [
            ("s3://b/devices/42/state 1.json", object(Some("b"), "devices/42/state 1.json")),
            ("devices/42/state.json", object(None, "devices/42/state.json")),
            (ID, event()),
            (&format!("{ID}-r3"), event()),
            (&format!("arn:aws:states:eu-west-1:111122223333:execution:m:{ID}-r1"), event()),
            // Almost an id.
            (&ID[1..], object(None, &ID[1..])),
        ] {
            assert_eq!(text.parse(), Ok(expected), "{text}");
        }
    }
}
