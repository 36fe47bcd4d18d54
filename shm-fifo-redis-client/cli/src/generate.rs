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

/// What the command line does not know of itself, a page's last sections; in `roff(7)`.
const LAST_SECTIONS: [(&str, &str); 9] = [
    ("redis-shm.1", include_str!("generate/manual/redis-shm.roff")),
    ("redis-shm-bench.1", include_str!("generate/manual/redis-shm-bench.roff")),
    ("redis-shm-conformance.1", include_str!("generate/manual/redis-shm-conformance.roff")),
    ("redis-shm-demo.1", include_str!("generate/manual/redis-shm-demo.roff")),
    ("redis-shm-doctor.1", include_str!("generate/manual/redis-shm-doctor.roff")),
    ("redis-shm-exec.1", include_str!("generate/manual/redis-shm-exec.roff")),
    ("redis-shm-latency.1", include_str!("generate/manual/redis-shm-latency.roff")),
    ("redis-shm-report.1", include_str!("generate/manual/redis-shm-report.roff")),
    ("redis-shm-stat.1", include_str!("generate/manual/redis-shm-stat.roff")),
];

fn write_page(command: &clap::Command, directory: &Path) -> io::Result<()> {
    let page = Man::new(command.clone()).source(SOURCE).manual("shm-fifo");
    let name = page.get_filename();
    let mut text = Vec::new();
    page.render(&mut text)?;
    let text = String::from_utf8_lossy(&text);
    // The version is in the page's last line already.
    let text = text.split(".SH VERSION\n").next().unwrap_or_default();
    // Where manuals have what stands below our options; Man has another name for it.
    let (options, below) = text.split_once(".SH EXTRA\nExit codes: ").unwrap_or((text, ""));
    let (codes, notes) = below.split_once("\n\n").unwrap_or((below, ""));
    let mut text = format!("{options}.SH \"EXIT STATUS\"\n{}\n", codes.trim_end());
    if !notes.is_empty() {
        text += &format!(".SH NOTES\n{}\n", notes.trim_end().replace("\n\n", "\n.PP\n"));
    }
    let last = LAST_SECTIONS.iter().find(|(page, _)| *page == name);
    text += last.map_or("", |(_, sections)| sections);
    fs::write(directory.join(name), text)
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
