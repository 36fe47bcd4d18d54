//! Round-trip times of short messages between two pinned threads.
//!
//! ```text
//! cargo run --release --example ping_pong [-- [MESSAGE_BYTES [ROUND_TRIPS [CPU CPU]]]]
//! ```
//!
//! Prints one line for a unix socket pair and one for each waiting mode (parking by
//! eventfds, too), in nanoseconds. The threads run on CPUs 0 and 1 unless told otherwise; give the
//! same CPU twice to see them share one.

use rustix::thread::{CpuSet, sched_setaffinity};
use shm_fifo::{Channel, Region, SpinPolicy, WaitMode, doorbell::EventDoorbells};
use std::error::Error;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::thread;
use std::time::Instant;

const RING_BYTES: usize = 64 * 1024;

struct Options {
    message_bytes: usize,
    round_trips: usize,
    cpus: [usize; 2],
}

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let options = Options {
        message_bytes: next(40)?,
        round_trips: next(300_000)?,
        cpus: [next(0)?, next(1)?],
    };
    let Options { message_bytes, round_trips, cpus: [one, other] } = options;
    println!("{message_bytes} bytes each way, {round_trips} round trips, CPUs {one} and {other}");
    println!("{:<12} {:>8} {:>8} {:>8} {:>10}", "", "p50_ns", "p99_ns", "p99.9_ns", "max_ns");

    let (here, there) = UnixStream::pair()?;
    measure("unix socket", &options, here, there)?;
    for (name, pair, mode) in [
        ("park", Channel::pair(RING_BYTES)?, WaitMode::Park),
        ("events", pair_with_events()?, WaitMode::Park),
        ("adaptive", Channel::pair(RING_BYTES)?, WaitMode::Adaptive),
        ("spin", Channel::pair(RING_BYTES)?, WaitMode::Spin),
    ] {
        let (mut here, mut there) = pair;
        for channel in [&mut here, &mut there] {
            channel.set_policy(SpinPolicy::new(mode, SpinPolicy::default().budget_ns()));
        }
        measure(name, &options, here, there)?;
    }
    Ok(())
}

/// As `Channel::pair`, with eventfds as doorbells.
fn pair_with_events() -> std::io::Result<(Channel, Channel)> {
    let created = Region::create(RING_BYTES)?;
    let attached = Region::attach(created.fd()?)?;
    let [here, there] = EventDoorbells::pair()?;
    Ok((
        Channel::with_events(created.into_endpoint(), here),
        Channel::with_events(attached.into_endpoint(), there),
    ))
}

/// Prints the distribution of the times that messages take there and back.
fn measure<S: Read + Write + Send>(
    name: &str,
    options: &Options,
    mut here: S,
    mut there: S,
) -> Result<(), Box<dyn Error>> {
    let mut times_ns = Vec::with_capacity(options.round_trips);
    let mut message = vec![0x2A; options.message_bytes];
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            pin_to(options.cpus[1])?;
            let mut message = vec![0; options.message_bytes];
            for _ in 0..options.round_trips {
                there.read_exact(&mut message)?;
                there.write_all(&message)?;
            }
            std::io::Result::Ok(())
        });
        pin_to(options.cpus[0])?;
        for _ in 0..options.round_trips {
            let started = Instant::now();
            here.write_all(&message)?;
            here.read_exact(&mut message)?;
            times_ns.push(started.elapsed().as_nanos());
        }
        echo.join().expect("the echoing thread ends")
    })?;
    times_ns.sort_unstable();
    let quantile = |permille: usize| times_ns[(times_ns.len() - 1) * permille / 1000];
    println!(
        "{name:<12} {:>8} {:>8} {:>8} {:>10}",
        quantile(500),
        quantile(990),
        quantile(999),
        quantile(1000)
    );
    Ok(())
}

/// Keeps the calling thread on one CPU.
fn pin_to(cpu: usize) -> std::io::Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    Ok(sched_setaffinity(None, &cpus)?)
}
