//! What moving costs: the client's time, and that of the server's main thread.
//!
//! `cargo run --release --example moves -- SOCKET [COUNT [PAUSE_US]]` connects to the unix
//! socket of a running server COUNT times (500), one after the other, each time moves to
//! shared memory, sends a PING there and closes; then as often without moving. It resets the
//! server's statistics (`CONFIG RESETSTAT`).

mod support;

use shm_fifo_redis_client::Stream;
use std::collections::HashMap;
use std::io::{Read as _, Write as _};
use std::thread;
use std::time::{Duration, Instant};
use support::{Result, arguments, ask, connect};

const USAGE: &str = "usage: moves SOCKET [COUNT [PAUSE_US]]";
const PING: &[u8] = b"*1\r\n$4\r\nPING\r\n";
/// What is needed once is made by then.
const WARM_UP: usize = 20;

fn main() -> Result<()> {
    let (socket, [count, pause_us]) = arguments(USAGE, [500, 0])?;
    let pause = Duration::from_micros(pause_us);
    let rounds = usize::try_from(count)?;

    let moved = run(&socket, rounds, pause, true)?;
    let stayed = run(&socket, rounds, pause, false)?;
    println!("{rounds} connections, one after the other, {} µs apart", pause.as_micros());
    println!(
        "client: connect to the first reply, p50 {:.1} µs; on the socket {:.1} µs",
        moved.p50_us, stayed.p50_us
    );
    println!(
        "server: SHM.OPEN {:.1} µs, SHM.START {:.1} µs (mean, INFO commandstats)",
        moved.open_us, moved.start_us
    );
    println!(
        "server: CPU of the main thread {:.1} µs a connection; on the socket {:.1} µs",
        moved.cpu_us, stayed.cpu_us
    );
    Ok(())
}

struct Figures {
    p50_us: f64,
    open_us: f64,
    start_us: f64,
    cpu_us: f64,
}

fn run(socket: &str, count: usize, pause: Duration, moves: bool) -> Result<Figures> {
    for _ in 0..WARM_UP {
        connection(socket, moves)?;
    }
    let mut aside = Stream::connect_unix(socket, None)?;
    ask(&mut aside, "CONFIG RESETSTAT")?;
    let before = main_thread_us(&mut aside)?;
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        times.push(connection(socket, moves)?);
        thread::sleep(pause);
    }
    let cpu_us = (main_thread_us(&mut aside)? - before) / count as f64;
    let stats = info(&mut aside, "commandstats")?;
    let mean = |command: &str| {
        let line = stats.get(&format!("cmdstat_{command}"))?;
        line.split(',').find_map(|part| part.strip_prefix("usec_per_call="))?.parse().ok()
    };
    times.sort();
    Ok(Figures {
        p50_us: times[count / 2].as_secs_f64() * 1e6,
        open_us: mean("shm.open").unwrap_or(0.0),
        start_us: mean("shm.start").unwrap_or(0.0),
        cpu_us,
    })
}

/// One connection's life. Returns how long it took to its first reply.
fn connection(socket: &str, moves: bool) -> Result<Duration> {
    let start = Instant::now();
    let mut stream = connect(socket, moves)?;
    stream.write_all(PING)?;
    stream.read_exact(&mut [0; 7])?;
    Ok(start.elapsed())
}

fn main_thread_us(aside: &mut Stream) -> Result<f64> {
    let cpu = info(aside, "cpu")?;
    let seconds = |name: &str| -> Result<f64> { Ok(cpu.get(name).ok_or(name)?.parse()?) };
    let all = seconds("used_cpu_sys_main_thread")? + seconds("used_cpu_user_main_thread")?;
    Ok(all * 1e6)
}

fn info(aside: &mut Stream, section: &str) -> Result<HashMap<String, String>> {
    let text = ask(aside, &format!("INFO {section}"))?;
    let pairs = text.lines().filter_map(|line| line.split_once(':'));
    Ok(pairs.map(|(name, value)| (name.to_owned(), value.to_owned())).collect())
}
