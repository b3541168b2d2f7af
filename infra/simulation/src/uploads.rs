//! Devices write objects, and S3 notifies.

use std::{rc::Rc, time::Duration};

use jiff::Timestamp;
use serde_json::{Value, json};
use testing::{Object, notification, sample_json};
use tokio::{task::spawn_local, time::sleep};

use crate::{
    Fault,
    ledger::{Holder, Kind, Write},
    setting::Route,
    world::{BUCKET, World, quoted},
};

/// The sequencer of the first write.
const FIRST_SEQUENCER: u128 = 0x0055_aed6_dcd9_0281_e500;

/// What S3 says about a write.
#[derive(Debug, Clone)]
pub(crate) struct Notice {
    pub(crate) write: usize,
    key: String,
    version_id: Option<String>,
    e_tag: String,
    size: usize,
    sequencer: String,
    at: Timestamp,
}

impl World {
    /// Writes all objects, at random times of the busy days, some of them in bursts.
    pub(crate) async fn uploads(self: Rc<Self>) {
        let plan = self.plan();
        let mut times: Vec<Duration> = Vec::new();
        {
            let mut state = self.state();
            let busy = Duration::from_hours(24) * plan.busy_nights();
            while times.len() < plan.uploads as usize {
                let mut at =
                    state.between(Duration::ZERO, busy.saturating_sub(Duration::from_hours(1)));
                // Many writes come while something is out of order.
                if !state.outages.is_empty() && state.rng.bool() {
                    let outages = state.outages.clone();
                    let outage = &outages[state.rng.usize(..outages.len())];
                    let span = |from: Timestamp, to: Timestamp| {
                        Duration::try_from(to.duration_since(from)).unwrap_or_default()
                    };
                    let length = span(outage.from, outage.until);
                    at = span(state.now(), outage.from) + state.between(Duration::ZERO, length);
                }
                let burst = if state.rng.bool() { 1 } else { state.rng.usize(1..=20) };
                for _ in 0..burst {
                    times.push(at + state.between(Duration::ZERO, Duration::from_secs(2)));
                }
            }
            times.truncate(plan.uploads as usize);
            times.sort_unstable();
        }
        let mut together: Vec<Notice> = Vec::new();
        let begin = self.state().now();
        for (number, time) in times.into_iter().enumerate() {
            self.waits_until(begin + time).await;
            together.push(self.uploads_one(number));
            // A notification with several records is about writes shortly after one another.
            let is_alone = self.setting.route == Route::EventBridge
                || together.len() >= 3
                || !self.state().happens(Fault::ManyRecords);
            if is_alone {
                self.notifies(&std::mem::take(&mut together));
            }
        }
        if !together.is_empty() {
            self.notifies(&together);
        }
    }

    fn uploads_one(self: &Rc<Self>, number: usize) -> Notice {
        let mut state = self.state();
        let now = state.now();
        let older: Vec<String> =
            state.ledger.writes.iter().map(|write| write.key.clone()).collect();
        let key = if !older.is_empty() && state.happens(Fault::Overwrite) {
            older[state.rng.usize(..older.len())].clone()
        } else {
            let device = state.rng.usize(..=number / 4);
            // Each of these characters is encoded in another way in one of the envelopes.
            let names = ["state.json", "state 1+1.json", "50%.json", "상태.json"];
            format!("devices/{device}/{number}-{}", names[state.rng.usize(..names.len())])
        };
        let kind = if state.happens(Fault::BadContent) {
            if state.rng.bool() { Kind::NotJson } else { Kind::NotAState }
        } else if state.happens(Fault::LargeObject) {
            Kind::Large
        } else {
            Kind::Good
        };
        let content = match kind {
            Kind::Good => json!({ "deviceId": key, "state": { "write": number } }).to_string(),
            Kind::Large => {
                let state = json!({ "write": number, "padding": "x".repeat(1_500) });
                json!({ "deviceId": key, "state": state }).to_string()
            }
            Kind::NotJson => format!("write {number}, cut sho"),
            Kind::NotAState => json!([number]).to_string(),
        };
        let version_id = self.setting.is_versioned.then(|| format!("version-{number}"));
        let sequencer = format!("{:018X}", FIRST_SEQUENCER + number as u128 * 0x101);
        let mut object = Object::new(&key, content.as_bytes());
        object.version_id.clone_from(&version_id);
        let e_tag = object.e_tag.clone();
        self.aws.s3().has(BUCKET, object);
        if !self.setting.is_versioned {
            let older = state.ledger.writes.iter_mut().filter(|write| write.key == key);
            older.for_each(|write| write.is_gone = true);
        }
        let write = Write {
            key: key.clone(),
            version_id: version_id.clone(),
            content: content.clone().into_bytes(),
            kind,
            is_gone: false,
            is_forgotten: false,
            has_ghost: false,
            holders: Vec::new(),
            executions: Vec::new(),
            archived: Vec::new(),
        };
        let write = state.ledger.writes(&sequencer, write);
        let version = version_id.as_ref().map(|id| format!(", {id}")).unwrap_or_default();
        state.note(vec![write], format!("a device writes `{key}`{version} ({kind:?})"));
        if state.happens(Fault::Deletion) {
            spawn_local(self.clone().deletes(key.clone()));
        }
        let size = content.len();
        Notice { write, key, version_id, e_tag, size, sequencer, at: now }
    }

    /// Somebody deletes an object in all its versions, after a while.
    async fn deletes(self: Rc<Self>, key: String) {
        self.waits(Duration::ZERO, Duration::from_hours(2)).await;
        self.aws.s3().loses(BUCKET, &key);
        let mut state = self.state();
        let mut writes = Vec::new();
        for number in 0..state.ledger.writes.len() {
            if state.ledger.writes[number].key == key {
                state.ledger.forgets(number);
                writes.push(number);
            }
        }
        state.note(writes, format!("somebody deletes `{key}`"));
    }

    /// S3 owes the delivery of a notification, and may deliver it more than once.
    fn notifies(self: &Rc<Self>, notices: &[Notice]) {
        let payload = self.payload(notices).to_string();
        let writes: Vec<usize> = notices.iter().map(|notice| notice.write).collect();
        let repeats = {
            let mut state = self.state();
            let mut repeats = 0;
            while state.happens(Fault::RepeatedNotification) {
                repeats += 1;
            }
            repeats
        };
        for repeat in 0..=repeats {
            let is_promised = repeat == 0;
            let delivery = self.state().owes(&writes, is_promised);
            if is_promised
                && self.setting.has_ledger()
                && self.state().happens(Fault::NeverDelivered)
            {
                let how = "S3 forgets a notification";
                self.state().ledger.holds(&Holder::Listing, &writes);
                self.state().delivered(delivery, &writes, how);
                self.state().note(writes.clone(), how);
                continue;
            }
            let (world, payload, writes) = (self.clone(), payload.clone(), writes.clone());
            spawn_local(async move {
                let delay = {
                    let mut state = world.state();
                    let longest = if state.happens(Fault::LateNotification) {
                        let hours = if state.rng.bool() { 0 } else { 5 };
                        Duration::from_hours(hours) + Duration::from_mins(10)
                    } else {
                        Duration::from_secs(2)
                    };
                    state.between(Duration::from_millis(100), longest)
                };
                sleep(delay).await;
                if world.setting.route == Route::Queue {
                    world.sends("S3", &world.aws.work_queue(), &payload, "");
                    world.state().delivered(delivery, &writes, "S3 is rid of its notification");
                } else {
                    world.invokes_forwarder(payload, writes, delivery).await;
                }
            });
        }
    }

    fn payload(&self, notices: &[Notice]) -> Value {
        if let (Route::EventBridge, [notice]) = (self.setting.route, notices) {
            let mut event = sample_json("eventbridge-object-created-key-not-encoded.json");
            event["time"] = json!(format!("{:.0}", notice.at));
            let object = &mut event["detail"]["object"];
            object["key"] = json!(notice.key);
            object["size"] = json!(notice.size);
            object["etag"] = json!(notice.e_tag);
            object["sequencer"] = json!(notice.sequencer);
            match &notice.version_id {
                Some(id) => object["version-id"] = json!(id),
                None => drop(object.as_object_mut().map(|object| object.remove("version-id"))),
            }
            return event;
        }
        let records = notices.iter().map(|notice| {
            let mut record = notification(&notice.key)["Records"][0].take();
            record["eventTime"] = json!(format!("{:.3}", notice.at));
            let object = &mut record["s3"]["object"];
            object["size"] = json!(notice.size);
            object["eTag"] = json!(notice.e_tag);
            object["sequencer"] = json!(notice.sequencer);
            if let Some(id) = &notice.version_id {
                object["versionId"] = json!(id);
            }
            record
        });
        let records = json!({ "Records": records.collect::<Vec<_>>() });
        if self.setting.route != Route::Sns {
            return records;
        }
        let mut event = sample_json("sns-to-lambda.json");
        event["Records"][0]["Sns"]["Message"] = quoted(&records);
        event
    }
}
