//! `sluice watch`: the live screen. `ask` asks AWS, `screen` holds what was found and draws it, and
//! here the two meet with the keys.

mod ask;
mod screen;

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use clap::Args;
use crossterm::event::{Event, EventStream};
use futures::StreamExt as _;
use jiff::{Timestamp, tz::TimeZone};
use ratatui::DefaultTerminal;
use tokio::sync::mpsc;

use crate::{
    aws::{Options, Stack},
    failure::Failure,
    output::{Format, Manner, Verdict},
};
use ask::News;
use screen::{Screen, Wish};

/// Show a live screen: the backlog, what arrives and is started, and the newest failures
///
/// The arrow keys choose one of the failures, and Enter tells the story of its object. q, Esc and
/// Ctrl-C end the screen. What arrives is computed: each message that has come since the last look
/// is in a queue now, or has become an execution. Counts that AWS has only approximately, such as
/// the depth of a queue, make the curves approximate too. Every look costs a handful of calls.
#[derive(Debug, Args)]
pub(crate) struct Watch {
    /// How long to wait between two looks; at least a second
    #[arg(long, value_name = "TIME", value_parser = interval, default_value = "5s")]
    interval: Duration,
}

/// What has been found, or asked for, and not yet been dealt with.
const CHANNEL: usize = 16;

fn interval(text: &str) -> Result<Duration, String> {
    let time = crate::parse::time(text)?;
    if time < Duration::from_secs(1) {
        return Err("expected a time of at least `1s`".to_owned());
    }
    Ok(time)
}

impl Watch {
    pub(crate) async fn run(&self, options: &Options, manner: Manner) -> Result<Verdict, Failure> {
        if manner.output == Format::Json || !io::stdout().is_terminal() {
            return Err(Failure::NoScreen);
        }
        let stack = Stack::find(options).await?;
        let screen = Screen::new(
            &stack.name,
            &stack.region,
            self.interval,
            Timestamp::now(),
            TimeZone::system(),
        );
        let (found, news) = mpsc::channel(CHANNEL);
        let (wish, wishes) = mpsc::channel(CHANNEL);
        let mut terminal = OnScreen::begin()?;
        tokio::select! {
            () = Box::pin(ask::for_ever(&stack, self.interval, &found, wishes)) => {}
            result = show(&mut terminal.0, screen, news, &wish) => result.map_err(Failure::Terminal)?,
        }
        Ok(Verdict::Fine)
    }
}

/// Draws what is found, and does what the keys say, until one of them ends it.
async fn show(
    terminal: &mut DefaultTerminal,
    mut screen: Screen,
    mut news: mpsc::Receiver<News>,
    wishes: &mpsc::Sender<String>,
) -> io::Result<()> {
    let mut keys = EventStream::new();
    loop {
        terminal.draw(|frame| screen.draw(frame))?;
        tokio::select! {
            Some(news) = news.recv() => screen.take(news),
            event = keys.next() => match event.transpose()? {
                Some(Event::Key(key)) => match screen.press(key) {
                    Wish::Nothing => {}
                    // Full only if many stories are asked for at once; the next key asks again.
                    Wish::Story { of } => drop(wishes.try_send(of)),
                    Wish::End => return Ok(()),
                },
                // A new size, for instance: the next turn draws.
                Some(_) => {}
                None => return Ok(()),
            },
        }
    }
}

/// The terminal while the screen has it. It gets it back when this value is dropped; after a panic,
/// already before the message of the panic, by a hook of ratatui.
struct OnScreen(DefaultTerminal);

impl OnScreen {
    fn begin() -> Result<Self, Failure> {
        ratatui::try_init().map(Self).map_err(Failure::Terminal)
    }
}

impl Drop for OnScreen {
    fn drop(&mut self) {
        ratatui::restore();
    }
}
