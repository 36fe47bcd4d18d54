//! The server: whether it answers, to whom, and where it is.

use super::check::Check;
use super::client::{Outcome, error_text};
use super::peer;
use crate::login;
use crate::report::ServerInfo;
use crate::running::{Endpoint, RunningServer};
use anyhow::{anyhow, bail};
use redis::RedisError;
use rustix::process::Pid;
use shm_fifo_redis_client::{Connection, Error, Refusal, Sharing};
use std::fs;
use std::io;
use std::os::unix::net::UnixStream;

const SERVER: &str = "server";
const USER: &str = "user";
const PLACE: &str = "same host";

/// A server that answers this user, on a connection that stays on its socket.
pub(super) struct Reached {
    pub(super) connection: Connection,
    pub(super) user: String,
}

/// Connects and authenticates.
///
/// # Errors
/// If nobody answers, or not to this user: more cannot be told then.
pub(super) fn reach(server: &RunningServer, checks: &mut Vec<Check>) -> anyhow::Result<Reached> {
    let connected = server.client(Sharing::Never)?.get_connection();
    let mut connection = connected.map_err(|error| {
        checks.extend(not_reached(&server.endpoint, &error));
        // Its text holds that of its source already.
        anyhow!("{error}")
    })?;
    let answer: Result<String, RedisError> = redis::cmd("PING").query(&mut connection);
    if let Err(error) = answer
        && error.code() != Some("NOPERM")
    {
        checks.extend(no_answer(&server.endpoint, &error));
        bail!("the server answered PING with {}", error_text(&error));
    }
    checks.push(match redis::cmd("INFO").arg("server").query::<String>(&mut connection) {
        Ok(info) => answers(&server.endpoint, &ServerInfo::from_info(&info).to_string()),
        Err(_) => answers(&server.endpoint, "a server, whose INFO is not for this user,"),
    });
    let user = redis::cmd("ACL").arg("WHOAMI").query(&mut connection);
    let user =
        user.unwrap_or_else(|_| server.login.user.clone().unwrap_or_else(|| "default".into()));
    checks.push(Check::ok(USER, user.as_str()));
    Ok(Reached { connection, user })
}

fn answers(endpoint: &Endpoint, who: &str) -> Check {
    Check::ok(SERVER, format!("{who} answers at {}", endpoint.target()))
}

fn not_reached(endpoint: &Endpoint, error: &Error) -> Vec<Check> {
    const PERMISSION: &str =
        "let this user connect: unixsocketperm in redis.conf, and the socket's group";
    const SILENT: &str = "see its log, and whether it is stopped or runs a long command";
    const START: &str = "start it, or name it by -s PATH or -h HOST -p PORT";
    match error {
        Error::SetUp(error) if error.is_timeout() => {
            let text = "it accepts connections, and does not answer";
            vec![Check::problem(SERVER, text, SILENT)]
        }
        Error::SetUp(error) => {
            let text = error.detail().map_or_else(|| error.to_string(), str::to_owned);
            vec![answers(endpoint, "a server"), Check::problem(USER, text, login::ADVICE)]
        }
        Error::Connect { address, source } => {
            let denied = source.kind() == io::ErrorKind::PermissionDenied;
            let fix = if denied && endpoint.socket.is_some() { PERMISSION } else { START };
            vec![Check::problem(SERVER, format!("cannot connect to {address}: {source}"), fix)]
        }
        other => vec![Check::problem(SERVER, other.to_string(), START)],
    }
}

fn no_answer(endpoint: &Endpoint, error: &RedisError) -> Vec<Check> {
    let text = error_text(error);
    if error.code() == Some("NOAUTH") {
        return vec![answers(endpoint, "a server"), Check::problem(USER, text, login::ADVICE)];
    }
    let fix = "wait until it is ready, or see its log";
    vec![Check::problem(SERVER, format!("it answers PING with {text}"), fix)]
}

/// The server's process, which the kernel tells of a unix socket.
pub(super) fn process(server: &RunningServer) -> Option<Pid> {
    let socket = UnixStream::connect(server.endpoint.socket.as_ref()?).ok()?;
    peer::process(&socket)
}

/// Whether it runs on this host, and which of its namespaces are not ours.
pub(super) fn place(server: &RunningServer, outcome: &Outcome) -> Check {
    if let Outcome::Refused(refusal @ Refusal::RemotePeer(_)) = outcome {
        return Check::problem_of(PLACE, &refusal.to_string());
    }
    if server.endpoint.socket.is_none() {
        return Check::ok(PLACE, "by TCP from this host, which needs the same network namespace");
    }
    let Some(pid) = process(server) else {
        return Check::ok(PLACE, "by unix socket; the server is in another PID namespace");
    };
    Check::ok(PLACE, format!("by unix socket, process {pid}, {}", namespaces(pid)))
}

fn namespaces(pid: Pid) -> String {
    let namespace = |process: &str, kind: &str| fs::read_link(format!("/proc/{process}/ns/{kind}"));
    let mut others = Vec::new();
    for kind in ["net", "pid", "mnt", "ipc", "user"] {
        match (namespace(&pid.to_string(), kind), namespace("self", kind)) {
            (Ok(theirs), Ok(ours)) if theirs == ours => {}
            (Ok(_), Ok(_)) => others.push(kind),
            // Those of another user's process are its own affair.
            _ => return "whose namespaces this user cannot see".to_owned(),
        }
    }
    match others.as_slice() {
        [] => "the same namespaces".to_owned(),
        others => format!("other namespaces ({}), which is no hindrance", others.join(", ")),
    }
}
