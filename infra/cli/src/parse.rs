//! How a person writes times and rates on the command line.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp, tz::TimeZone};

/// `10s`, `24h`, `2d`
pub(crate) fn time(text: &str) -> Result<Duration, String> {
    let days = text.strip_suffix('d').and_then(|days| days.trim().parse::<u64>().ok());
    if let Some(days) = days {
        return Ok(Duration::from_hours(days * 24));
    }
    let span: Result<SignedDuration, _> = text.parse();
    span.ok()
        .and_then(|span| Duration::try_from(span).ok())
        .ok_or_else(|| "expected a time such as `10s`, `90m`, `24h` or `2d`".to_owned())
}

/// The same in whole hours.
pub(crate) fn hours(text: &str) -> Result<u32, String> {
    let seconds = time(text)?.as_secs();
    let hours = u32::try_from(seconds / 3_600).ok();
    hours
        .filter(|hours| *hours > 0 && seconds.is_multiple_of(3_600))
        .ok_or_else(|| "expected whole hours, such as `48h` or `2d`".to_owned())
}

/// A point in time: RFC 3339, a day in the zone of this machine, or how long ago it was.
pub(crate) fn moment(text: &str) -> Result<Timestamp, String> {
    moment_at(text, Timestamp::now(), &TimeZone::system())
}

fn moment_at(text: &str, now: Timestamp, zone: &TimeZone) -> Result<Timestamp, String> {
    if let Ok(time) = text.parse() {
        return Ok(time);
    }
    let civil = text.parse::<jiff::civil::DateTime>();
    if let Some(time) = civil.ok().and_then(|civil| civil.to_zoned(zone.clone()).ok()) {
        return Ok(time.timestamp());
    }
    time(text).ok().and_then(|ago| now.checked_sub(ago).ok()).ok_or_else(|| {
        "expected a time such as `2026-11-20T06:00:00Z`, a day such as `2026-11-20`, or how long ago, such as `24h`"
            .to_owned()
    })
}

/// `50/s`, `3000/m`, or a number for a second.
pub(crate) fn rate(text: &str) -> Result<f64, String> {
    let (count, seconds) = match text.split_once('/') {
        None => (text, 1.0),
        Some((count, "s")) => (count, 1.0),
        Some((count, "m" | "min")) => (count, 60.0),
        Some((count, "h")) => (count, 3_600.0),
        Some(_) => ("", 1.0),
    };
    match count.trim().parse::<f64>() {
        Ok(count) if count > 0.0 && count.is_finite() => Ok(count / seconds),
        _ => Err("expected a rate such as `50/s` or `3000/m`".to_owned()),
    }
}

/// The same where a function takes whole numbers a second.
pub(crate) fn whole_rate(text: &str) -> Result<u32, String> {
    let rate = rate(text)?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    if (1.0..=f64::from(u32::MAX)).contains(&rate) && rate.fract() == 0.0 {
        Ok(rate as u32)
    } else {
        Err("expected a whole number a second, such as `50/s`".to_owned())
    }
}

/// `1%`, as a part of one.
pub(crate) fn share(text: &str) -> Result<f64, String> {
    let number = text.strip_suffix('%').unwrap_or(text).trim().parse::<f64>();
    number
        .ok()
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or_else(|| "expected a share such as `1%`".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_rates_and_moments_are_read_as_people_write_them() {
        assert_eq!(time("10s"), Ok(Duration::from_secs(10)));
        assert_eq!(time("2d"), Ok(Duration::from_hours(48)));
        assert_eq!(time("1h30m"), Ok(Duration::from_mins(90)));
        assert!(time("soon").is_err() && time("-5s").is_err());

        assert_eq!(hours("2d"), Ok(48));
        assert!(hours("90m").is_err() && hours("0h").is_err());

        assert_eq!(rate("50/s"), Ok(50.0));
        assert_eq!(rate("3000/m"), Ok(50.0));
        assert_eq!(whole_rate("50"), Ok(50));
        for wrong in ["0/s", "50/x", "fast", "-1/s", "inf"] {
            assert!(rate(wrong).is_err(), "{wrong}");
        }
        assert!(whole_rate("1/m").is_err());
        assert_eq!((share("1%"), share("50")), (Ok(0.01), Ok(0.5)));
        assert!(share("101%").is_err() && share("-1%").is_err());

        let now: Timestamp = "2026-11-20T21:00:00Z".parse().unwrap();
        let seoul = TimeZone::get("Asia/Seoul").unwrap();
        let at = |text| moment_at(text, now, &seoul).map(|time| time.to_string());
        assert_eq!(at("24h"), Ok("2026-11-19T21:00:00Z".to_owned()));
        assert_eq!(at("2026-11-20"), Ok("2026-11-19T15:00:00Z".to_owned()));
        assert_eq!(at("2026-11-20T06:00"), Ok("2026-11-19T21:00:00Z".to_owned()));
        assert_eq!(at("2026-11-20T06:00:00Z"), Ok("2026-11-20T06:00:00Z".to_owned()));
        assert!(at("yesterday").is_err());
    }
}
