//! The queue over time, as a picture.

use std::fmt::Write as _;

use plotters::prelude::*;

use super::{
    quantity::{short, time},
    report::Report,
    simulation::Sample,
};

const QUEUE: RGBColor = RGBColor(0x1b, 0x6c, 0xa8);
const DELAYED: RGBColor = RGBColor(0xd9, 0x5f, 0x02);
const INK: RGBColor = RGBColor(0x33, 0x3a, 0x44);

/// Points of a line in the picture.
const POINTS: usize = 600;

/// The deepest that the queue is in each of `columns` equal parts of the time.
fn columns(samples: &[Sample], columns: usize, of: fn(&Sample) -> f64) -> Vec<f64> {
    let Some(last) = samples.last() else { return Vec::new() };
    let mut depths = vec![None; columns];
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_precision_loss,
        clippy::cast_sign_loss,
        reason = "columns of a picture"
    )]
    for sample in samples {
        let column = (sample.time / last.time * columns as f64).ceil() as usize;
        let depth: &mut Option<f64> = &mut depths[column.clamp(1, columns) - 1];
        *depth = Some(depth.unwrap_or_default().max(of(sample)));
    }
    // A long step leaves columns without a sample.
    let mut before = 0.0;
    depths
        .into_iter()
        .map(|depth| {
            before = depth.unwrap_or(before);
            before
        })
        .collect()
}

/// A plot of Braille patterns, each of which is two columns of four dots.
pub(crate) fn braille(samples: &[Sample], width: usize, height: usize) -> String {
    /// Dots of a pattern from the bottom up, of its left column and of its right one.
    const DOTS: [[u32; 4]; 2] = [[0x40, 0x04, 0x02, 0x01], [0x80, 0x20, 0x10, 0x08]];
    const EMPTY: u32 = 0x2800;
    let depths = columns(samples, 2 * width, Sample::depth);
    let most = depths.iter().copied().fold(1.0, f64::max);
    let mut text = String::new();
    for row in (0..height).rev() {
        let label = if row + 1 == height { short(most) } else { String::new() };
        _ = write!(text, "{label:>6} │");
        let line: String = depths
            .chunks(2)
            .map(|pair| {
                let mut pattern = EMPTY;
                for (dots, depth) in DOTS.iter().zip(pair) {
                    for (dot, level) in dots.iter().zip(4 * row..) {
                        #[expect(clippy::cast_precision_loss, reason = "dots of a picture")]
                        let (level, levels) = (level as f64, (4 * height) as f64);
                        if depth / most * levels > level {
                            pattern |= dot;
                        }
                    }
                }
                char::from_u32(pattern).unwrap_or(' ')
            })
            .collect();
        text.push_str(line.trim_end_matches('\u{2800}'));
        text.push('\n');
    }
    let end = time(samples.last().map_or(0.0, |last| last.time));
    _ = writeln!(text, "{:>6} └{}", 0, "─".repeat(width));
    _ = writeln!(text, "{:8}0{end:>width$}", "", width = width - 1);
    text
}

/// The same as SVG, with what is delayed beside it.
pub(crate) fn svg(report: &Report) -> Result<String, String> {
    let samples = &report.outcome.samples;
    let (end, unit, label) = match samples.last().map_or(1.0, |last| last.time) {
        end if end < 300.0 => (end, 1.0, "seconds"),
        end if end < 10_800.0 => (end, 60.0, "minutes"),
        end if end < 259_200.0 => (end, 3_600.0, "hours"),
        end => (end, 86_400.0, "days"),
    };
    let all = columns(samples, POINTS, Sample::depth);
    let delayed = columns(samples, POINTS, |sample| sample.delayed);
    let most = all.iter().copied().fold(1.0, f64::max);
    let series = [("in the queue", QUEUE, all), ("of these delayed", DELAYED, delayed)];
    let mut text = String::new();
    let area = SVGBackend::with_string(&mut text, (760, 360)).into_drawing_area();
    let draw = || -> Result<(), DrawingAreaErrorKind<_>> {
        area.fill(&WHITE)?;
        let mut chart = ChartBuilder::on(&area)
            .caption(report.title(), ("sans-serif", 16).into_font().color(&INK))
            .margin(14)
            .x_label_area_size(42)
            .y_label_area_size(62)
            .build_cartesian_2d(0.0..end / unit, 0.0..most * 1.05)?;
        chart
            .configure_mesh()
            .light_line_style(TRANSPARENT)
            .x_desc(label)
            .y_desc("messages")
            .y_label_formatter(&|depth| short(*depth))
            .label_style(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        for (label, colour, depths) in &series {
            let colour = *colour;
            #[expect(clippy::cast_precision_loss, reason = "points of a picture")]
            let points = depths
                .iter()
                .enumerate()
                .map(|(index, depth)| ((index + 1) as f64 / POINTS as f64 * end / unit, *depth));
            let points = std::iter::once((0.0, 0.0)).chain(points);
            chart
                .draw_series(LineSeries::new(points, colour.stroke_width(3)))?
                .label(*label)
                .legend(move |(x, y)| {
                    PathElement::new([(x, y), (x + 22, y)], colour.stroke_width(3))
                });
        }
        chart
            .configure_series_labels()
            .position(SeriesLabelPosition::UpperRight)
            .background_style(WHITE.mix(0.8))
            .label_font(("sans-serif", 14).into_font().color(&INK))
            .draw()?;
        area.present()
    };
    draw().map_err(|error| error.to_string())?;
    drop(area);
    Ok(text)
}
