//! The proof: a connection of its own that moves, is asked once more, and closed.

use super::check::Check;
use crate::refusals::SWITCH_ON;
use crate::running::RunningServer;
use anyhow::anyhow;
use redis::RedisError;
use shm_fifo_redis_client::{Refusal, Sharing};

const MOVE: &str = "move";

/// How the attempt ended.
#[derive(Debug)]
pub(super) enum Outcome {
    /// In shared memory, where the server then answered.
    Moved,
    /// The connection stayed on its socket.
    Refused(Refusal),
    /// The connection was lost.
    Failed(anyhow::Error),
}

pub(super) fn try_to_move(server: &RunningServer) -> Outcome {
    attempt(server).unwrap_or_else(Outcome::Failed)
}

fn attempt(server: &RunningServer) -> anyhow::Result<Outcome> {
    let client = server.client(Sharing::Required)?;
    let mut connection = match client.get_connection() {
        Ok(connection) => connection,
        Err(shm_fifo_redis_client::Error::NotShared(refusal)) => {
            return Ok(Outcome::Refused(refusal));
        }
        Err(error) => return Err(anyhow!("{error}")),
    };
    match redis::cmd("PING").query::<String>(&mut connection) {
        Ok(_) => Ok(Outcome::Moved),
        // That is an answer, too.
        Err(error) if error.code() == Some("NOPERM") => Ok(Outcome::Moved),
        Err(error) => Err(anyhow!("{error}")),
    }
}

/// What is to be said of the attempt itself, where no other check says it.
pub(super) fn check(outcome: &Outcome, user: &str) -> Option<Check> {
    Some(match outcome {
        Outcome::Moved => Check::ok(MOVE, "a connection moved and was answered in shared memory"),
        Outcome::Refused(Refusal::NoModule | Refusal::RemotePeer(_)) => return None,
        Outcome::Refused(refusal @ Refusal::NoPermission) => {
            let fix = format!("ACL SETUSER {user} +shm.open +shm.start");
            Check::problem(MOVE, without_advice(&refusal.to_string()), fix)
        }
        Outcome::Refused(Refusal::Refused(text)) => refused(text),
        Outcome::Refused(refusal) => Check::problem_of(MOVE, &refusal.to_string()),
        Outcome::Failed(error) => Check::problem_of(MOVE, &error.to_string()),
    })
}

/// The server's own words, with what an operator can do: to stay on the socket is
/// the advice for a client.
fn refused(text: &str) -> Check {
    let fixes = [
        ("shm.max-sessions is 0", SWITCH_ON),
        ("(shm.max-sessions)", "raise it by CONFIG SET shm.max-sessions, or close some"),
        ("(shm.max-memory)", "raise it by CONFIG SET shm.max-memory, or close some"),
        ("cannot make the shared memory", "give the server memory and memfd_create"),
        ("cannot send the file descriptor", "connect by unix socket, by -s PATH"),
    ];
    match fixes.into_iter().find(|(words, _)| text.contains(words)) {
        Some((_, fix)) => Check::problem(MOVE, without_advice(text), fix),
        None => Check::problem_of(MOVE, text),
    }
}

fn without_advice(text: &str) -> &str {
    text.split_once("; ").map_or(text, |(what, _)| what)
}

/// An error reply as the server wrote it; of another error, what it says.
pub(super) fn error_text(error: &RedisError) -> String {
    match (error.code(), error.detail()) {
        (Some(code), Some(detail)) => format!("{code} {detail}"),
        (Some(code), None) => code.to_owned(),
        (None, _) => error.to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fix_of(refusal: Refusal) -> String {
        let check = check(&Outcome::Refused(refusal), "app").expect("it is told of");
        check.fix.expect("problems have one")
    }

    fn fix(text: &str) -> String {
        fix_of(Refusal::Refused(text.to_owned()))
    }

    #[test]
    fn a_forbidden_command_is_allowed_to_the_user_that_asked() {
        assert_eq!(fix_of(Refusal::NoPermission), "ACL SETUSER app +shm.open +shm.start");
    }

    #[test]
    fn what_is_switched_off_is_not_left_so() {
        let text = "ERR SHM.OPEN: shared memory is switched off (shm.max-sessions is 0); stay on \
                    the socket";
        assert!(fix(text).contains("CONFIG SET shm.max-sessions 10000"));
        assert!(!refused(text).detail.contains("stay on"));
    }

    #[test]
    fn other_refusals_say_themselves_what_to_do() {
        let text = "ERR SHM.OPEN: earlier replies are still unsent; read them first";
        assert_eq!(fix(text), "read them first");
    }
}
