//! A parent and the child that it starts, over descriptors that the child inherits:
//! no socket to pass them on, and eventfds as doorbells.
//!
//! ```text
//! cargo run --example fork_exec
//! ```

use rustix::io::{FdFlags, fcntl_setfd};
use shm_fifo::{Channel, Region, doorbell::EventDoorbells};
use std::error::Error;
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::process::Command;

const NUMBERS: u32 = 100_000;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    if arguments.is_empty() { parent() } else { child(&arguments) }
}

/// Starts the child, sends it numbers and prints what it answers.
fn parent() -> Result<(), Box<dyn Error>> {
    let region = Region::create(64 * 1024)?;
    let [own, childs] = EventDoorbells::pair()?;
    let inherited = [region.fd()?, childs.own, childs.peer, childs.life];
    let mut command = Command::new(std::env::current_exe()?);
    for fd in &inherited {
        // They are made close-on-exec: these shall survive it. (A program that
        // starts several children at a time clears the flag in the child, by
        // `pre_exec`, or the others would inherit them too.)
        fcntl_setfd(fd, FdFlags::empty())?;
        command.arg(fd.as_raw_fd().to_string());
    }
    let mut child = command.spawn()?;
    // A copy kept here would keep the child's life from ending with the child.
    drop(inherited);

    let mut channel = Channel::with_events(region.into_endpoint(), own);
    for number in 1..=NUMBERS {
        channel.write_all(&number.to_le_bytes())?;
    }
    let mut sum = [0; 8];
    channel.read_exact(&mut sum)?;
    println!("{} says: the sum is {}", child.id(), u64::from_le_bytes(sum));
    println!("{:#?}", channel.stats());

    child.wait()?;
    Ok(())
}

/// Adds the numbers up. Its arguments are the descriptors that it inherited.
fn child(arguments: &[String]) -> Result<(), Box<dyn Error>> {
    let mut inherited = arguments.iter();
    let mut next = || -> Result<OwnedFd, Box<dyn Error>> {
        let fd = inherited.next().ok_or("a descriptor is missing")?.parse()?;
        // SAFETY: the parent left it open for this process, and only here is it used.
        Ok(unsafe { OwnedFd::from_raw_fd(fd) })
    };
    let region = Region::attach(next()?)?;
    let events = EventDoorbells { own: next()?, peer: next()?, life: next()? };
    let mut channel = Channel::with_events(region.into_endpoint(), events);

    let mut sum = 0;
    for _ in 0..NUMBERS {
        let mut number = [0; 4];
        channel.read_exact(&mut number)?;
        sum += u64::from(u32::from_le_bytes(number));
    }
    channel.write_all(&sum.to_le_bytes())?;
    Ok(())
}
