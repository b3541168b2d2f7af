//! `sluice completions` and `sluice man`: what a shell and a reader want to know of the verbs.

use std::io;

use clap::{Args, Command};
use clap_complete::Shell;

use crate::output::Verdict;

/// Print completions for a shell
#[derive(Debug, Args)]
pub(crate) struct Completions {
    shell: Shell,
}

/// Print the manual page, all verbs included
#[derive(Debug, Args)]
pub(crate) struct Man {}

impl Completions {
    pub(crate) fn run(&self, mut command: Command) -> Verdict {
        clap_complete::generate(self.shell, &mut command, "sluice", &mut io::stdout());
        Verdict::Fine
    }
}

impl Man {
    #[expect(clippy::unused_self, reason = "the verbs are run alike")]
    pub(crate) fn run(&self, mut command: Command) -> io::Result<Verdict> {
        command.build();
        render(&command, &mut io::stdout().lock())?;
        Ok(Verdict::Fine)
    }
}

/// The page of a command, and behind it those of its verbs.
fn render(command: &Command, out: &mut dyn io::Write) -> io::Result<()> {
    clap_mangen::Man::new(command.clone()).render(out)?;
    for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
        render(verb, out)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn the_manual_has_every_verb_in_it() {
        let mut command = crate::Cli::command();
        command.build();
        let mut page = Vec::new();
        render(&command, &mut page).unwrap();
        let page = String::from_utf8(page).unwrap();
        for verb in command.get_subcommands().filter(|verb| verb.get_name() != "help") {
            // As troff writes a hyphen.
            let title = format!("sluice-{}", verb.get_name()).replace('-', "\\-");
            assert!(page.contains(&title), "{title}");
        }
    }
}
