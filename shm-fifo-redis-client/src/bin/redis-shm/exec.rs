//! `redis-shm exec`: run a program so that its connections to one Redis move to
//! shared memory.

mod program;

use crate::Answer;
use crate::args::ExecArgs;
use crate::running::Endpoint;
use anyhow::{Context, bail};
use program::Program;
use std::env;
use std::ffi::{OsStr, OsString};
use std::io;
use std::net::{SocketAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The preloaded library; it reads the two variables below.
const LIBRARY: &str = "libshm_fifo_redis_preload.so";
const ENDPOINT: &str = "SHM_FIFO_ENDPOINT";
const AFTER_COMMANDS: &str = "SHM_FIFO_AFTER_COMMANDS";
const LD_PRELOAD: &str = "LD_PRELOAD";
/// Some versions of libuv, which Node stands on, tell epoll what to watch by io_uring:
/// what does not pass through the C library cannot be seen.
const LIBUV_IO_URING: &str = "UV_USE_IO_URING";

/// Becomes the program; returns only if it cannot.
pub(crate) fn run(args: &ExecArgs) -> anyhow::Result<Answer> {
    let (program, arguments) = args.command.split_first().context("no program is named")?;
    if args.strict
        && let Err(reason) = Program::find(program)?.can_be_served()
    {
        let program = Path::new(program).display();
        return Ok(Answer::No(format!("{program} cannot be moved to shared memory: {reason}")));
    }
    let mut command = Command::new(program);
    command.args(arguments);
    command.env(LD_PRELOAD, preloaded(&library()?)?);
    command.env(ENDPOINT, endpoint(&args.endpoint)?);
    command.env(LIBUV_IO_URING, "0");
    if let Some(commands) = args.after {
        command.env(AFTER_COMMANDS, commands.to_string());
    }
    let error = command.exec();
    let not_found = error.kind() == io::ErrorKind::NotFound;
    let hint = if not_found { "is it in PATH?" } else { "is it an executable file?" };
    Err(error).with_context(|| format!("cannot run {}; {hint}", Path::new(program).display()))
}

/// What the library is told to move.
fn endpoint(named: &Endpoint) -> anyhow::Result<OsString> {
    if let Some(path) = &named.socket {
        // The program may change its directory.
        let path = std::path::absolute(path).context("cannot tell the current directory")?;
        return Ok(OsString::from_vec([b"unix:", path.as_os_str().as_bytes()].concat()));
    }
    let (host, port) = (named.host(), named.port());
    let resolved = (host, port).to_socket_addrs();
    let resolved = resolved.with_context(|| format!("cannot find the host {host}"))?;
    let addresses: Vec<String> = resolved.as_ref().iter().map(SocketAddr::to_string).collect();
    Ok(format!("tcp:{}", addresses.join(",")).into())
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
