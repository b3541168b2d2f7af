//! What the live screen shows. Nothing here asks anybody, reads a clock or knows a terminal.

use std::{
    collections::{BTreeMap, VecDeque},
    time::Duration,
};

use ansi_to_tui::IntoText as _;
use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};
use jiff::{Timestamp, tz::TimeZone};
use ratatui::{
    Frame,
    layout::{Constraint, Layout, Rect},
    style::{Color, Modifier, Style, Stylize as _},
    text::{Line, Text},
    widgets::{
        Block, Borders, List, ListState, Paragraph, RenderDirection, Sparkline, SparklineBar, Wrap,
    },
};

use super::ask::{Failed, Look, News};
use crate::{
    aws::Depth,
    output::{BAD, GOOD, QUIET, STRONG, columns, number, paint, since, span},
    status::{Drain, Known, Rest},
};

/// All that there is to show.
#[derive(Debug)]
pub(super) struct Screen {
    title: String,
    interval: Duration,
    zone: TimeZone,
    now: Timestamp,
    last: Option<Look>,
    rest: Option<Rest>,
    oldest: Option<Known<u64>>,
    points: VecDeque<Point>,
    /// What the consumer gave up, oldest first, and what keeps it from being known.
    dead_lettered: VecDeque<Failed>,
    dead_lettered_gap: Option<String>,
    /// Executions that ended badly, and what keeps them from being known.
    failed: Vec<Failed>,
    failed_gap: Option<String>,
    /// Which of the failures is chosen.
    chosen: Option<Failed>,
    story: Option<Shown>,
}

/// What one look adds to the curves. Rates are a second's.
#[derive(Debug, Clone, Copy, PartialEq)]
struct Point {
    at: Timestamp,
    work_queue: Option<Depth>,
    arrivals: Option<f64>,
    starts: Option<f64>,
}

/// The story of one object, which covers the rest.
#[derive(Debug)]
struct Shown {
    of: String,
    text: Text<'static>,
    /// Lines that are above the screen.
    above: u16,
}

/// What a key means beyond the screen.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Wish {
    Nothing,
    /// The story of an event, by its id or the name of an execution.
    Story {
        of: String,
    },
    End,
}

/// More than a wide terminal has columns for a curve.
const MOST_POINTS: usize = 300;

/// Failures that are kept; the older ones are in the logs.
const MOST_FAILURES: usize = 200;

/// How far back the looks go that tell how fast the queue drains.
const DRAIN_WINDOW: Duration = Duration::from_secs(30);

/// Rows of a curve, and of what is below the curves, without their titles.
const CURVE_ROWS: u16 = 4;
const REST_ROWS: u16 = 5;

impl Screen {
    pub(super) fn new(
        stack: &str,
        region: &str,
        interval: Duration,
        now: Timestamp,
        zone: TimeZone,
    ) -> Self {
        Self {
            title: format!("{} in {region}", paint(STRONG, stack)),
            interval,
            zone,
            now,
            last: None,
            rest: None,
            oldest: None,
            points: VecDeque::new(),
            dead_lettered: VecDeque::new(),
            dead_lettered_gap: None,
            failed: Vec::new(),
            failed_gap: None,
            chosen: None,
            story: None,
        }
    }

    pub(super) fn take(&mut self, news: News) {
        match news {
            News::Look(look) => self.take_look(look),
            News::Rest { rest, oldest, failed } => {
                self.rest = Some(*rest);
                self.oldest = Some(oldest);
                match failed {
                    Known::Value(failed) => (self.failed, self.failed_gap) = (failed, None),
                    Known::Unknown { unknown } => self.failed_gap = Some(unknown),
                }
            }
            News::Story { of, text } => {
                // Unless it was closed meanwhile, or another was opened.
                if let Some(story) = self.story.as_mut().filter(|story| story.of == of) {
                    let text = text.unwrap_or_else(|error| {
                        format!("{}: {error}", paint(BAD, "the story cannot be told"))
                    });
                    story.text = styled(&text);
                }
            }
        }
        if self.chosen.is_none() {
            let newest = self.failures().first().map(|failed| (*failed).clone());
            self.chosen = newest;
        }
    }

    fn take_look(&mut self, mut look: Look) {
        self.now = look.at;
        match std::mem::replace(&mut look.dead_lettered, Known::Value(Vec::new())) {
            Known::Value(new) => {
                self.dead_lettered.extend(new);
                let surplus = self.dead_lettered.len().saturating_sub(MOST_FAILURES);
                self.dead_lettered.drain(..surplus);
                self.dead_lettered_gap = None;
            }
            Known::Unknown { unknown } => self.dead_lettered_gap = Some(unknown),
        }
        let (arrivals, starts) = match &self.last {
            Some(last) => (arrivals(last, &look), starts(last, &look)),
            // There is no span of time before the first look.
            None => (None, None),
        };
        let work_queue = look.work_queue.value().copied();
        self.points.push_back(Point { at: look.at, work_queue, arrivals, starts });
        if self.points.len() > MOST_POINTS {
            self.points.pop_front();
        }
        self.last = Some(look);
    }

    /// Newest first.
    fn failures(&self) -> Vec<&Failed> {
        let mut all: Vec<_> = self.dead_lettered.iter().chain(&self.failed).collect();
        all.sort_by(|a, b| b.at.cmp(&a.at).then_with(|| a.name.cmp(&b.name)));
        all
    }

    fn chosen_at(&self, failures: &[&Failed]) -> Option<usize> {
        let chosen = self.chosen.as_ref()?;
        // If it has gone from the list, the oldest that is left is nearest to it.
        failures
            .iter()
            .position(|failed| *failed == chosen)
            .or_else(|| failures.len().checked_sub(1))
    }

    pub(super) fn press(&mut self, key: KeyEvent) -> Wish {
        if key.kind == KeyEventKind::Release {
            return Wish::Nothing;
        }
        if key.code == KeyCode::Char('c') && key.modifiers.contains(KeyModifiers::CONTROL) {
            return Wish::End;
        }
        if let Some(story) = &mut self.story {
            match key.code {
                KeyCode::Esc | KeyCode::Enter | KeyCode::Backspace | KeyCode::Char('q') => {
                    self.story = None;
                }
                KeyCode::Up | KeyCode::Char('k') => story.above = story.above.saturating_sub(1),
                KeyCode::Down | KeyCode::Char('j') => story.above = story.above.saturating_add(1),
                KeyCode::PageUp => story.above = story.above.saturating_sub(10),
                KeyCode::PageDown | KeyCode::Char(' ') => {
                    story.above = story.above.saturating_add(10);
                }
                KeyCode::Home => story.above = 0,
                _ => {}
            }
            return Wish::Nothing;
        }
        match key.code {
            KeyCode::Char('q') | KeyCode::Esc => return Wish::End,
            KeyCode::Up | KeyCode::Char('k') => self.choose(-1),
            KeyCode::Down | KeyCode::Char('j') => self.choose(1),
            KeyCode::PageUp => self.choose(-10),
            KeyCode::PageDown => self.choose(10),
            KeyCode::Home => self.choose(isize::MIN),
            KeyCode::End => self.choose(isize::MAX),
            KeyCode::Enter | KeyCode::Char('t') => return self.open(),
            _ => {}
        }
        Wish::Nothing
    }

    fn choose(&mut self, by: isize) {
        let failures = self.failures();
        let Some(last) = failures.len().checked_sub(1) else { return };
        let at = self.chosen_at(&failures).unwrap_or_default();
        let at = at.saturating_add_signed(by).min(last);
        self.chosen = failures.get(at).map(|failed| (*failed).clone());
    }

    /// Opens the story of the chosen failure, which is then asked for.
    fn open(&mut self) -> Wish {
        let failures = self.failures();
        let chosen = self.chosen_at(&failures).and_then(|at| failures.get(at).copied());
        let Some(failed) = chosen else { return Wish::Nothing };
        let (of, text, wish) = match &failed.name {
            Some(name) => (
                name.clone(),
                paint(QUIET, "asking the bucket, Step Functions, the archive and the logs …"),
                Wish::Story { of: name.clone() },
            ),
            None => (
                String::new(),
                format!(
                    "The message could not be decoded ({}), so that it names no object.\n\
                     `sluice dead-letters ls` counts it, and `sluice dead-letters show` shows what it is.",
                    failed.class
                ),
                Wish::Nothing,
            ),
        };
        self.story = Some(Shown { of, text: styled(&text), above: 0 });
        wish
    }

    pub(super) fn draw(&mut self, frame: &mut Frame<'_>) {
        let [head, body, foot] =
            Layout::vertical([Constraint::Length(1), Constraint::Fill(1), Constraint::Length(1)])
                .areas(frame.area());
        let time = self.now.to_zoned(self.zone.clone()).strftime("%H:%M:%S %Z").to_string();
        let title = format!("{} at {time}, every {}", self.title, span(self.interval));
        frame.render_widget(styled(&title), head);
        let keys = if self.story.is_some() {
            "↑ ↓ scroll   Esc back   Ctrl-C end"
        } else {
            "↑ ↓ choose a failure   Enter its story   q end"
        };
        frame.render_widget(Line::from(keys).dim(), foot);
        if let Some(story) = &mut self.story {
            story.draw(frame, body);
        } else {
            self.draw_overview(frame, body);
        }
    }

    fn draw_overview(&self, frame: &mut Frame<'_>, area: Rect) {
        let backlog = self.backlog();
        let backlog_rows = u16::try_from(backlog.lines.len()).unwrap_or_default();
        let [top, curves, middle, bottom] = Layout::vertical([
            Constraint::Length(1 + backlog_rows),
            Constraint::Length(1 + CURVE_ROWS),
            Constraint::Length(1 + REST_ROWS),
            Constraint::Fill(1),
        ])
        .areas(area);
        frame.render_widget(Paragraph::new(backlog).block(titled("backlog")), top);
        self.draw_curves(frame, curves);
        let rest = match &self.rest {
            Some(rest) => columns(&rest.rows(self.now, &self.zone), &[]),
            None => paint(QUIET, "  asking …"),
        };
        frame.render_widget(Paragraph::new(styled(&rest)).block(titled("stack")), middle);
        self.draw_failures(frame, bottom);
    }

    /// The queues, in three lines.
    fn backlog(&self) -> Text<'static> {
        let Some(look) = &self.last else { return styled(&paint(QUIET, "  asking …")) };
        let work_queue = look.work_queue.said(|depth| {
            let Depth { visible, in_flight, delayed } = *depth;
            let [visible, in_flight, delayed] = [visible, in_flight, delayed].map(number);
            let mut text = format!(
                "{}: {visible} visible, {in_flight} in flight, {delayed} delayed",
                paint(STRONG, number(depth.total()))
            );
            if let (true, Some(Known::Value(age))) = (depth.total() > 0, &self.oldest) {
                text.extend([", oldest ", &span(Duration::from_secs(*age))]);
            }
            text
        });
        let dead_letters = look.dead_letters.said(|depth| match depth.total() {
            0 => paint(GOOD, "0"),
            count => paint(BAD, number(count)),
        });
        let drain = self.drain().unwrap_or_else(|| paint(QUIET, "–"));
        let rows = [("work queue", work_queue), ("", drain), ("dead letters", dead_letters)];
        let rows: Vec<_> = rows.map(|(name, words)| vec![name.to_owned(), words]).into();
        styled(&columns(&rows, &[]))
    }

    /// How the work queue has changed in the last half minute.
    fn drain(&self) -> Option<String> {
        let newest = self.points.back()?;
        let window = DRAIN_WINDOW.max(self.interval * 2);
        let oldest = self
            .points
            .iter()
            .find(|point| since(point.at, newest.at) <= window && point.work_queue.is_some())?;
        let (before, after) = (oldest.work_queue?, newest.work_queue?);
        if oldest.at == newest.at {
            return None;
        }
        let drain = Drain::between(before, after, since(oldest.at, newest.at), newest.at);
        Some(drain.in_words(after, newest.at, &self.zone))
    }

    fn draw_curves(&self, frame: &mut Frame<'_>, area: Rect) {
        let thirds = Layout::horizontal([Constraint::Fill(1); 3]).spacing(2).areas::<3>(area);
        #[expect(clippy::cast_precision_loss, reason = "a queue has far fewer messages")]
        let depth = |point: &Point| point.work_queue.map(|depth| depth.total() as f64);
        self.draw_curve(frame, thirds[0], ("depth", "", Color::Blue), depth);
        self.draw_curve(frame, thirds[1], ("arrivals", "/s", Color::Yellow), |it| it.arrivals);
        self.draw_curve(frame, thirds[2], ("starts", "/s", Color::Green), |it| it.starts);
    }

    /// A curve that ends at the right, under its newest value at the left, and its largest.
    fn draw_curve(
        &self,
        frame: &mut Frame<'_>,
        area: Rect,
        (name, unit, colour): (&str, &str, Color),
        of: impl Fn(&Point) -> Option<f64>,
    ) {
        let values: Vec<_> = self.points.iter().rev().take(area.width.into()).map(of).collect();
        let most = values.iter().flatten().copied().fold(0.0, f64::max);
        let title = match values.first() {
            Some(Some(newest)) => format!("{name} {}{unit}", short(*newest)),
            Some(None) if self.points.len() > 1 => format!("{name} unknown"),
            Some(None) | None => name.to_owned(),
        };
        let bars = values.into_iter().map(|value| SparklineBar::from(value.map(scaled)));
        let curve = Sparkline::default()
            .data(bars)
            .max(scaled(most).max(1))
            .direction(RenderDirection::RightToLeft)
            .absent_value_symbol("·")
            .absent_value_style(Style::new().dim())
            .style(colour)
            .block(titled(title).title(Line::from(format!(" ↑ {} ", short(most))).right_aligned()));
        frame.render_widget(curve, area);
    }

    fn draw_failures(&self, frame: &mut Frame<'_>, area: Rect) {
        let failures = self.failures();
        let mut by_class: BTreeMap<&str, u64> = BTreeMap::new();
        for failed in &failures {
            *by_class.entry(&failed.class).or_default() += 1;
        }
        let mut by_class: Vec<_> = by_class.into_iter().collect();
        by_class.sort_by_key(|(class, count)| (std::cmp::Reverse(*count), *class));
        let counts = by_class.iter().map(|(class, count)| format!("{} × {class}", number(*count)));
        let title = match counts.collect::<Vec<_>>().join(", ") {
            none if none.is_empty() => "newest failures".to_owned(),
            counts => format!("newest failures: {counts}"),
        };
        let block = titled(title);
        let mut gaps: Vec<_> =
            [("dead letters", &self.dead_lettered_gap), ("executions", &self.failed_gap)]
                .into_iter()
                .filter_map(|(of, gap)| gap.as_ref().map(|why| format!("  {of} unknown: {why}")))
                .collect();
        if gaps.is_empty() && failures.is_empty() {
            gaps.push("  none".to_owned());
        }
        let gap_rows = u16::try_from(gaps.len()).unwrap_or_default();
        let inner = block.inner(area);
        frame.render_widget(block, area);
        let [above, list] =
            Layout::vertical([Constraint::Length(gap_rows), Constraint::Fill(1)]).areas(inner);
        frame.render_widget(Paragraph::new(gaps.join("\n")).dim(), above);

        let width = failures.iter().map(|failed| failed.class.chars().count()).max().unwrap_or(0);
        let rows = failures.iter().map(|failed| {
            let time = failed.at.to_zoned(self.zone.clone()).strftime("%H:%M:%S");
            let object = failed.key.as_deref().unwrap_or("(not decoded)");
            format!("{time}  {:width$}  {object}", failed.class)
        });
        let mut state = ListState::default().with_selected(self.chosen_at(&failures));
        let rows = List::new(rows)
            .highlight_symbol("▸ ")
            .highlight_style(Style::new().add_modifier(Modifier::BOLD));
        frame.render_stateful_widget(rows, list, &mut state);
    }
}

impl Shown {
    fn draw(&mut self, frame: &mut Frame<'_>, area: Rect) {
        let block = titled("the story of this object");
        let inner = block.inner(area);
        self.above = self.above.min(self.rows(inner.width).saturating_sub(inner.height));
        let text = Paragraph::new(self.text.clone())
            .wrap(Wrap { trim: false })
            .scroll((self.above, 0))
            .block(block);
        frame.render_widget(text, area);
    }

    /// How many rows the text takes at most, whose words are not broken at the end of a line.
    fn rows(&self, width: u16) -> u16 {
        let width = usize::from(width.max(1));
        let rows = self.text.lines.iter().map(|line| match line.width() {
            fits if fits <= width => 1,
            wide => wide.div_ceil(width) + 1,
        });
        rows.sum::<usize>().try_into().unwrap_or(u16::MAX)
    }
}

/// How many messages came in a second: those that the queues have more than before, and those that
/// have become executions. A redrive moves messages from one queue to the other, and is no arrival.
fn arrivals(last: &Look, look: &Look) -> Option<f64> {
    let waiting = |look: &Look| {
        Some(look.work_queue.value()?.total().saturating_add(look.dead_letters.value()?.total()))
    };
    let more = i128::from(waiting(look)?) - i128::from(waiting(last)?);
    let came = more + i128::from(*look.started.value()?);
    // Duplicates are acknowledged and letters archived, which makes fewer of both.
    Some(per_second(u64::try_from(came).unwrap_or_default(), last, look))
}

fn starts(last: &Look, look: &Look) -> Option<f64> {
    Some(per_second(*look.started.value()?, last, look))
}

fn per_second(count: u64, last: &Look, look: &Look) -> f64 {
    let seconds = since(last.at, look.at).as_secs_f64();
    #[expect(clippy::cast_precision_loss, reason = "a look finds far fewer")]
    let count = count as f64;
    if seconds > 0.0 { count / seconds } else { 0.0 }
}

/// With one decimal, if it is small.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no less than 0")]
fn short(value: f64) -> String {
    if value < 10.0 && value.fract() > 0.0 {
        format!("{value:.1}")
    } else {
        number(value.round() as u64)
    }
}

/// A value for a bar, which is a whole number, with its tenths.
#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "no less than 0")]
fn scaled(value: f64) -> u64 {
    (value * 10.0).round() as u64
}

fn titled(title: impl std::fmt::Display) -> Block<'static> {
    let title = Line::from(format!(" {title} ")).bold();
    Block::new().borders(Borders::TOP).border_style(Style::new().dim()).title(title)
}

/// The words of the other verbs, with their styles.
fn styled(text: &str) -> Text<'static> {
    text.into_text().unwrap_or_else(|_| Text::raw(anstream::adapter::strip_str(text).to_string()))
}

#[cfg(test)]
mod tests {
    use ratatui::{Terminal, backend::TestBackend};
    use redrive::Ledger;

    use super::*;
    use crate::{
        aws::{Count, Dated},
        failure::Failure,
        pause::Mapping,
        status::{Alarm, Executions},
    };

    /// 2026-11-20T14:00:00Z
    const BEGIN: i64 = 1_795_183_200;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(BEGIN + second).unwrap()
    }

    fn screen() -> Screen {
        Screen::new("sluice", "eu-west-1", Duration::from_secs(5), at(0), TimeZone::UTC)
    }

    fn look(second: i64, waiting: u64, dead: u64, started: u64) -> Look {
        let depth = |visible| Known::Value(Depth { visible, ..Depth::default() });
        Look {
            at: at(second),
            work_queue: depth(waiting),
            dead_letters: depth(dead),
            started: Known::Value(started),
            dead_lettered: Known::Value(Vec::new()),
        }
    }

    fn failed(second: i64, class: &str, key: &str) -> Failed {
        Failed {
            at: at(second),
            class: class.into(),
            key: Some(key.into()),
            name: Some(format!("id of {key}")),
        }
    }

    fn rest() -> News {
        let count = |count| Count { count, or_more: false };
        News::Rest {
            rest: Box::new(Rest {
                executions: Known::Value(Executions {
                    running: count(3),
                    succeeded: count(197),
                    failed: count(1),
                    ..Executions::default()
                }),
                consumer: Known::Value(Mapping::in_state("Enabled")),
                alarms: Known::Value(vec![Alarm {
                    name: "DeadLettersAlarm".into(),
                    since: Some(at(-600)),
                }]),
                last_redrive: Known::Value(None),
                last_ledger: Known::Value(Some(Dated {
                    at: at(-28_800),
                    report: Ledger { versions: 412, closed: true, ..Ledger::default() },
                })),
            }),
            oldest: Known::Value(75),
            failed: Known::Value(vec![failed(3, "InvalidDeviceState", "devices/2/state.json")]),
        }
    }

    /// A burst of 1,000 that drains by 20 a second, with two poisoned objects.
    fn busy() -> Screen {
        let mut screen = screen();
        screen.take(News::Look(look(0, 0, 0, 0)));
        screen.take(News::Look(look(5, 1_000, 0, 50)));
        let mut last = look(10, 898, 2, 100);
        last.dead_lettered = Known::Value(vec![
            failed(6, "NotJson", "devices/1/poison.json"),
            failed(8, "NotJson", "devices/4/poison.json"),
        ]);
        screen.take(News::Look(last));
        screen.take(rest());
        screen
    }

    fn drawn(screen: &mut Screen, columns: u16, rows: u16) -> Vec<String> {
        let mut terminal = Terminal::new(TestBackend::new(columns, rows)).unwrap();
        terminal.draw(|frame| screen.draw(frame)).unwrap();
        let buffer = terminal.backend().buffer();
        let cells: Vec<_> = buffer.content().iter().map(ratatui::buffer::Cell::symbol).collect();
        let rows = cells.chunks(columns.into()).map(|row| row.concat().trim_end().to_owned());
        rows.collect()
    }

    fn press(screen: &mut Screen, code: KeyCode) -> Wish {
        screen.press(KeyEvent::new(code, KeyModifiers::NONE))
    }

    #[test]
    fn all_of_it_is_readable_on_80_by_24() {
        let text = drawn(&mut busy(), 80, 24);
        assert_eq!(
            text,
            [
                "sluice in eu-west-1 at 14:00:10 UTC, every 5 s",
                " backlog ───────────────────────────────────────────────────────────────────────",
                "  work queue    898: 898 visible, 0 in flight, 0 delayed, oldest 1 min 15 s",
                "                grows by 89.8 a second: more arrives than is started",
                "  dead letters  2",
                " depth 898 ───── ↑ 1,000    arrivals 0/s ───── ↑ 210    starts 20/s ────── ↑ 20",
                "                       █▄                         ·█                         · █",
                "                       ██                         ·█                         · █",
                "                       ██                         ·█                         ·██",
                "                       ██                         ·█                         ·██",
                " stack ─────────────────────────────────────────────────────────────────────────",
                "  executions    3 running, 197 succeeded, 1 failed",
                "  consumer      on",
                "  alarms        DeadLettersAlarm since 13:50",
                "  last redrive  none within 48 hours",
                "  last ledger   06:00, 8 h ago: closed, 412 versions, 0 missing",
                " newest failures: 2 × NotJson, 1 × InvalidDeviceState ──────────────────────────",
                "▸ 14:00:08  NotJson             devices/4/poison.json",
                "  14:00:06  NotJson             devices/1/poison.json",
                "  14:00:03  InvalidDeviceState  devices/2/state.json",
                "",
                "",
                "",
                "↑ ↓ choose a failure   Enter its story   q end",
            ]
        );
    }

    #[test]
    fn before_the_first_answer_it_says_that_it_asks() {
        let text = drawn(&mut screen(), 80, 24).join("\n");
        assert!(text.contains("backlog") && text.contains("asking …"), "{text}");
        assert!(text.contains("  none"), "{text}");
    }

    #[test]
    fn what_arrives_is_what_waits_more_and_what_was_started() {
        let rates = |last: &Look, look: &Look| (arrivals(last, look), starts(last, look));
        // 100 more wait, and 50 were started.
        assert_eq!(rates(&look(0, 0, 0, 0), &look(10, 100, 0, 50)), (Some(15.0), Some(5.0)));
        // A redrive moves letters, and nothing arrives.
        assert_eq!(rates(&look(0, 0, 30, 0), &look(10, 20, 0, 10)), (Some(0.0), Some(1.0)));
        // Archived letters and duplicates leave without having been started.
        assert_eq!(rates(&look(0, 5, 30, 0), &look(10, 0, 0, 0)), (Some(0.0), Some(0.0)));
        let mut denied = look(10, 0, 0, 0);
        denied.started = Known::Unknown { unknown: "no right".into() };
        assert_eq!(rates(&look(0, 0, 0, 0), &denied), (None, None));
    }

    #[test]
    fn each_part_that_cannot_be_asked_says_why_and_the_others_stay() {
        let unknown = |why: &str| Failure::Usage(why.to_owned());
        let mut screen = busy();
        let mut last = look(15, 0, 0, 0);
        last.work_queue = Known::of(Err(unknown("no right for the queue")));
        last.started = Known::of(Err(unknown("an EXPRESS machine")));
        last.dead_lettered = Known::of(Err(unknown("no right for the log")));
        screen.take(News::Look(last));
        let News::Rest { mut rest, .. } = rest() else { panic!("as it was made") };
        rest.alarms = Known::of(Err(unknown("DescribeAlarms is not known")));
        let failed = Known::of(Err(unknown("no right to describe")));
        screen.take(News::Rest { rest, oldest: Known::of(Err(unknown("late"))), failed });
        let text = drawn(&mut screen, 80, 24).join("\n");
        for part in [
            "work queue    unknown: no right for the queue",
            "dead letters  0",
            "depth unknown",
            "arrivals unknown",
            "starts unknown",
            "alarms        unknown: DescribeAlarms is not known",
            "executions    3 running",
            "  dead letters unknown: no right for the log",
            "  executions unknown: no right to describe",
            // What was known of them before.
            "14:00:08  NotJson",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        // And is known again.
        screen.take(News::Look(look(20, 7, 0, 0)));
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("work queue    7: 7 visible"), "{text}");
        assert!(!text.contains("no right for the log"), "{text}");
    }

    #[test]
    fn the_curves_grow_from_the_right_and_leave_out_what_is_unknown() {
        let mut screen = screen();
        for (second, waiting) in [(0, 80), (5, 40), (10, 0)] {
            screen.take(News::Look(look(second, waiting, 0, 0)));
        }
        let mut gap = look(15, 0, 0, 0);
        gap.work_queue = Known::Unknown { unknown: "no right".into() };
        screen.take(News::Look(gap));
        screen.take(News::Look(look(20, 80, 0, 0)));
        let text = drawn(&mut screen, 80, 24);
        let top = text.iter().position(|line| line.contains(" depth 80 ")).unwrap();
        let curve = |row: usize| text[top + row].chars().take(25).collect::<String>();
        assert!(curve(1).ends_with("█  ·█"), "{:?}", curve(1));
        assert!(curve(4).ends_with("██ ·█"), "{:?}", curve(4));
    }

    #[test]
    fn a_failure_is_chosen_and_stays_chosen_when_newer_ones_come() {
        let mut screen = busy();
        assert_eq!(press(&mut screen, KeyCode::Down), Wish::Nothing);
        let mut next = look(15, 0, 0, 0);
        next.dead_lettered = Known::Value(vec![failed(12, "NotJson", "devices/9/poison.json")]);
        screen.take(News::Look(next));
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("▸ 14:00:06  NotJson             devices/1/poison.json"), "{text}");
        let of = "id of devices/1/poison.json".to_owned();
        assert_eq!(press(&mut screen, KeyCode::Enter), Wish::Story { of });
        press(&mut screen, KeyCode::Esc);
        // The ends of the list are the ends of the choice.
        press(&mut screen, KeyCode::End);
        press(&mut screen, KeyCode::Down);
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("▸ 14:00:03"), "{text}");
        press(&mut screen, KeyCode::Home);
        press(&mut screen, KeyCode::Up);
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("▸ 14:00:12"), "{text}");
    }

    #[test]
    fn a_story_covers_the_screen_scrolls_and_gives_it_back() {
        let mut screen = busy();
        let Wish::Story { of } = press(&mut screen, KeyCode::Enter) else { panic!("no story") };
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("asking the bucket") && !text.contains("backlog"), "{text}");
        // The answer to what was asked before, and closed.
        screen.take(News::Story { of: "other".into(), text: Ok("other".into()) });
        assert!(drawn(&mut screen, 80, 24).join("\n").contains("asking the bucket"));

        let lines = (1..=50).map(|line| format!("line {line}"));
        let story = format!("{}\n{}", paint(BAD, "archived"), lines.collect::<Vec<_>>().join("\n"));
        screen.take(News::Story { of: of.clone(), text: Ok(story) });
        let text = drawn(&mut screen, 80, 24);
        assert_eq!((text[2].as_str(), text[3].as_str()), ("archived", "line 1"));
        for _ in 0..9 {
            press(&mut screen, KeyCode::PageDown);
        }
        // 51 lines, of which 21 fit; it does not scroll beyond the last one.
        assert_eq!(drawn(&mut screen, 80, 24)[22], "line 50");
        press(&mut screen, KeyCode::Up);
        assert_eq!(drawn(&mut screen, 80, 24)[22], "line 49");

        assert_eq!(press(&mut screen, KeyCode::Char('q')), Wish::Nothing);
        assert!(drawn(&mut screen, 80, 24).join("\n").contains("backlog"));

        press(&mut screen, KeyCode::Enter);
        screen.take(News::Story { of, text: Err(Failure::Usage("no right".into())) });
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("the story cannot be told: no right"), "{text}");
    }

    #[test]
    fn what_could_not_be_decoded_has_no_story() {
        let mut screen = screen();
        let mut last = look(5, 0, 1, 0);
        let unreadable = Failed { key: None, name: None, ..failed(4, "NotJson", "") };
        last.dead_lettered = Known::Value(vec![unreadable]);
        screen.take(News::Look(last));
        assert!(drawn(&mut screen, 80, 24).join("\n").contains("(not decoded)"));
        assert_eq!(press(&mut screen, KeyCode::Enter), Wish::Nothing);
        let text = drawn(&mut screen, 80, 24).join("\n");
        assert!(text.contains("names no object") && text.contains("dead-letters ls"), "{text}");
    }

    #[test]
    fn q_escape_and_control_c_end_it() {
        for code in [KeyCode::Char('q'), KeyCode::Esc] {
            assert_eq!(press(&mut busy(), code), Wish::End);
        }
        let interrupt = KeyEvent::new(KeyCode::Char('c'), KeyModifiers::CONTROL);
        let mut screen = busy();
        assert_eq!(press(&mut screen, KeyCode::Char('c')), Wish::Nothing);
        press(&mut screen, KeyCode::Enter);
        assert_eq!(screen.press(interrupt), Wish::End);
    }

    #[test]
    fn no_size_of_a_terminal_makes_it_fail() {
        for (columns, rows) in [(1, 1), (20, 5), (80, 10), (250, 80)] {
            let mut screen = busy();
            drawn(&mut screen, columns, rows);
            press(&mut screen, KeyCode::Enter);
            drawn(&mut screen, columns, rows);
        }
    }
}
