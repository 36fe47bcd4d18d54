//! The library that `redis-shm exec` preloads into programs: whether it is there, and
//! whether it moves the connection of a program that is really run with it.

use super::check::Check;
use super::client::error_text;
use super::program::CLIENT;
use crate::child::Guard;
use crate::connect::REPLY_TIMEOUT;
use crate::exec::{self, endpoints::Endpoints};
use crate::running::RunningServer;
use anyhow::{anyhow, bail};
use redis::Value;
use shm_fifo_redis_client::Sharing;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::net::Shutdown;
use std::path::Path;

const PRELOAD: &str = "preload library";

/// Where a program's connection was, and what the library said of it.
#[derive(Debug)]
struct Trial {
    place: Place,
    /// The dynamic linker's words, and the library's report.
    said: Vec<String>,
}

#[derive(Debug)]
enum Place {
    SharedMemory,
    Socket,
    /// Nobody tells.
    Unknown(String),
}

/// Whether it is there.
pub(super) fn look_for_it() -> Check {
    match exec::library() {
        Ok(path) => Check::ok(PRELOAD, path.display().to_string()),
        Err(error) => {
            let text = error.to_string();
            let (detail, fix) = text.split_once("; ").unwrap_or((&text, "install it again"));
            Check::note(PRELOAD, format!("{detail}; redis-shm exec needs it"), fix)
        }
    }
}

/// Whether it works, with a server to which connections of this program move.
pub(super) fn check(server: &RunningServer) -> Check {
    // The program that is tried is this one, and into a static one nothing is preloaded.
    if cfg!(target_feature = "crt-static") {
        return look_for_it();
    }
    let Ok(library) = exec::library() else { return look_for_it() };
    match try_program(server) {
        Ok(trial) => judge(&library, &trial),
        Err(error) => Check::note(
            PRELOAD,
            format!("a program could not be tried with {}: {error:#}", library.display()),
            "run redis-shm doctor again",
        ),
    }
}

fn try_program(server: &RunningServer) -> anyhow::Result<Trial> {
    let endpoints = Endpoints::of(&server.endpoint);
    let (_process, socket) = Guard::talker(server, |command| {
        command.env(exec::REPORT, "stderr");
        exec::preload(command, &endpoints)
    })?;
    socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
    let mut lines = BufReader::new(&socket).lines();
    let mut said = Vec::new();
    let client = loop {
        let Some(line) = lines.next() else { bail!("it ended: {}", said.join("; ")) };
        let line = line?;
        match line.strip_prefix(CLIENT) {
            Some(client) => break client.to_owned(),
            None => said.push(line),
        }
    };
    let place = place_of(&client, server);
    socket.shutdown(Shutdown::Write)?;
    for line in lines {
        said.push(line?);
    }
    Ok(Trial { place, said })
}

/// Where the server has that client.
fn place_of(client: &str, server: &RunningServer) -> Place {
    let Ok(client) = client.parse::<u64>() else {
        return Place::Unknown(format!("CLIENT ID is answered with {client}"));
    };
    match clients_in_shared_memory(server) {
        Ok(clients) if clients.contains(&client) => Place::SharedMemory,
        Ok(_) => Place::Socket,
        Err(error) => Place::Unknown(format!("SHM.LIST is answered with {error}")),
    }
}

fn clients_in_shared_memory(server: &RunningServer) -> anyhow::Result<Vec<u64>> {
    let mut connection = server.client(Sharing::Never)?.get_connection()?;
    let list = redis::cmd("SHM.LIST").query::<Vec<BTreeMap<String, Value>>>(&mut connection);
    let list = list.map_err(|error| anyhow!(error_text(&error)))?;
    let id_of = |entry: BTreeMap<String, Value>| {
        let state: String = redis::from_redis_value_ref(entry.get("state")?).ok()?;
        let id = redis::from_redis_value_ref(entry.get("id")?).ok()?;
        (state != "offered").then_some(id)
    };
    Ok(list.into_iter().filter_map(id_of).collect())
}

fn judge(library: &Path, trial: &Trial) -> Check {
    const REASON: &str =
        "set right what it names; redis-shm exec --verbose says why your own programs' stay";
    let said = if trial.said.is_empty() { String::new() } else { format!(": {}", told(trial)) };
    let ran = format!("a program ran with {}", library.display());
    match &trial.place {
        Place::SharedMemory => Check::ok(PRELOAD, format!("{ran}, and its connection moved")),
        Place::Socket => Check::note(
            PRELOAD,
            format!("{ran}, and its connection stayed on its socket{said}"),
            REASON,
        ),
        Place::Unknown(reason) => Check::note(
            PRELOAD,
            format!("{ran}; whether its connection moved cannot be told, since {reason}{said}"),
            "ask as a user that may run CLIENT ID and SHM.LIST",
        ),
    }
}

/// Its lines without the name of the process, which is ours.
fn told(trial: &Trial) -> String {
    let short =
        |line: &String| line.split_once("]: ").map_or(line.as_str(), |(_, what)| what).to_owned();
    trial.said.iter().map(short).collect::<Vec<_>>().join("; ")
}
