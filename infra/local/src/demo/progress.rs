use std::cell::Cell;
use std::io::IsTerminal as _;
use std::time::{Duration, Instant};

use indicatif::{MultiProgress, ProgressBar, ProgressStyle};

use super::Look;

/// What the person at the terminal sees while the demo runs: spinners for the steps and bars for
/// the counts. Where standard error is no terminal, plain lines.
pub(crate) struct Progress {
    bars: Option<Bars>,
    total: u64,
    uploads: Cell<u64>,
    last_line: Cell<Option<Instant>>,
}

struct Bars {
    all: MultiProgress,
    uploaded: ProgressBar,
    queued: ProgressBar,
    started: ProgressBar,
    succeeded: ProgressBar,
}

/// One step of the preparation, with the time it takes.
pub(crate) struct Step {
    what: &'static str,
    since: Instant,
    spinner: Option<ProgressBar>,
}

/// How often a plain line with the counts is worth it.
const LINE_INTERVAL: Duration = Duration::from_secs(5);

const SPINNER_TICK: Duration = Duration::from_millis(100);

impl Progress {
    pub(crate) fn new(total: u64) -> Self {
        let bars = std::io::stderr().is_terminal().then(|| {
            let bar = |what: &'static str, total| {
                ProgressBar::new(total).with_style(bar_style()).with_prefix(what)
            };
            Bars {
                all: MultiProgress::new(),
                uploaded: bar("uploaded", total),
                queued: bar("queued", total),
                started: bar("started", total),
                succeeded: bar("succeeded", total),
            }
        });
        Self { bars, total, uploads: Cell::new(0), last_line: Cell::new(None) }
    }

    pub(crate) fn step(&self, what: &'static str) -> Step {
        let spinner = self.bars.as_ref().map(|bars| {
            let spinner = ProgressBar::new_spinner().with_style(spinner_style()).with_message(what);
            let spinner = bars.all.add(spinner);
            spinner.enable_steady_tick(SPINNER_TICK);
            spinner
        });
        if spinner.is_none() {
            eprintln!("{what} …");
        }
        Step { what, since: Instant::now(), spinner }
    }

    /// One more file is in the bucket.
    pub(crate) fn uploaded(&self) {
        self.uploads.set(self.uploads.get() + 1);
        if let Some(bars) = &self.bars {
            bars.uploaded.set_position(self.uploads.get());
        }
    }

    /// Files in the bucket.
    pub(crate) fn uploads(&self) -> u64 {
        self.uploads.get()
    }

    /// Puts the bars below the steps.
    pub(crate) fn begin(&self) {
        if let Some(bars) = &self.bars {
            for bar in bars.each() {
                bars.all.add(bar.clone()).tick();
            }
        }
    }

    pub(crate) fn show(&self, look: &Look) {
        let count = |number: usize| u64::try_from(number).unwrap_or(u64::MAX);
        match &self.bars {
            Some(bars) => {
                bars.queued.set_position(count(look.queued));
                bars.started.set_position(count(look.started));
                bars.succeeded.set_position(count(look.succeeded));
            }
            None if self.last_line.get().is_none_or(|last| last.elapsed() >= LINE_INTERVAL) => {
                self.last_line.set(Some(Instant::now()));
                self.line(look);
            }
            None => {}
        }
    }

    fn line(&self, look: &Look) {
        eprintln!(
            "uploaded {} of {}, queued {}, started {}, succeeded {}, dead letters {}",
            self.uploads.get(),
            self.total,
            look.queued,
            look.started,
            look.succeeded,
            look.dead_letters
        );
    }

    /// Leaves the counts of the last look on the screen.
    pub(crate) fn finish(&self, last: &Look) {
        match &self.bars {
            Some(bars) => {
                for bar in bars.each() {
                    bar.abandon();
                }
            }
            None => self.line(last),
        }
    }
}

impl Bars {
    /// From top to bottom.
    fn each(&self) -> [&ProgressBar; 4] {
        [&self.uploaded, &self.queued, &self.started, &self.succeeded]
    }
}

impl Step {
    /// Shows what is still missing, where this can change on the screen.
    pub(crate) fn waits_for(&self, missing: &str) {
        if let Some(spinner) = &self.spinner {
            spinner.set_message(format!("{}: {missing}", self.what));
        }
    }

    pub(crate) fn done(self) {
        let message = format!("{} ({:.1} s)", self.what, self.since.elapsed().as_secs_f64());
        match self.spinner {
            Some(spinner) => {
                spinner.set_style(done_style());
                spinner.finish_with_message(message);
            }
            None => eprintln!("{message}"),
        }
    }
}

fn bar_style() -> ProgressStyle {
    style("{prefix:>9} {bar:40.cyan/dim} {pos:>5} of {len}").progress_chars("━╸─")
}

fn spinner_style() -> ProgressStyle {
    style("{spinner:.cyan} {msg} {elapsed:.dim}")
}

fn done_style() -> ProgressStyle {
    style("✓ {msg}")
}

fn style(template: &str) -> ProgressStyle {
    // Without a style of its own a bar is plain, not wrong.
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_bar())
}
