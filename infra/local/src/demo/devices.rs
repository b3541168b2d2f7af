use fastrand::Rng;
use serde_json::json;

/// One file that a device writes.
#[derive(Debug)]
pub(crate) struct Upload {
    pub(crate) key: String,
    pub(crate) body: String,
    /// Absent for a poisoned file.
    pub(crate) device_id: Option<String>,
    /// The error class that the file ends with in the dead-letter queue, if it is poisoned.
    pub(crate) poison: Option<&'static str>,
}

/// File names that break pipelines which decode keys twice, or not at all.
const ODD_NAMES: [&str; 8] =
    ["state 1", "state+1", "a b+c", "100%25", "50%", "상태", "거실 온도", "a&b=c?d"];

/// Each of these parts in a hundred.
const ODD_PERCENT: u32 = 10;
const OVERWRITE_PERCENT: u32 = 10;

/// One poisoned file of each kind for so many files, at least one.
const FILES_PER_POISON: u32 = 100;

/// `files` uploads: devices with plain and odd keys, overwrites of earlier ones, and some poison.
/// The same numbers give the same files.
pub(crate) fn plan(files: u32, seed: u64) -> Vec<Upload> {
    let mut random = Rng::with_seed(seed);
    let of_each_poison = (files / FILES_PER_POISON).max(1);
    let mut uploads = Vec::new();
    for number in 0..of_each_poison {
        uploads.push(Upload {
            key: format!("devices/poison-{number}/not-json.json"),
            body: "{\"deviceId\": \"poison\", \"state\": ".to_owned(),
            device_id: None,
            poison: Some("NotJson"),
        });
        uploads.push(Upload {
            key: format!("devices/poison-{number}/without-device-id.json"),
            body: json!({ "state": { "on": true } }).to_string(),
            device_id: None,
            poison: Some("InvalidDeviceState"),
        });
    }
    random.shuffle(&mut uploads);

    let mut device_files: Vec<(String, String)> = Vec::new();
    let total = files as usize;
    while uploads.len() < total {
        let overwrite = random.u32(0..100) < OVERWRITE_PERCENT;
        let (device_id, key) = match random.choice(&device_files) {
            Some(earlier) if overwrite => earlier.clone(),
            _ => {
                let device_id = format!("{}", device_files.len() + 1);
                let odd = random.u32(0..100) < ODD_PERCENT;
                let name = match random.choice(ODD_NAMES) {
                    Some(name) if odd => name,
                    _ => "state",
                };
                let file = (device_id.clone(), format!("devices/{device_id}/{name}.json"));
                device_files.push(file.clone());
                file
            }
        };
        let state = json!({
            "on": random.bool(),
            "temperature": f64::from(random.u32(150..300)) / 10.0,
            "write": uploads.len(),
        });
        uploads.push(Upload {
            key,
            body: json!({ "deviceId": device_id, "state": state }).to_string(),
            device_id: Some(device_id),
            poison: None,
        });
    }
    uploads
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_has_everything_in_it_and_repeats() {
        let plan_of = |seed| -> Vec<_> {
            plan(500, seed).into_iter().map(|upload| (upload.key, upload.body)).collect()
        };
        let uploads = plan(500, 1);

        assert_eq!(uploads.len(), 500);
        for class in ["NotJson", "InvalidDeviceState"] {
            assert_eq!(uploads.iter().filter(|file| file.poison == Some(class)).count(), 5);
        }
        for part in [" ", "+", "%", "상태", "&"] {
            assert!(uploads.iter().any(|file| file.key.contains(part)), "no key with {part:?}");
        }
        let keys: std::collections::HashSet<_> = uploads.iter().map(|file| &file.key).collect();
        assert!(keys.len() < uploads.len(), "no overwrite");
        assert_eq!(plan_of(1), plan_of(1));
        assert_ne!(plan_of(1), plan_of(2));
    }
}
