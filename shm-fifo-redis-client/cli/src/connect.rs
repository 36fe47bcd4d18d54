//! Streams to measure, one type whatever carries them.

use anyhow::anyhow;
use shm_fifo_redis_client::{Attempt, MoveError, Refusal, Stream, move_to_shared_memory};
use std::fmt;
use std::io;
use std::net::TcpStream;
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// Longer than any reply takes. It ends a run that would hang.
pub(crate) const REPLY_TIMEOUT: Duration = Duration::from_secs(10);

/// Where a server listens.
#[derive(Debug, Clone)]
pub(crate) enum Target {
    Tcp { host: String, port: u16 },
    Unix(PathBuf),
}

impl Target {
    /// The socket that the connection begins on; it stays there unless it is
    /// moved.
    pub(crate) fn connect(&self) -> anyhow::Result<Stream> {
        self.connect_socket().map_err(|error| self.no_connection(&error))
    }

    /// Why there is none.
    pub(crate) fn no_connection(&self, error: &impl fmt::Display) -> anyhow::Error {
        anyhow!("cannot connect to {self}: {error}; is the server running there?")
    }

    fn connect_socket(&self) -> io::Result<Stream> {
        // A timeout of the socket costs nothing. One of the stream would add
        // system calls, and so make sockets look worse than they are.
        match self {
            Self::Tcp { host, port } => {
                let socket = TcpStream::connect((host.as_str(), *port))?;
                socket.set_nodelay(true)?;
                socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
                Ok(socket.into())
            }
            Self::Unix(path) => {
                let socket = UnixStream::connect(path)?;
                socket.set_read_timeout(Some(REPLY_TIMEOUT))?;
                Ok(socket.into())
            }
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp { host, port } => write!(formatter, "{host}:{port}"),
            Self::Unix(path) => write!(formatter, "{}", path.display()),
        }
    }
}

/// The stream in shared memory, or why it stayed where it was.
pub(crate) fn move_over(stream: Stream) -> Result<Result<Stream, Refusal>, MoveError> {
    let deadline = Instant::now() + REPLY_TIMEOUT;
    Ok(match move_to_shared_memory(stream, Some(deadline))? {
        Attempt::Moved(mut stream) => {
            stream.set_timeout(Some(REPLY_TIMEOUT));
            Ok(stream)
        }
        Attempt::Stayed(_, refusal) => Err(refusal),
    })
}
