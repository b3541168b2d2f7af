//! Quantities as people write them, and as they read them.

use std::str::FromStr;

use jiff::{Span, SpanTotal, Unit};

use super::simulation::Quota;

/// So many a second, written like `200/s`, `12000/min` or `1000000/day`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Rate(pub(crate) f64);

impl FromStr for Rate {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong =
            || format!("expected a rate such as 200/s, 12000/min or 5000000/day, found {text}");
        let (number, unit) = text.split_once('/').ok_or_else(wrong)?;
        let seconds = match unit.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3_600.0,
            "d" | "day" => 86_400.0,
            _ => return Err(wrong()),
        };
        let number: f64 = number.trim().parse().map_err(|_| wrong())?;
        if !(0.0..=1e9).contains(&number) {
            return Err(wrong());
        }
        Ok(Self(number / seconds))
    }
}

/// A length of time in seconds, written like `10m`, `1h 30m`, `250ms` or `2d`.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Length(pub(crate) f64);

impl FromStr for Length {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || format!("expected a time such as 10m, 1h 30m, 250ms or 2d, found {text}");
        let span: Span = text.parse().map_err(|_| wrong())?;
        let total = SpanTotal::from(Unit::Second).days_are_24_hours();
        let seconds = span.total(total).map_err(|_| wrong())?;
        // Longer than an execution may run.
        if !(0.0..=366.0 * 86_400.0).contains(&seconds) {
            return Err(wrong());
        }
        Ok(Self(seconds))
    }
}

/// The bucket and the refill, written like `1300,300`.
impl FromStr for Quota {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let wrong = || {
            format!(
                "expected the size of the bucket and its refill a second, such as 1300,300, found {text}"
            )
        };
        let (bucket, refill) = text.split_once(',').ok_or_else(wrong)?;
        let number = |text: &str| {
            let number = text.trim().parse().ok();
            number.filter(|number| (1.0..=1e9).contains(number)).ok_or_else(wrong)
        };
        Ok(Self { bucket: number(bucket)?, refill: number(refill)? })
    }
}

/// `37 s`, `10 min`, `8 h 33 min`, `3 days 2 h`.
pub(crate) fn time(seconds: f64) -> String {
    let (units, size): ([&str; 2], f64) = match seconds {
        ..1.0 => return format!("{:.0} ms", seconds * 1e3),
        ..10.0 => return format!("{seconds:.1} s").replace(".0 ", " "),
        ..60.0 => return format!("{seconds:.0} s"),
        ..3_570.0 => (["min", "s"], 60.0),
        ..86_400.0 => (["h", "min"], 3_600.0),
        _ => (["days", "h"], 86_400.0),
    };
    let parts = if size > 3_600.0 { 24.0 } else { 60.0 };
    // Rounded as a whole, so that it never says 60 min.
    let all = (seconds / size * parts).round();
    let (large, small) = ((all / parts).floor(), all % parts);
    let unit = if units[0] == "days" && large < 2.0 { "day" } else { units[0] };
    if small < 1.0 || large >= 30.0 {
        format!("{large:.0} {unit}")
    } else {
        format!("{large:.0} {unit} {small:.0} {}", units[1])
    }
}

/// `2,938,336`.
pub(crate) fn count(number: f64) -> String {
    let digits = format!("{number:.0}");
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

/// `200/s`, `0.5/s`.
pub(crate) fn rate(per_second: f64) -> String {
    if per_second.fract() == 0.0 {
        format!("{}/s", count(per_second))
    } else {
        format!("{per_second:.3}/s")
    }
}

/// `2.9M`, for an axis.
pub(crate) fn short(number: f64) -> String {
    match number {
        1e9.. => format!("{:.1}G", number / 1e9),
        1e6.. => format!("{:.1}M", number / 1e6),
        1e4.. => format!("{:.0}k", number / 1e3),
        1e3.. => format!("{:.1}k", number / 1e3),
        _ => format!("{number:.0}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_and_times_are_read_as_people_write_them() {
        let rate = |text: &str| text.parse::<Rate>().map(|rate| rate.0);
        assert_eq!(rate("200/s"), Ok(200.0));
        assert_eq!(rate("12000/min"), Ok(200.0));
        assert_eq!(rate("86400/day"), Ok(1.0));
        let length = |text: &str| text.parse::<Length>().map(|length| length.0);
        assert_eq!(length("10m"), Ok(600.0));
        assert_eq!(length("1h 30m"), Ok(5_400.0));
        assert_eq!(length("250ms"), Ok(0.25));
        assert_eq!(length("2d"), Ok(172_800.0));
        assert_eq!("1300,300".parse(), Ok(Quota { bucket: 1_300.0, refill: 300.0 }));
    }

    #[test]
    fn what_is_no_quantity_is_refused_with_an_example() {
        for text in ["200", "200/w", "-1/s", "x/s", "NaN/s", "inf/s"] {
            let error = text.parse::<Rate>().unwrap_err();
            assert!(error.contains("such as 200/s") && error.ends_with(text), "{error}");
        }
        for text in ["10", "-10m", "ten minutes", "3 years"] {
            let error = text.parse::<Length>().unwrap_err();
            assert!(error.contains("such as 10m") && error.ends_with(text), "{error}");
        }
        for text in ["1300", "1300,0", "1300,x"] {
            let error = text.parse::<Quota>().unwrap_err();
            assert!(error.contains("such as 1300,300") && error.ends_with(text), "{error}");
        }
    }

    #[test]
    fn quantities_are_written_as_people_read_them() {
        let times = [0.02, 1.0, 37.5, 600.0, 3_599.9, 30_764.9, 86_400.0, 1_209_600.0, 266_400.0];
        let expected = [
            "20 ms",
            "1 s",
            "38 s",
            "10 min",
            "1 h",
            "8 h 33 min",
            "1 day",
            "14 days",
            "3 days 2 h",
        ];
        assert_eq!(times.map(time), expected);
        assert_eq!([0.0, 999.0, 2_938_336.0].map(count), ["0", "999", "2,938,336"]);
        assert_eq!(
            [12.0, 1_500.0, 99_000.0, 2_938_336.0].map(short),
            ["12", "1.5k", "99k", "2.9M"]
        );
    }
}
