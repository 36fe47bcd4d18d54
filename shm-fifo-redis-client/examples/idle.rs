//! What an idle connection takes: memory of the server's process and of the client's.
//!
//! `cargo run --release --example idle -- SOCKET [COUNT [REQUESTS [SECONDS]]]` opens COUNT
//! connections (1000) to the unix socket of a running server, has it echo a kilobyte so many
//! times (1) on each, and leaves them alone for some SECONDS (5): first without moving, then in
//! shared memory. It reads `/proc` of both processes, as root (`/proc/self/map_files`). Shared
//! memory is what is allocated of the connections' regions, whoever has touched it.

mod support;

use shm_fifo_redis_client::Stream;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::time::Duration;
use std::{fs, thread};
use support::{Result, arguments, ask};

const USAGE: &str = "usage: idle SOCKET [COUNT [REQUESTS [SECONDS]]]";
const PAYLOAD_BYTES: usize = 1024;

fn main() -> Result<()> {
    let (socket, [count, requests, pause_s]) = arguments(USAGE, [1000, 1, 5])?;
    let pause = Duration::from_secs(pause_s);

    println!("KiB a connection, {count} idle ones that have echoed {requests} KiB each");
    println!("              shared  server's own  client's own  page tables");
    for (name, moves) in [("on the socket", false), ("moved", true)] {
        let kib = measure(&socket, count, requests, pause, moves)?;
        let [shared, server, client, tables] = kib.map(|kib| kib as f64 / count as f64);
        println!("{name:13} {shared:6.1} {server:13.1} {client:13.1} {tables:12.1}");
    }
    Ok(())
}

/// How much more the two processes have with the connections than without: shared memory,
/// memory of the server's own and of this process's, page tables of both.
fn measure(
    socket: &str,
    count: u64,
    requests: u64,
    pause: Duration,
    moves: bool,
) -> Result<[i64; 4]> {
    // What is made for the first ones, and kept.
    drop(connect(socket, count, requests, moves)?);
    thread::sleep(Duration::from_secs(1));
    let server = process_of(socket)?;
    let before = memory_of(&server)?;
    let connections = connect(socket, count, requests, moves)?;
    thread::sleep(pause);
    let with_them = memory_of(&server)?;
    drop(connections);
    let mut more = [0; 4];
    for (more, (with_them, before)) in more.iter_mut().zip(with_them.iter().zip(before)) {
        *more = with_them - before;
    }
    Ok(more)
}

fn connect(socket: &str, count: u64, requests: u64, moves: bool) -> Result<Vec<Stream>> {
    let payload = "x".repeat(PAYLOAD_BYTES);
    let request = format!("*2\r\n$4\r\nECHO\r\n${PAYLOAD_BYTES}\r\n{payload}\r\n");
    let mut reply = vec![0; format!("${PAYLOAD_BYTES}\r\n{payload}\r\n").len()];
    let one = |_| -> Result<Stream> {
        let mut stream = support::connect(socket, moves)?;
        for _ in 0..requests {
            stream.write_all(request.as_bytes())?;
            stream.read_exact(&mut reply)?;
        }
        Ok(stream)
    };
    (0..count).map(one).collect()
}

fn process_of(socket: &str) -> Result<String> {
    let text = ask(&mut Stream::connect_unix(socket, None)?, "INFO server")?;
    let process = text.lines().find_map(|line| line.strip_prefix("process_id:"));
    Ok(process.ok_or("the server does not say its process_id")?.to_owned())
}

fn memory_of(server: &str) -> Result<[i64; 4]> {
    let kib = |file: &str, name: &str| -> Result<i64> {
        let text = fs::read_to_string(format!("/proc/{file}"))?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        Ok(value.ok_or("no such line")?.trim().trim_end_matches(" kB").parse()?)
    };
    let mut shared = 0;
    for mapping in fs::read_dir("/proc/self/map_files")? {
        let path = mapping?.path();
        if fs::read_link(&path)?.as_os_str().as_bytes().starts_with(b"/memfd:shm-fifo") {
            shared += i64::try_from(fs::metadata(&path)?.blocks() / 2)?;
        }
    }
    let own = |process: &str| kib(&format!("{process}/status"), "RssAnon");
    let tables = |process: &str| kib(&format!("{process}/status"), "VmPTE");
    let client = "self";
    let both_tables = tables(server)? + tables(client)?;
    Ok([shared, own(server)?, own(client)?, both_tables])
}
