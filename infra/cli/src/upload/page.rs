//! The report of a run: one HTML page that needs nothing else.

use jiff::Timestamp;

use super::{
    Look,
    account::{Account, Uploaded},
};
use crate::output::number;

const WIDTH: f64 = 760.0;
const HEIGHT: f64 = 180.0;
/// For the numbers at the axes.
const LEFT: f64 = 60.0;
const BELOW: f64 = 24.0;

const STYLE: &str = "body{font:15px/1.5 system-ui,sans-serif;max-width:52rem;margin:2rem auto;padding:0 1rem;\
    color:#1b1f24;background:#fff}h1{font-size:1.4rem}h2{font-size:1.05rem;margin:1.6rem 0 .2rem}\
    td{padding:.1rem .8rem .1rem 0}td:nth-child(2){text-align:right;font-variant-numeric:tabular-nums}\
    td:nth-child(3){color:#57606a}svg{width:100%;height:auto}svg text{font:11px system-ui,sans-serif;fill:#57606a}\
    @media(prefers-color-scheme:dark){body{color:#e6edf3;background:#0d1117}}";

pub(super) fn render(
    account: &Account,
    looks: &[Look],
    uploaded: &[Uploaded],
    stack: &str,
) -> String {
    let begin = uploaded.iter().map(|upload| upload.at).min().unwrap_or_default();
    let seconds = |at: Timestamp| at.duration_since(begin).as_secs_f64();
    let end = looks.iter().map(|look| seconds(look.at)).fold(1.0, f64::max);
    let uploads: Vec<f64> = uploaded.iter().map(|upload| seconds(upload.at)).collect();
    let starts: Vec<f64> = account.started_at.iter().map(|at| seconds(*at)).collect();
    let depth: Vec<_> = looks.iter().map(|look| (seconds(look.at), count(look.waiting))).collect();

    let mut page = format!(
        "<!doctype html>\n<html lang=\"en\"><meta charset=\"utf-8\">\
         <meta name=\"viewport\" content=\"width=device-width\">\
         <title>Uploads to {stack}</title><style>{STYLE}</style>\n<h1>Uploads to {stack}</h1>\n<p>{}</p>\n<table>",
        begin,
        stack = escaped(stack),
    );
    for (name, value, note) in account.rows() {
        let note = if value > 0 { note } else { "" };
        let cells = [name, &number(value), &escaped(note)].map(|cell| format!("<td>{cell}</td>"));
        page.extend(["<tr>", &cells.concat(), "</tr>\n"]);
    }
    let verdict = anstream::adapter::strip_str(&account.verdict()).to_string();
    page.extend(["</table>\n<p><strong>", &escaped(&verdict), "</strong></p>\n"]);
    for (title, plot) in [
        ("Uploads a second", steps(&per_second(&uploads, end), end, "#0969da")),
        ("Messages in the work queue", line(&depth, end, "#bc4c00")),
        ("Executions started a second", steps(&per_second(&starts, end), end, "#1a7f37")),
        ("Seconds from upload to end, by share of the objects", quantiles(&account.latencies)),
    ] {
        page.extend(["<h2>", title, "</h2>\n", &plot, "\n"]);
    }
    page.push_str("</html>\n");
    page
}

/// How many fall into each second.
fn per_second(times: &[f64], end: f64) -> Vec<(f64, f64)> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "seconds of a run")]
    let index = |time: f64| time.max(0.0) as usize;
    let mut counts = vec![0_u64; index(end) + 1];
    for time in times {
        if let Some(count) = counts.get_mut(index(*time)) {
            *count += 1;
        }
    }
    counts.into_iter().enumerate().map(|(second, it)| (count(second as u64), count(it))).collect()
}

fn quantiles(sorted: &[f64]) -> String {
    let last = count(sorted.len().saturating_sub(1).max(1) as u64);
    let points =
        sorted.iter().enumerate().map(|(at, value)| (count(at as u64) * 100.0 / last, *value));
    line(&points.collect::<Vec<_>>(), 100.0, "#8250df")
}

/// Each point holds for one second.
fn steps(points: &[(f64, f64)], end: f64, colour: &str) -> String {
    let held: Vec<_> =
        points.iter().flat_map(|(x, y)| [(*x, *y), ((x + 1.0).min(end), *y)]).collect();
    line(&held, end, colour)
}

fn line(points: &[(f64, f64)], end: f64, colour: &str) -> String {
    let top = points.iter().map(|(_, y)| *y).fold(0.0, f64::max);
    let scale = if top > 0.0 { top } else { 1.0 };
    let place = |(x, y): &(f64, f64)| {
        let across = LEFT + x / end.max(f64::MIN_POSITIVE) * (WIDTH - LEFT - 10.0);
        format!("{across:.1},{:.1}", HEIGHT - BELOW - y / scale * (HEIGHT - BELOW - 14.0))
    };
    let path: Vec<_> = points.iter().map(place).collect();
    let (floor, right) = (HEIGHT - BELOW, WIDTH - 10.0);
    format!(
        "<svg viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\">\
         <path d=\"M{LEFT},14H{right}M{LEFT},{floor}H{right}\" stroke=\"#8c959f\" stroke-width=\".5\" fill=\"none\"/>\
         <polyline points=\"{}\" fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"/>\
         <text x=\"{}\" y=\"18\" text-anchor=\"end\">{}</text>\
         <text x=\"{}\" y=\"{floor}\" text-anchor=\"end\">0</text>\
         <text x=\"{LEFT}\" y=\"{HEIGHT}\">0</text>\
         <text x=\"{right}\" y=\"{HEIGHT}\" text-anchor=\"end\">{}</text></svg>",
        path.join(" "),
        LEFT - 6.0,
        short(top),
        LEFT - 6.0,
        short(end),
    )
}

fn short(value: f64) -> String {
    if value >= 100.0 || value.fract() == 0.0 {
        format!("{value:.0}")
    } else {
        format!("{value:.1}")
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure in a plot")]
fn count(number: u64) -> f64 {
    number as f64
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let page = render(&Account::default(), &[], &[], "a<b");
        assert!(page.contains("a&lt;b") && !page.contains("a<b"));
        for word in ["http", "src=", "url(", "<script", "<link", "NaN", "inf"] {
            assert!(!page.contains(word), "{word}");
        }
    }

    #[test]
    fn what_falls_into_a_second_is_counted_there() {
        assert_eq!(per_second(&[0.0, 0.9, 2.5], 2.9), [(0.0, 2.0), (1.0, 0.0), (2.0, 1.0)]);
    }

    #[test]
    fn the_highest_point_touches_the_upper_line() {
        let plot = line(&[(0.0, 0.0), (10.0, 5.0)], 10.0, "red");
        assert!(plot.contains("points=\"60.0,156.0 750.0,14.0\""), "{plot}");
    }
}
