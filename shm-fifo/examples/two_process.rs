//! Two processes, one of them started by the other, that talk through shared memory. The
//! child's standard input is its end.
//!
//! ```text
//! cargo run --example two_process
//! ```

use shm_fifo::Channel;
use std::io;
use std::os::fd::AsFd;
use std::process::Command;

fn main() -> io::Result<()> {
    match std::env::args().nth(1).as_deref() {
        Some("shout") => shout(),
        _ => talk(),
    }
}

/// The first process: starts the second, and talks to it.
fn talk() -> io::Result<()> {
    let (mut channel, childs) = Channel::for_child(64 * 1024)?;
    let mut child = Command::new(std::env::current_exe()?).arg("shout").stdin(childs).spawn()?;

    channel.send(b"hello through shared memory")?;
    let mut reply = Vec::new();
    channel.recv_into(&mut reply)?;
    println!("{} says: {}", child.id(), String::from_utf8_lossy(&reply));

    drop(channel);
    child.wait().map(drop)
}

/// The second process.
fn shout() -> io::Result<()> {
    let mut channel = Channel::open(io::stdin().as_fd().try_clone_to_owned()?)?;
    let mut request = Vec::new();
    while channel.recv_into(&mut request)?.is_some() {
        request.make_ascii_uppercase();
        channel.send(&request)?;
    }
    Ok(())
}
