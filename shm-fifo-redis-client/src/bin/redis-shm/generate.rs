//! `redis-shm generate`: man pages and completions, from the command line's own
//! definition.

use crate::Answer;
use crate::args::Args;
use anyhow::Context;
use clap::CommandFactory;
use clap_complete::Shell;
use clap_mangen::Man;
use std::path::{Path, PathBuf};
use std::{fs, io, iter};

const NAME: &str = "redis-shm";
const SOURCE: &str = concat!("redis-shm ", env!("CARGO_PKG_VERSION"));
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
    let mut command = for_users().disable_help_subcommand(true);
    // Gives the subcommands their full names.
    command.build();
    for page in iter::once(&command).chain(command.get_subcommands()) {
        write_page(page, directory).with_context(context)?;
    }
    for shell in SHELLS {
        let path = clap_complete::generate_to(shell, &mut for_users(), NAME, directory)
            .with_context(context)?;
        complete_commands(shell, &path).with_context(context)?;
    }
    Ok(Answer::Yes)
}

/// Adds what clap_complete cannot do for the program behind `exec --`. For zsh it can.
fn complete_commands(shell: Shell, script: &Path) -> io::Result<()> {
    let text = fs::read_to_string(script)?;
    let text = match shell {
        // It writes the hyphen of our name in two ways, one of them that of a
        // subcommand: nothing would be offered behind the first word.
        Shell::Bash => {
            text.replace("redis__subcmd__shm", "redis__shm") + include_str!("generate/exec.bash")
        }
        Shell::Fish => text + include_str!("generate/exec.fish"),
        _ => text,
    };
    fs::write(script, text)
}

fn write_page(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let page = Man::new(command.clone()).source(SOURCE).manual("shm-fifo");
    let mut text = Vec::new();
    page.render(&mut text)?;
    // Where manuals have what stands below our options; Man has another name for it.
    let text =
        String::from_utf8_lossy(&text).replace(".SH EXTRA\nExit codes: ", ".SH \"EXIT STATUS\"\n");
    fs::write(directory.join(page.get_filename()), text)
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
