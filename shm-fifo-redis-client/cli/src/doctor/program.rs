//! A program that knows only sockets: what `redis-shm exec` is for.

use crate::Answer;
use crate::running::RunningServer;
use anyhow::{Context, ensure};
use std::io::{self, Read, Write};

/// The line that tells who the program is to the server.
pub(super) const CLIENT: &str = "client ";
/// More than a connection needs before it moves, and to have moved then.
const COMMANDS: usize = 50;
const LONGEST_LINE_BYTES: usize = 1024;

/// Says a few words to the server, tells on stdout as which client, and stays connected
/// until its stdin ends.
pub(crate) fn run(server: &RunningServer) -> anyhow::Result<Answer> {
    let mut socket = server.endpoint.target().connect()?;
    server.login.log_in(&mut socket)?;
    let id = ask(&mut socket, "CLIENT ID")?;
    for _ in 0..COMMANDS {
        ask(&mut socket, "PING")?;
    }
    println!("{CLIENT}{}", id.trim_start_matches(':'));
    io::stdin().read_to_end(&mut Vec::new())?;
    Ok(Answer::Yes)
}

/// A command whose reply is a line, if only of an error; without its end.
fn ask(socket: &mut (impl Read + Write), command: &str) -> anyhow::Result<String> {
    socket.write_all(format!("{command}\r\n").as_bytes())?;
    let mut line = Vec::new();
    while !line.ends_with(b"\r\n") {
        let mut byte = [0];
        let read = socket.read(&mut byte).with_context(|| format!("no answer to {command}"))?;
        ensure!(read == 1, "the server ended the connection");
        ensure!(line.len() < LONGEST_LINE_BYTES, "the answer to {command} has no end");
        line.extend(byte);
    }
    Ok(String::from_utf8_lossy(&line).trim_end().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixStream;

    fn answer(reply: &[u8]) -> anyhow::Result<String> {
        let (mut ours, mut theirs) = UnixStream::pair()?;
        theirs.write_all(reply)?;
        theirs.shutdown(std::net::Shutdown::Write)?;
        let answer = ask(&mut ours, "PING")?;
        let mut command = [0; 6];
        theirs.read_exact(&mut command)?;
        assert_eq!(&command, b"PING\r\n");
        Ok(answer)
    }

    #[test]
    fn an_answer_is_a_line() {
        assert_eq!(answer(b"+PONG\r\n").ok().as_deref(), Some("+PONG"));
        assert_eq!(answer(b"-NOPERM no\r\n+OK\r\n").ok().as_deref(), Some("-NOPERM no"));
    }

    #[test]
    fn no_line_is_an_error() {
        for (reply, reason) in [(&b""[..], "ended"), (b"+PO", "ended"), (&[b'x'; 2000], "no end")] {
            let error = answer(reply).expect_err("no answer").to_string();
            assert!(error.contains(reason), "{error}");
        }
    }
}
