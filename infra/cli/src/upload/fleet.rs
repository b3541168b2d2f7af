//! What devices write, and when. The same numbers give the same writes.

use std::time::Duration;

use clap::ValueEnum;
use percent_encoding::{NON_ALPHANUMERIC, percent_encode};
use serde_json::json;

/// How uploads are spread over the time.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(super) enum Shape {
    Slow,
    Steady,
    Burst,
}

#[derive(Debug)]
pub(super) struct Fleet {
    pub(super) count: u32,
    pub(super) devices: u32,
    /// Of one.
    pub(super) poison: f64,
    pub(super) duplicate: f64,
    pub(super) seed: u64,
    pub(super) run: String,
}

/// One object that a device writes.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Write {
    pub(super) device: String,
    pub(super) key: String,
    pub(super) body: String,
    pub(super) is_poison: bool,
    pub(super) is_notified_twice: bool,
}

impl Shape {
    /// When an upload is due, from the beginning. All shapes take the same time in all.
    pub(super) fn due(self, number: usize, total: usize, rate: f64) -> Duration {
        #[expect(clippy::cast_precision_loss, reason = "far fewer objects")]
        let (share, seconds) = (number as f64 / total.max(1) as f64, total as f64 / rate);
        let part = match self {
            Self::Steady => share,
            // The rate grows from nothing to twice the average.
            Self::Slow => share.sqrt(),
            Self::Burst if share < 0.25 => share * 2.0,
            Self::Burst if share < 0.75 => 0.5,
            Self::Burst => 0.5 + (share - 0.75) * 2.0,
        };
        Duration::from_secs_f64(part * seconds)
    }
}

impl Fleet {
    pub(super) fn prefix(&self) -> String {
        format!("devices/{}/", self.run)
    }

    pub(super) fn writes(&self) -> Vec<Write> {
        let mut random = fastrand::Rng::with_seed(self.seed);
        let prefix = self.prefix();
        let writes = (0..self.count).map(|number| {
            let device = random.u32(0..self.devices);
            let device_id = format!("{}-{device}", self.run);
            let is_poison = random.f64() < self.poison;
            let body = if !is_poison {
                let state = json!({ "on": random.bool(), "temperature": random.u8(15..30), "write": number });
                json!({ "deviceId": device_id, "state": state }).to_string()
            } else if random.bool() {
                "{\"deviceId\": \"poison\", \"state\": ".to_owned()
            } else {
                json!({ "state": { "on": true } }).to_string()
            };
            Write {
                // A poisoned file beside the good one, which it must not overwrite.
                key: format!("{prefix}{device}/{}.json", if is_poison { "poison" } else { "state" }),
                device: device_id,
                body,
                is_poison,
                is_notified_twice: random.f64() < self.duplicate,
            }
        });
        writes.collect()
    }
}

/// The notification of a write as S3 sends it.
pub(super) fn notification(bucket: &str, key: &str, version: &str) -> String {
    let encoded = percent_encode(key.as_bytes(), NON_ALPHANUMERIC).to_string();
    json!({ "Records": [{
        "eventVersion": "2.1", "eventSource": "aws:s3", "awsRegion": "any",
        "eventName": "ObjectCreated:Put", "eventTime": jiff::Timestamp::now().to_string(),
        "s3": { "bucket": { "name": bucket }, "object": { "key": encoded, "versionId": version } }
    }] })
    .to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fleet() -> Fleet {
        Fleet {
            count: 10_000,
            devices: 200,
            poison: 0.01,
            duplicate: 0.01,
            seed: 1,
            run: "r".into(),
        }
    }

    #[test]
    fn a_fleet_has_the_shares_that_were_asked_for_and_repeats() {
        let writes = fleet().writes();
        assert_eq!(writes.len(), 10_000);
        assert_eq!(writes, fleet().writes());
        assert_ne!(writes, Fleet { seed: 2, ..fleet() }.writes());
        for share in [|write: &Write| write.is_poison, |write: &Write| write.is_notified_twice] {
            let count = writes.iter().filter(|write| share(write)).count();
            assert!((60..140).contains(&count), "{count}");
        }
        let keys: std::collections::HashSet<_> = writes.iter().map(|write| &write.key).collect();
        assert!(keys.len() < 400, "{}", keys.len());
    }

    #[test]
    fn every_shape_takes_the_same_time_and_a_burst_has_half_of_all_at_once() {
        for shape in [Shape::Slow, Shape::Steady, Shape::Burst] {
            assert_eq!(shape.due(0, 1_000, 50.0), Duration::ZERO);
            let last = shape.due(999, 1_000, 50.0).as_secs_f64();
            assert!((19.9..20.0).contains(&last), "{shape:?}: {last}");
            let times = (0..1_000).map(|number| shape.due(number, 1_000, 50.0));
            assert!(times.is_sorted());
        }
        let at_once =
            (0..1_000).filter(|it| Shape::Burst.due(*it, 1_000, 50.0) == Duration::from_secs(10));
        assert_eq!(at_once.count(), 501);
    }
}
