//! Two processes, one of them started by the other, that talk through shared
//! memory. The region's file descriptor travels over the socket that then serves
//! as doorbell.
//!
//! ```text
//! cargo run --example two_process
//! ```

use shm_fifo::fd_passing::{recv_with_fd, send_with_fd};
use shm_fifo::{Channel, Region};
use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::process::{Command, Stdio};

fn main() -> Result<(), Box<dyn Error>> {
    match std::env::args().nth(1).as_deref() {
        Some("shout") => shout(),
        _ => talk(),
    }
}

/// The first process: makes the region, starts the second, and talks to it.
fn talk() -> Result<(), Box<dyn Error>> {
    let (here, there) = UnixStream::pair()?;
    let region = Region::create(64 * 1024)?;
    send_with_fd(here.as_raw_fd(), b"region", region.fd()?.as_fd())?;
    let mut child = Command::new(std::env::current_exe()?)
        .arg("shout")
        .stdin(Stdio::from(OwnedFd::from(there)))
        .spawn()?;

    let mut channel = Channel::new(region.into_endpoint(), here.into());
    channel.write_all(b"hello through shared memory")?;
    let mut reply = [0; 64];
    let length = channel.read(&mut reply)?;
    println!("{} says: {}", child.id(), String::from_utf8_lossy(&reply[..length]));

    drop(channel);
    child.wait()?;
    Ok(())
}

/// The second process: its standard input is the socket.
fn shout() -> Result<(), Box<dyn Error>> {
    let socket = UnixStream::from(std::io::stdin().as_fd().try_clone_to_owned()?);
    let (_, fd) = recv_with_fd(socket.as_raw_fd(), &mut [0; 16], 0)?;
    let region = Region::attach(fd.ok_or("no file descriptor came with the message")?)?;
    let mut channel = Channel::new(region.into_endpoint(), socket.into());

    let mut request = [0; 64];
    loop {
        let length = channel.read(&mut request)?;
        if length == 0 {
            return Ok(());
        }
        request.make_ascii_uppercase();
        channel.write_all(&request[..length])?;
    }
}
