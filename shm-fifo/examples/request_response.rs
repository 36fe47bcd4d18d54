//! A server that answers requests of any number of clients, each over shared
//! memory of its own. A message is its length in four bytes, and its bytes.
//!
//! ```text
//! cargo run --example request_response                    # both, and three requests
//! cargo run --example request_response serve PATH
//! cargo run --example request_response call PATH TEXT...
//! ```

use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::{Channel, Region};
use std::error::Error;
use std::io::{self, ErrorKind, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

const RING_BYTES: usize = 64 * 1024;
/// Requests come from strangers: this much is believed of a length.
const LONGEST_MESSAGE_BYTES: u32 = 1024 * 1024;
/// A call is over by then, answered or not.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demonstrate(),
        ["serve", path] => Ok(serve(&UnixListener::bind(path)?)?),
        ["call", path, requests @ ..] => call(path, requests),
        _ => Err("usage: request_response [serve PATH | call PATH TEXT...]".into()),
    }
}

/// A server in this process, and a client in another.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("request_response-{}", std::process::id()));
    let listener = UnixListener::bind(&path)?;
    thread::spawn(move || serve(&listener));
    let client = Command::new(std::env::current_exe()?)
        .args(["call".as_ref(), path.as_os_str()])
        .args(["a man", "a plan", "a canal"])
        .status();
    std::fs::remove_file(&path)?;
    if client?.success() { Ok(()) } else { Err("the client failed".into()) }
}

fn serve(listener: &UnixListener) -> io::Result<()> {
    loop {
        let (socket, _) = listener.accept()?;
        // What goes wrong with one client is no other's business.
        thread::spawn(move || {
            if let Err(error) = answer(socket) {
                eprintln!("a client is gone: {error}");
            }
        });
    }
}

/// Serves one client until it ends. The socket that it came by is the doorbell.
fn answer(socket: UnixStream) -> io::Result<()> {
    let region = Region::create(RING_BYTES)?;
    send_with_fd(socket.as_raw_fd(), b"region", region.fd()?.as_fd())?;
    let mut channel = Channel::new(region.into_endpoint(), socket.into());
    while let Some(mut message) = receive(&mut channel)? {
        message.reverse();
        send(&mut channel, &message)?;
    }
    Ok(())
}

fn call(path: &str, requests: &[&str]) -> Result<(), Box<dyn Error>> {
    let socket = UnixStream::connect(path)?;
    let (_, fd) = recv_with_fd(socket.as_raw_fd(), &mut [0; 16], 0)?;
    let region = Region::attach(fd.ok_or("no file descriptor came with the message")?)?;
    let mut channel = Channel::new(region.into_endpoint(), socket.into());
    for request in requests {
        channel.set_deadline(Instant::now().checked_add(PATIENCE));
        send(&mut channel, request.as_bytes())?;
        let reply = receive(&mut channel)?.ok_or("the server ended")?;
        println!("{request} -> {}", String::from_utf8_lossy(&reply));
    }
    Ok(())
}

/// Sends the length and the message together: one doorbell, if any.
fn send(channel: &mut Channel, message: &[u8]) -> io::Result<()> {
    let length = u32::try_from(message.len()).map_err(|_| ErrorKind::InvalidInput)?.to_le_bytes();
    let mut pieces = &mut [IoSlice::new(&length), IoSlice::new(message)][..];
    while !pieces.is_empty() {
        let written = channel.write_vectored(pieces)?;
        IoSlice::advance_slices(&mut pieces, written);
    }
    Ok(())
}

/// Receives a message; `None` where the stream ends before the next one.
fn receive(channel: &mut Channel) -> io::Result<Option<Vec<u8>>> {
    let mut length = [0; 4];
    match channel.read_exact(&mut length) {
        Err(error) if error.kind() == ErrorKind::UnexpectedEof => return Ok(None),
        result => result?,
    }
    let length = u32::from_le_bytes(length);
    if length > LONGEST_MESSAGE_BYTES {
        return Err(io::Error::new(ErrorKind::InvalidData, format!("{length} bytes are too many")));
    }
    let mut message = vec![0; length as usize];
    channel.read_exact(&mut message)?;
    Ok(Some(message))
}
