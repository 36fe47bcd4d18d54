//! A file goes from one process to another: the kernel reads it into the ring, and writes the
//! other's copy out of it. Beside it, the same with a buffer of each process in between.
//!
//! ```text
//! cargo run --release --example pour [FROM TO]
//! ```

use shm_fifo::Channel;
use std::error::Error;
use std::fs::{self, File};
use std::io;
use std::os::fd::AsFd;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Instant;

/// Of the file that is made where none is named.
const FILE_BYTES: usize = 64 << 20;

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["receive", way] => Ok(receive(way)?),
        [from, to] => compare(Path::new(from), Path::new(to)),
        [] => demonstrate(),
        _ => Err("usage: pour [FROM TO]".into()),
    }
}

fn demonstrate() -> Result<(), Box<dyn Error>> {
    let directory = std::env::temp_dir().join(format!("pour-{}", std::process::id()));
    fs::create_dir(&directory)?;
    let [from, to] = ["from", "to"].map(|name| directory.join(name));
    let result = write_numbers(&from).map_err(Into::into).and_then(|()| compare(&from, &to));
    fs::remove_dir_all(&directory)?;
    result
}

fn write_numbers(path: &PathBuf) -> io::Result<()> {
    let bytes: Vec<u8> = (0..FILE_BYTES as u64 / 8).flat_map(u64::to_le_bytes).collect();
    fs::write(path, bytes)
}

fn compare(from: &Path, to: &Path) -> Result<(), Box<dyn Error>> {
    for way in ["copied", "spliced"] {
        let begin = Instant::now();
        let bytes = send(from, to, way)?;
        let gb_per_s = bytes as f64 / begin.elapsed().as_secs_f64() / 1e9;
        println!("{way}: {bytes} bytes, {gb_per_s:.2} GB/s");
    }
    Ok(())
}

/// Sends a file to a child, which writes it to another.
fn send(from: &Path, to: &Path, way: &str) -> io::Result<u64> {
    let (mut channel, childs) = Channel::for_child(256 * 1024)?;
    let mut child = Command::new(std::env::current_exe()?)
        .args(["receive", way])
        .stdin(childs)
        .stdout(Stdio::from(File::create(to)?))
        .spawn()?;
    let mut source = File::open(from)?;
    let bytes = match way {
        "spliced" => channel.splice_from(&source, u64::MAX)?,
        _ => io::copy(&mut source, &mut channel)?,
    };
    drop(channel);
    if child.wait()?.success() { Ok(bytes) } else { Err(io::Error::other("the child failed")) }
}

/// The child: what comes from its standard input goes to its standard output.
fn receive(way: &str) -> io::Result<()> {
    let mut channel = Channel::open(io::stdin().as_fd().try_clone_to_owned()?)?;
    match way {
        "spliced" => channel.splice_to(io::stdout(), u64::MAX)?,
        _ => io::copy(&mut channel, &mut File::from(io::stdout().as_fd().try_clone_to_owned()?))?,
    };
    Ok(())
}
