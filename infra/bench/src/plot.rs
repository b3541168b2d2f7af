//! The results as pictures.

use std::path::Path;

use anyhow::{Result, anyhow};
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::drain::{Burst, Sample};
use crate::measure::Case;
use crate::report::Results;
use crate::subject::{Job, Subject};

const OURS: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const OTHERS: RGBColor = RGBColor(0x9a, 0xa5, 0xb1);
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x44);

pub fn all(results: &Results, folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    bars(
        &folder.join("cold-start.svg"),
        "Cold start and first event of the forwarder, ms",
        &values(|subject| {
            let first = results.median(Case::Forwarder, subject, |run| run.first).as_secs_f64();
            (results.cold(Job::Forwarder, subject, |cold| cold.time) + first) * 1e3
        }),
    )?;
    bars(
        &folder.join("cpu.svg"),
        "CPU per event of the consumer, object inline, µs",
        &values(|subject| {
            results.median(Case::Consumer, subject, |run| run.cpu_event).as_secs_f64() * 1e6
        }),
    )?;
    bars(
        &folder.join("memory.svg"),
        "Peak memory of the consumer, MB",
        &values(|subject| results.megabytes(Case::Consumer, subject)),
    )?;
    quota(&results.drain.burst, folder)?;
    curves(
        &folder.join("local-burst.svg"),
        "10,000 uploads on the stack of cargo demo",
        "ended",
        &results.local,
    )
}

/// How the messages of a burst wait for the quota.
pub fn quota(burst: &Burst, folder: &Path) -> Result<()> {
    curves(
        &folder.join("burst.svg"),
        "10,000 messages against the quota of StartExecution (1,300, then 300 a second)",
        "started",
        &burst.samples,
    )
}

fn values(of: impl Fn(Subject) -> f64) -> Vec<(&'static str, f64)> {
    let rows = Subject::ALL.iter().map(|&subject| (subject.label(), of(subject)));
    rows.filter(|row| row.1 > 0.0).collect()
}

fn bars(path: &Path, title: &str, rows: &[(&str, f64)]) -> Result<()> {
    const WIDTH: i32 = 760;
    const ROW: i32 = 34;
    const LEFT: i32 = 230;
    const TOP: i32 = 48;
    let height = TOP + ROW * i32::try_from(rows.len())? + 12;
    let area = SVGBackend::new(path, (WIDTH.try_into()?, height.try_into()?)).into_drawing_area();
    let draw = || -> std::result::Result<(), DrawingAreaErrorKind<_>> {
        area.fill(&WHITE)?;
        area.draw(&Text::new(
            title.to_owned(),
            (14, 14),
            ("sans-serif", 18).into_font().color(&INK),
        ))?;
        let largest = rows.iter().map(|row| row.1).fold(f64::MIN_POSITIVE, f64::max);
        for (row, (label, value)) in (0..).zip(rows) {
            let top = TOP + row * ROW;
            let middle = top + ROW / 2 - 3;
            #[expect(clippy::cast_possible_truncation, reason = "pixels")]
            let length = (value / largest * f64::from(WIDTH - LEFT - 90)).round() as i32;
            let colour = if row == 0 { OURS } else { OTHERS };
            let right =
                ("sans-serif", 15).into_font().color(&INK).pos(Pos::new(HPos::Right, VPos::Center));
            area.draw(&Text::new((*label).to_owned(), (LEFT - 10, middle), right))?;
            area.draw(&Rectangle::new(
                [(LEFT, top), (LEFT + length.max(2), top + ROW - 8)],
                colour.filled(),
            ))?;
            let left =
                ("sans-serif", 15).into_font().color(&INK).pos(Pos::new(HPos::Left, VPos::Center));
            area.draw(&Text::new(short(*value), (LEFT + length.max(2) + 8, middle), left))?;
        }
        area.present()
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}

fn short(value: f64) -> String {
    if value < 10.0 { format!("{value:.2}") } else { format!("{value:.0}") }
}

type Count = fn(&Sample) -> u64;

/// Arrivals, queue and completions over time.
fn curves(path: &Path, title: &str, done: &str, samples: &[Sample]) -> Result<()> {
    let area = SVGBackend::new(path, (760, 360)).into_drawing_area();
    let draw = || -> std::result::Result<(), DrawingAreaErrorKind<_>> {
        area.fill(&WHITE)?;
        let seconds = samples.last().map_or(1.0, |sample| sample.seconds);
        let top = samples.iter().map(|sample| sample.arrived).max().unwrap_or(1);
        let mut chart = ChartBuilder::on(&area)
            .caption(title, ("sans-serif", 18).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(58)
            .build_cartesian_2d(0.0..seconds, 0..top + top / 20)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc("seconds")
            .y_desc("events")
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        let series: [(&str, RGBColor, Count); 3] = [
            ("arrived", OTHERS, |sample| sample.arrived),
            ("waiting", RGBColor(0x1b, 0x6c, 0xa8), |sample| sample.waiting),
            (done, OURS, |sample| sample.done),
        ];
        for (label, colour, of) in series {
            let points = samples.iter().map(|sample| (sample.seconds, of(sample)));
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(3)))?
                .label(label)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::MiddleRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        area.present()
    };
    draw().map_err(|error| anyhow!("cannot draw {}: {error}", path.display()))
}
