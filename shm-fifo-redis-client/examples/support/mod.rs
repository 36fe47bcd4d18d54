//! What the examples that measure a running server share.

use shm_fifo_redis_client::{Attempt, Stream, move_to_shared_memory};
use std::io::{Read as _, Write as _};
use std::{env, error};

pub(crate) type Result<T> = std::result::Result<T, Box<dyn error::Error>>;

/// The socket that the command line names, and the numbers behind it: `defaults`, as far as it
/// says nothing else.
pub(crate) fn arguments<const N: usize>(
    usage: &str,
    defaults: [u64; N],
) -> Result<(String, [u64; N])> {
    let mut arguments = env::args().skip(1);
    let socket = arguments.next().ok_or(usage)?;
    let mut numbers = defaults;
    for number in &mut numbers {
        let Some(text) = arguments.next() else { break };
        *number = text.parse()?;
    }
    Ok((socket, numbers))
}

/// A connection, which `moves` to shared memory or stays on its socket.
pub(crate) fn connect(socket: &str, moves: bool) -> Result<Stream> {
    let stream = Stream::connect_unix(socket, None)?;
    if !moves {
        return Ok(stream);
    }
    match move_to_shared_memory(stream, None)? {
        Attempt::Moved(stream) => Ok(stream),
        Attempt::Stayed(_, refusal) => Err(refusal.to_string().into()),
    }
}

/// The reply to a command that has no more than a few kilobytes.
pub(crate) fn ask(aside: &mut Stream, command: &str) -> Result<String> {
    aside.write_all(format!("{command}\r\n").as_bytes())?;
    let mut reply = vec![0; 64 * 1024];
    let count = aside.read(&mut reply)?;
    Ok(String::from_utf8_lossy(&reply[..count]).into_owned())
}
