//! `redis-shm generate`: man pages and completions, from the command line's own
//! definition.

use crate::Answer;
use crate::args::Args;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use std::fs;
use std::path::PathBuf;

const NAME: &str = "redis-shm";
const SHELLS: [Shell; 3] = [Shell::Bash, Shell::Zsh, Shell::Fish];

#[derive(Debug, clap::Args)]
pub(crate) struct GenerateArgs {
    /// Where they go.
    #[arg(value_name = "DIR")]
    directory: PathBuf,
}

pub(crate) fn run(args: &GenerateArgs) -> anyhow::Result<Answer> {
    let directory = &args.directory;
    let context = || format!("cannot write into {}", directory.display());
    fs::create_dir_all(directory).with_context(context)?;
    clap_mangen::generate_to(for_users(), directory).with_context(context)?;
    for shell in SHELLS {
        clap_complete::generate_to(shell, &mut for_users(), NAME, directory)
            .with_context(context)?;
    }
    Ok(Answer::Yes)
}

/// Without the hidden subcommands, which completions would offer.
fn for_users() -> clap::Command {
    let all = Args::command();
    let shown = all.get_subcommands().filter(|command| !command.is_hide_set()).cloned();
    clap::Command::new(NAME)
        .version(env!("CARGO_PKG_VERSION"))
        .about(all.get_about().cloned().unwrap_or_default())
        .after_help(all.get_after_help().cloned().unwrap_or_default())
        .subcommands(shown)
}
