//! The module in the server: whether it is there, what it speaks, how it is set,
//! and who may use it.

use super::check::Check;
use super::client::error_text;
use super::server::Reached;
use crate::refusals::{Refusals, SWITCH_ON};
use redis::Value;
use shm_fifo_redis_client::{Connection, Refusal, wire};
use std::collections::BTreeMap;

const MODULE: &str = "module";
const PROTOCOL: &str = "protocol";
const PERMISSIONS: &str = "permissions";
const SETTINGS: &str = "settings";
const REFUSALS: &str = "refusals";

/// Looks at it, if it is there.
pub(super) fn look(server: &mut Reached, checks: &mut Vec<Check>) {
    // No version 0 exists: nothing is offered, and the answer names the right one.
    let open = probe(&mut server.connection, "SHM.OPEN", "0");
    if open.to_ascii_lowercase().contains("unknown command") {
        checks.push(Check::problem_of(MODULE, &Refusal::NoModule.to_string()));
        return;
    }
    // No token is so short: nothing is started.
    let start = probe(&mut server.connection, "SHM.START", "0");
    checks.push(loaded(&mut server.connection));
    checks.extend(protocol(&open));
    checks.push(permissions(&[&open, &start], &server.user));
    checks.push(settings(&mut server.connection));
    checks.push(match redis::cmd("INFO").arg("shm").query::<String>(&mut server.connection) {
        Ok(info) => refusals(&info),
        Err(error) => Check::note(
            REFUSALS,
            format!("not looked at: {}", error_text(&error)),
            "ask as a user that may run INFO",
        ),
    });
}

/// What the server says to a command that cannot succeed.
fn probe(connection: &mut Connection, command: &str, argument: &str) -> String {
    match redis::cmd(command).arg(argument).query::<Value>(connection) {
        Err(error) => error_text(&error),
        Ok(value) => format!("{value:?}"),
    }
}

fn loaded(connection: &mut Connection) -> Check {
    type Modules = Vec<BTreeMap<String, Value>>;
    let modules = redis::cmd("MODULE").arg("LIST").query::<Modules>(connection);
    let text = |value: &Value| redis::from_redis_value_ref::<String>(value).ok();
    let modules = modules.unwrap_or_default();
    let named = |module: &&BTreeMap<String, Value>| {
        module.get("name").and_then(text).is_some_and(|name| name == "shm")
    };
    let Some(module) = modules.iter().find(named) else {
        return Check::ok(MODULE, "shm is loaded; MODULE LIST is not for this user");
    };
    // Redis 6.2 does not tell the path. The module's own number has never changed; the
    // protocol's counts.
    Check::ok(
        MODULE,
        match module.get("path").and_then(text) {
            Some(path) => format!("shm is loaded, from {path}"),
            None => "shm is loaded".to_owned(),
        },
    )
}

/// `None` where the user may not even ask.
fn protocol(open: &str) -> Option<Check> {
    let (_, version) = open.rsplit_once("speaks version ")?;
    let ours = wire::PROTOCOL_VERSION;
    Some(if version == ours {
        Check::ok(PROTOCOL, format!("server and client speak the same one, version {ours}"))
    } else {
        Check::problem(
            PROTOCOL,
            format!("the server speaks version {version} of it, this program version {ours}"),
            "use the same version of shm-fifo in server and client",
        )
    })
}

fn permissions(answers: &[&str], user: &str) -> Check {
    if answers.iter().any(|answer| answer.starts_with("NOPERM")) {
        return Check::problem(
            PERMISSIONS,
            format!("the user {user} may not run SHM.OPEN and SHM.START"),
            format!("ACL SETUSER {user} +shm.open +shm.start"),
        );
    }
    Check::ok(PERMISSIONS, format!("the user {user} may run SHM.OPEN and SHM.START"))
}

fn settings(connection: &mut Connection) -> Check {
    let settings =
        redis::cmd("CONFIG").arg("GET").arg("shm.*").query::<BTreeMap<String, String>>(connection);
    match settings {
        Ok(settings) if settings.is_empty() => {
            Check::ok(SETTINGS, "as loadmodule was told; this server does not tell them")
        }
        Ok(settings) => judge(&settings),
        Err(error) => Check::note(
            SETTINGS,
            format!("not looked at: {}", error_text(&error)),
            "ask as a user that may run CONFIG GET",
        ),
    }
}

fn judge(settings: &BTreeMap<String, String>) -> Check {
    let is = |name: &str, value: &str| settings.get(name).is_some_and(|set| set == value);
    let all: Vec<String> = settings
        .iter()
        .map(|(name, value)| format!("{} {value}", name.trim_start_matches("shm.")))
        .collect();
    let all = all.join(", ");
    if is("shm.max-sessions", "0") {
        return Check::problem(SETTINGS, format!("switched off: {all}"), SWITCH_ON);
    }
    if is("shm.wait", "park") || is("shm.spin-us", "0") {
        return Check::note(
            SETTINGS,
            format!("the server never spins, so a command is as slow as a wake-up: {all}"),
            "CONFIG SET shm.wait adaptive, and shm.spin-us 200",
        );
    }
    Check::ok(SETTINGS, all)
}

/// Of other clients: that this one moves is no proof that all do.
fn refusals(info: &str) -> Check {
    let Some(refusals) = Refusals::from_info(info) else {
        return Check::ok(REFUSALS, "not counted by this version of the module");
    };
    match refusals.advice() {
        Some(advice) => Check::note(REFUSALS, refusals.summary(), advice),
        None => Check::ok(REFUSALS, format!("none; moved since the start: {}", refusals.moved())),
    }
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn the_servers_protocol_version_is_in_its_refusal() {
        let same = "ERR SHM.OPEN: unknown protocol version; this server speaks version 2";
        assert_eq!(protocol(same).expect("a version").status, Status::Ok);
        let newer = "ERR SHM.OPEN: unknown protocol version; this server speaks version 3";
        let check = protocol(newer).expect("a version");
        assert_eq!(check.status, Status::Problem);
        assert!(check.detail.contains("version 3") && check.detail.contains("version 2"));
        assert_eq!(protocol("NOPERM no"), None);
    }

    #[test]
    fn settings_are_judged() {
        let judged = |pairs: &[(&str, &str)]| {
            let pairs = pairs.iter().map(|&(name, value)| (name.to_owned(), value.to_owned()));
            judge(&pairs.collect())
        };
        let good = judged(&[("shm.max-sessions", "10000"), ("shm.wait", "adaptive")]);
        assert_eq!(good, Check::ok(SETTINGS, "max-sessions 10000, wait adaptive"));
        assert_eq!(judged(&[("shm.max-sessions", "0")]).status, Status::Problem);
        assert_eq!(judged(&[("shm.wait", "park")]).status, Status::Note);
        assert_eq!(judged(&[("shm.spin-us", "0")]).status, Status::Note);
    }

    #[test]
    fn an_older_module_counts_no_refusals() {
        let old = refusals("# shm\r\nshm_sessions:1\r\n");
        assert_eq!(old, Check::ok(REFUSALS, "not counted by this version of the module"));
    }
}
