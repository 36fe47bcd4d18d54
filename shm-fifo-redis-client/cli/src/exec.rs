//! `redis-shm exec`: run a program so that its connections to some servers move to
//! shared memory.

pub(crate) mod endpoints;
mod program;

use crate::Answer;
use crate::args::ExecArgs;
use anyhow::{Context, bail};
use endpoints::Endpoints;
use program::Program;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The preloaded library; it reads the three variables below.
const LIBRARY: &str = "libshm_fifo_redis_preload.so";
const ENDPOINTS: &str = "SHM_FIFO_ENDPOINTS";
const AFTER_COMMANDS: &str = "SHM_FIFO_AFTER_COMMANDS";
pub(crate) const REPORT: &str = "SHM_FIFO_REPORT";
const LD_PRELOAD: &str = "LD_PRELOAD";
/// Some versions of libuv, which Node stands on, tell epoll what to watch by io_uring:
/// what does not pass through the C library cannot be seen.
const LIBUV_IO_URING: &str = "UV_USE_IO_URING";

/// Becomes the program; returns only if it cannot.
pub(crate) fn run(args: &ExecArgs) -> anyhow::Result<Answer> {
    let (program, arguments) = args.command.split_first().context("no program is named")?;
    let name = Path::new(program).display();
    let unservable = match Program::find(program) {
        Ok(program) => program.can_be_served().err(),
        Err(error) if args.strict => return Err(error),
        // That it cannot be run the kernel says, and that it cannot be read is no reason.
        Err(_) => None,
    };
    if let Some(reason) = &unservable {
        if args.strict {
            return Ok(Answer::No(format!("{name} cannot be moved to shared memory: {reason}")));
        }
        if args.verbose {
            eprintln!("redis-shm: {name} is run without shared memory: {reason}");
        }
    }
    let mut command = Command::new(program);
    command.args(arguments);
    if !unservable.is_some_and(|reason| reason.complains_of_library()) {
        preload(&mut command, &args.endpoints)?;
    }
    if args.verbose {
        command.env(REPORT, "stderr");
    }
    if let Some(commands) = args.after {
        command.env(AFTER_COMMANDS, commands.to_string());
    }
    let error = command.exec();
    let not_found = error.kind() == io::ErrorKind::NotFound;
    let hint = if not_found { "is it in PATH?" } else { "is it an executable file?" };
    Err(error).with_context(|| format!("cannot run {name}; {hint}"))
}

/// Lets the library into the program, to move its connections to these servers and those
/// that the environment names.
pub(crate) fn preload(command: &mut Command, endpoints: &Endpoints) -> anyhow::Result<()> {
    command.env(LD_PRELOAD, preloaded(&library()?)?);
    command.env(ENDPOINTS, endpoints.beside(env::var_os(ENDPOINTS))?);
    command.env(LIBUV_IO_URING, "0");
    Ok(())
}

/// `LD_PRELOAD` with the library in front of what is there.
fn preloaded(library: &Path) -> anyhow::Result<OsString> {
    let path = library.as_os_str().as_bytes();
    if path.iter().any(|byte| matches!(byte, b' ' | b':')) {
        bail!(
            "{} has a space or a colon in its path, which LD_PRELOAD cannot hold; move it",
            library.display()
        );
    }
    let before = env::var_os(LD_PRELOAD).filter(|others| !others.is_empty());
    Ok(match before {
        None => library.into(),
        Some(others)
            if others
                .as_bytes()
                .split(|&byte| matches!(byte, b' ' | b':'))
                .any(|one| one == path) =>
        {
            others
        }
        Some(others) => [library.as_os_str(), OsStr::new(":"), &others].into_iter().collect(),
    })
}

/// The library, beside this program or in ../lib.
pub(crate) fn library() -> anyhow::Result<PathBuf> {
    let own = env::current_exe().context("cannot tell where this program is")?;
    let own = own.canonicalize().unwrap_or(own);
    let directory = own.parent().context("this program has no directory")?;
    let places = [directory.join(LIBRARY), directory.join("../lib").join(LIBRARY)];
    match places.iter().find(|place| place.is_file()) {
        Some(place) => Ok(place.canonicalize()?),
        None => bail!(
            "{LIBRARY} is neither beside {} nor in ../lib; build it with: \
             cargo build --release -p shm-fifo-redis-preload",
            own.display()
        ),
    }
}
