use std::time::{Duration, SystemTime};

use aws_sdk_cloudwatch::types::{Dimension, Statistic};
use aws_sdk_sqs::types::QueueAttributeName;
use serde::Serialize;

use super::Stack;
use crate::failure::Failure;

/// About how many messages a queue holds. SQS counts each message in one of these.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Depth {
    pub(crate) visible: u64,
    pub(crate) in_flight: u64,
    pub(crate) delayed: u64,
}

impl Depth {
    pub(crate) fn total(self) -> u64 {
        self.visible + self.in_flight + self.delayed
    }
}

/// CloudWatch has the age of the oldest message once a minute, some minutes late.
const AGE_WINDOW: Duration = Duration::from_mins(10);

impl Stack {
    pub(crate) async fn depth(&self, queue_url: &str) -> Result<Depth, Failure> {
        use QueueAttributeName::{
            ApproximateNumberOfMessages as Visible, ApproximateNumberOfMessagesDelayed as Delayed,
            ApproximateNumberOfMessagesNotVisible as InFlight,
        };
        let answer = self
            .sqs
            .get_queue_attributes()
            .queue_url(queue_url)
            .set_attribute_names(Some(vec![Visible, InFlight, Delayed]))
            .send()
            .await
            .map_err(Failure::of("sqs:GetQueueAttributes"))?;
        let counts = answer.attributes.unwrap_or_default();
        let count = |name| counts.get(&name).and_then(|count| count.parse().ok()).unwrap_or(0);
        Ok(Depth { visible: count(Visible), in_flight: count(InFlight), delayed: count(Delayed) })
    }

    /// How old the oldest message is, in seconds, as far as CloudWatch knows.
    pub(crate) async fn oldest_age(&self, queue_url: &str) -> Result<u64, Failure> {
        let name = queue_url.rsplit('/').next().unwrap_or_default();
        let now = SystemTime::now();
        let answer = self
            .cloudwatch
            .get_metric_statistics()
            .namespace("AWS/SQS")
            .metric_name("ApproximateAgeOfOldestMessage")
            .dimensions(Dimension::builder().name("QueueName").value(name).build())
            .start_time((now - AGE_WINDOW).into())
            .end_time(now.into())
            .period(60)
            .statistics(Statistic::Maximum)
            .send()
            .await
            .map_err(Failure::of("cloudwatch:GetMetricStatistics"))?;
        let points = answer.datapoints.unwrap_or_default();
        let newest = points.iter().max_by_key(|point| point.timestamp.map(|time| time.secs()));
        match newest.and_then(|point| point.maximum) {
            #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "an age")]
            Some(seconds) => Ok(seconds as u64),
            None => Err(Failure::Unknown("CloudWatch has no figure of the last ten minutes")),
        }
    }
}
