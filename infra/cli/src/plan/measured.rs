//! What has really arrived, by the metrics of a stack: a steady stream, and the busiest stretch of it
//! as the burst.

use std::time::Duration;

use aws_sdk_cloudwatch::types::{Dimension, Metric, MetricDataQuery, MetricDataResult, MetricStat};
use aws_smithy_types::DateTime;
use jiff::{Timestamp, tz::TimeZone};
use serde::Serialize;

use super::quantity::{count, rate, time};
use crate::{aws::Stack, failure::Failure, output::clock};

/// The counts of one metric, from a time on, each for one period.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Series {
    metric: &'static str,
    of: String,
    begin: Timestamp,
    period: Duration,
    counts: Vec<f64>,
}

/// What a plan takes from a series. All that was counted is in it: the stretch of the burst has the
/// steady stream and the burst together, and the rest has the steady stream. Rates are a second's.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Arrivals {
    metric: &'static str,
    of: String,
    since: Timestamp,
    until: Timestamp,
    period_seconds: u64,
    messages: f64,
    pub(crate) steady: f64,
    pub(crate) burst: Option<Stretch>,
}

#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Stretch {
    begin: Timestamp,
    pub(crate) seconds: f64,
    /// What arrived beside the steady stream.
    pub(crate) rate: f64,
}

/// `CloudWatch` keeps sums of a minute for 15 days, of five minutes for 63, and of an hour for 455.
const KEPT: [(u64, u64); 3] = [(15, 60), (63, 300), (455, 3_600)];

/// The busiest stretch is a burst if it has at least so many times what arrives otherwise.
const BURST: f64 = 2.0;

/// Metrics are some minutes late, and what is not there yet would look like silence.
const LATE: Duration = Duration::from_mins(3);

impl Series {
    /// Asks for what arrived within this time.
    pub(crate) async fn ask(
        stack: &Stack,
        back: Duration,
        now: Timestamp,
    ) -> Result<Self, Failure> {
        let period = period(back)?;
        // Whole periods, as CloudWatch counts them.
        let down = |time: Timestamp| {
            let seconds = i64::try_from(period.as_secs()).unwrap_or(1);
            Timestamp::from_second(time.as_second() - time.as_second().rem_euclid(seconds))
        };
        let out_of_range = |error: jiff::Error| Failure::Usage(error.to_string());
        let end = down(now.checked_sub(LATE).map_err(out_of_range)?).map_err(out_of_range)?;
        let begin = end.checked_sub(back).map_err(out_of_range)?;
        let begin = down(begin).map_err(out_of_range)?;

        // Without a forwarder, S3 itself sends to the queue, and so does the consumer when it defers.
        let forwarder = stack.optional_output("ForwarderFunctionName");
        let (metric, of, queries) = if let Some(name) = forwarder {
            let came = query("came", "Sluice", "Forwarded", "FunctionName", name, period);
            ("Forwarded", name, vec![came])
        } else {
            let queue = stack.output("WorkQueueUrl")?;
            let queue = queue.rsplit('/').next().unwrap_or_default();
            let consumer = stack.output("ConsumerFunctionName")?;
            let sent = "NumberOfMessagesSent";
            let queries = vec![
                query("came", "AWS/SQS", sent, "QueueName", queue, period),
                query("again", "Sluice", "Deferred", "FunctionName", consumer, period),
            ];
            ("NumberOfMessagesSent less Deferred", queue, queries)
        };
        let mut pages = stack
            .cloudwatch
            .get_metric_data()
            .set_metric_data_queries(Some(queries))
            .start_time(DateTime::from_secs(begin.as_second()))
            .end_time(DateTime::from_secs(end.as_second()))
            .into_paginator()
            .send();
        let mut results = Vec::new();
        while let Some(page) = pages.next().await {
            let page = page.map_err(Failure::of("cloudwatch:GetMetricData"))?;
            results.extend(page.metric_data_results.unwrap_or_default());
        }
        Self::of(&results, metric, of, begin, end, period)
    }

    /// The counts of an answer. CloudWatch leaves out the periods in which nothing was published.
    fn of(
        results: &[MetricDataResult],
        metric: &'static str,
        of: &str,
        begin: Timestamp,
        end: Timestamp,
        period: Duration,
    ) -> Result<Self, Failure> {
        let seconds = i64::try_from(period.as_secs()).unwrap_or(1);
        let periods = usize::try_from((end.as_second() - begin.as_second()) / seconds);
        let mut counts = vec![0.0; periods.unwrap_or_default()];
        let mut is_empty = true;
        for result in results {
            let sign = if result.id() == Some("again") { -1.0 } else { 1.0 };
            for (at, value) in result.timestamps().iter().zip(result.values()) {
                let index = usize::try_from((at.secs() - begin.as_second()).div_euclid(seconds));
                if let Some(count) = index.ok().and_then(|index| counts.get_mut(index)) {
                    *count += sign * value;
                    is_empty = false;
                }
            }
        }
        if is_empty {
            return Err(Failure::NoFigures { metric, of: of.to_owned() });
        }
        // A copy may be counted in another minute than its original.
        let counts = counts.into_iter().map(|count| f64::max(count, 0.0)).collect();
        Ok(Self { metric, of: of.to_owned(), begin, period, counts })
    }

    pub(crate) fn arrivals(&self) -> Arrivals {
        let period = self.period.as_secs_f64();
        let messages: f64 = self.counts.iter().sum();
        let all = length(self.counts.len());
        let (begin, end) = busiest(&self.counts, messages / all.max(1.0));
        let inside: f64 = self.counts[begin..end].iter().sum();
        let periods = length(end - begin);
        let outside = messages - inside;
        let steady = outside / (all - periods).max(1.0);
        let within = inside / periods.max(1.0);
        let has_burst = periods > 0.0 && periods < all && within >= BURST * steady;
        let at = |index: usize| {
            let after = self.period * u32::try_from(index).unwrap_or(u32::MAX);
            self.begin.checked_add(after).unwrap_or(self.begin)
        };
        Arrivals {
            metric: self.metric,
            of: self.of.clone(),
            since: self.begin,
            until: at(self.counts.len()),
            period_seconds: self.period.as_secs(),
            messages,
            steady: if has_burst { steady } else { messages / all.max(1.0) } / period,
            burst: has_burst.then(|| Stretch {
                begin: at(begin),
                seconds: periods * period,
                rate: (within - steady) / period,
            }),
        }
    }
}

/// The stretch that has most more than so much in each period: its first period, and the one after
/// its last. (Kadane's maximum subarray.)
fn busiest(counts: &[f64], usual: f64) -> (usize, usize) {
    let (mut best, mut best_sum) = ((0, 0), 0.0);
    let (mut begin, mut sum) = (0, 0.0);
    for (index, count) in counts.iter().enumerate() {
        sum += count - usual;
        if sum > best_sum {
            (best, best_sum) = ((begin, index + 1), sum);
        }
        if sum <= 0.0 {
            (begin, sum) = (index + 1, 0.0);
        }
    }
    best
}

/// The shortest period that CloudWatch still has for all of this time.
fn period(back: Duration) -> Result<Duration, Failure> {
    let days = back.as_secs().div_ceil(86_400);
    let kept = KEPT.iter().find(|(kept, _)| days <= *kept);
    let (_, seconds) = kept.ok_or_else(|| {
        Failure::Usage("CloudWatch keeps metrics for 455 days: choose a shorter --since".to_owned())
    })?;
    if back.as_secs() < 10 * seconds {
        return Err(Failure::Usage(
            "a plan from metrics needs at least ten minutes of them: choose a longer --since"
                .to_owned(),
        ));
    }
    Ok(Duration::from_secs(*seconds))
}

fn query(
    id: &str,
    namespace: &str,
    metric: &str,
    dimension: &str,
    value: &str,
    period: Duration,
) -> MetricDataQuery {
    let dimension = Dimension::builder().name(dimension).value(value).build();
    let metric =
        Metric::builder().namespace(namespace).metric_name(metric).dimensions(dimension).build();
    let period = i32::try_from(period.as_secs()).unwrap_or(i32::MAX);
    let stat = MetricStat::builder().metric(metric).period(period).stat("Sum").build();
    MetricDataQuery::builder().id(id).metric_stat(stat).build()
}

#[expect(clippy::cast_precision_loss, reason = "there are at most some ten thousand periods")]
fn length(periods: usize) -> f64 {
    periods as f64
}

impl Arrivals {
    /// What was taken, in sentences.
    pub(crate) fn in_words(&self, now: Timestamp, zone: &TimeZone) -> String {
        let text = format!(
            "taken from the metric {} of {}, from {} to {}, by {}:\n{} messages, {} of them steadily",
            self.metric,
            self.of,
            clock(self.since, now, zone),
            clock(self.until, now, zone),
            if self.period_seconds == 60 { "the minute".to_owned() } else { time(self.period()) },
            count(self.messages),
            rate(rounded(self.steady)),
        );
        match &self.burst {
            Some(burst) => format!(
                "{text}, and {} more for {} from {} on\n",
                rate(rounded(burst.rate)),
                time(burst.seconds),
                clock(burst.begin, now, zone)
            ),
            None => text + ", and no burst\n",
        }
    }

    #[expect(clippy::cast_precision_loss, reason = "at most an hour")]
    fn period(&self) -> f64 {
        self.period_seconds as f64
    }
}

/// To three digits behind the point, as a rate is written.
pub(crate) fn rounded(rate: f64) -> f64 {
    (rate * 1e3).round() / 1e3
}

#[cfg(test)]
#[expect(clippy::float_cmp, reason = "all of these are exact")]
pub(super) mod tests {
    use super::*;

    const MINUTE: Duration = Duration::from_mins(1);

    /// 2026-11-20T14:00:00Z
    const BEGIN: i64 = 1_795_183_200;

    fn at(minute: i64) -> Timestamp {
        Timestamp::from_second(BEGIN + 60 * minute).unwrap()
    }

    /// A page of an answer: counts by their minute.
    fn page(id: &str, counts: &[(i64, f64)]) -> MetricDataResult {
        let mut page = MetricDataResult::builder().id(id);
        // Newest first, as CloudWatch answers.
        for (minute, count) in counts.iter().rev() {
            page = page.timestamps(DateTime::from_secs(BEGIN + 60 * minute)).values(*count);
        }
        page.build()
    }

    fn series(pages: &[MetricDataResult], minutes: i64) -> Result<Series, Failure> {
        Series::of(pages, "Forwarded", "sluice-forwarder", at(0), at(minutes), MINUTE)
    }

    fn arrivals(pages: &[MetricDataResult], minutes: i64) -> Arrivals {
        series(pages, minutes).unwrap().arrivals()
    }

    /// 2 a second, and 500 a second more for ten minutes.
    pub(in crate::plan) fn day() -> Arrivals {
        let counts: Vec<_> = (0..1_440)
            .map(|minute| (minute, if (600..610).contains(&minute) { 30_120.0 } else { 120.0 }))
            .collect();
        let (first, second) = counts.split_at(700);
        arrivals(&[page("came", second), page("came", first)], 1_440)
    }

    #[test]
    fn a_day_is_a_steady_stream_and_its_busiest_stretch() {
        let day = day();
        assert_eq!(day.steady, 2.0);
        assert_eq!(day.burst, Some(Stretch { begin: at(600), seconds: 600.0, rate: 500.0 }));
        assert_eq!(
            day.in_words(at(1_440), &TimeZone::UTC),
            "taken from the metric Forwarded of sluice-forwarder, from 2026-11-20 14:00 to 14:00, by the minute:\n\
             472,800 messages, 2/s of them steadily, and 500/s more for 10 min from 00:00 on\n"
        );
    }

    #[test]
    fn what_differs_little_from_minute_to_minute_is_no_burst() {
        let counts = (0..60).map(|minute| (minute, if minute % 2 == 0 { 50.0 } else { 70.0 }));
        let counts: Vec<_> = counts.collect();
        let hour = arrivals(&[page("came", &counts)], 60);
        assert_eq!((hour.steady, hour.burst), (1.0, None));
        assert!(
            hour.in_words(at(60), &TimeZone::UTC).ends_with("1/s of them steadily, and no burst\n")
        );
    }

    #[test]
    fn a_minute_without_a_figure_is_a_minute_in_which_nothing_came() {
        let hour = arrivals(&[page("came", &[(10, 600.0), (11, 1_200.0)])], 60);
        assert_eq!(hour.steady, 0.0);
        assert_eq!(hour.burst, Some(Stretch { begin: at(10), seconds: 120.0, rate: 15.0 }));
        // What is outside of the window is none of its business.
        let hour = arrivals(&[page("came", &[(-1, 5e6), (10, 600.0), (60, 5e6)])], 60);
        assert_eq!(hour.messages, 600.0);
    }

    #[test]
    fn copies_of_deferred_messages_have_not_arrived() {
        let sent = page("came", &[(0, 60.0), (1, 600.0), (2, 60.0)]);
        let deferred = page("again", &[(1, 540.0), (2, 90.0)]);
        let series = series(&[sent, deferred], 3).unwrap();
        assert_eq!(series.counts, [60.0, 60.0, 0.0]);
    }

    #[test]
    fn without_any_figure_there_is_no_plan() {
        let error = series(&[page("came", &[])], 60).unwrap_err().to_string();
        assert!(error.starts_with("CloudWatch has no figures of Forwarded of sluice-forwarder"));
        assert!(error.contains("--arrivals"), "{error}");
    }

    #[test]
    fn all_that_was_counted_is_in_the_plan() {
        let mut random = fastrand::Rng::with_seed(1);
        for _ in 0..200 {
            let minutes = random.i64(10..300);
            let counts = (0..minutes).map(|minute| {
                let most = if random.bool() { 10 } else { 10_000 };
                (minute, f64::from(random.u32(0..most)))
            });
            let counts: Vec<_> = counts.collect();
            let taken = arrivals(&[page("came", &counts)], minutes);
            let burst = taken.burst.map_or(0.0, |burst| burst.rate * burst.seconds);
            let sum = taken.steady * 60.0 * length(usize::try_from(minutes).unwrap()) + burst;
            assert!((sum - taken.messages).abs() < 1e-3, "{sum} of {taken:?}");
            assert!(taken.burst.is_none_or(|burst| burst.rate > 0.0), "{taken:?}");
        }
    }

    #[test]
    fn the_period_is_the_shortest_that_is_kept() {
        let days =
            |days: u64| period(Duration::from_hours(24 * days)).map(|period| period.as_secs());
        assert_eq!(days(1).unwrap(), 60);
        assert_eq!(days(15).unwrap(), 60);
        assert_eq!(days(16).unwrap(), 300);
        assert_eq!(days(64).unwrap(), 3_600);
        assert!(days(456).unwrap_err().to_string().contains("455 days"));
        assert!(period(Duration::from_mins(9)).unwrap_err().to_string().contains("ten minutes"));
    }
}
