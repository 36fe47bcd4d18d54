//! Round-trip times of short messages between two tasks, each on a thread of its own, and
//! how long a third task, which is always ready, waits for its turn meanwhile.
//!
//! ```text
//! cargo run --release --features tokio --example async_ping_pong [-- [MESSAGE_BYTES [ROUND_TRIPS]]]
//! ```
//!
//! Prints a line for a unix socket and one for each way to wait, in nanoseconds: first of
//! the round trips, then of the turns of a neighbour beside a task that waits for nothing.

use shm_fifo::aio::AsyncChannel;
use shm_fifo::{Channel, SpinPolicy, WaitMode};
use std::error::Error;
use std::io;
use std::thread;
use std::time::Instant;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::UnixStream;
use tokio::runtime::{Builder, Runtime};

const RING_BYTES: usize = 64 * 1024;
const MODES: [(&str, WaitMode); 3] =
    [("park", WaitMode::Park), ("adaptive", WaitMode::Adaptive), ("spin", WaitMode::Spin)];

fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut next = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (message_bytes, round_trips) = (next(40)?, next(100_000)?);
    println!("{message_bytes} bytes each way, {round_trips} round trips");
    print_heading();
    let ours = socket_pair()?;
    let sockets = ours.map(|socket| move || UnixStream::from_std(socket));
    print("unix socket", ping_pong(sockets, message_bytes, round_trips)?);
    for (name, mode) in MODES {
        let ends = pair(mode)?.map(|channel| move || AsyncChannel::tokio(channel));
        print(name, ping_pong(ends, message_bytes, round_trips)?);
    }
    println!("turns of a neighbour");
    print_heading();
    for (name, mode) in MODES {
        print(name, one_thread()?.block_on(turns_of_a_neighbour(mode, round_trips))?);
    }
    Ok(())
}

fn one_thread() -> io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn socket_pair() -> io::Result<[std::os::unix::net::UnixStream; 2]> {
    let (here, there) = std::os::unix::net::UnixStream::pair()?;
    here.set_nonblocking(true)?;
    there.set_nonblocking(true)?;
    Ok([here, there])
}

fn pair(mode: WaitMode) -> io::Result<[Channel; 2]> {
    let (mut here, mut there) = Channel::pair(RING_BYTES)?;
    for channel in [&mut here, &mut there] {
        channel.set_policy(SpinPolicy::new(mode, SpinPolicy::default().budget_ns()));
    }
    Ok([here, there])
}

/// The times that messages take there and back between ends that are made on the threads
/// which use them.
fn ping_pong<S: AsyncRead + AsyncWrite + Unpin>(
    [here, there]: [impl FnOnce() -> io::Result<S> + Send; 2],
    message_bytes: usize,
    round_trips: usize,
) -> io::Result<Vec<u128>> {
    thread::scope(|scope| {
        let echo = scope.spawn(move || {
            one_thread()?.block_on(async {
                let (mut there, mut message) = (there()?, vec![0; message_bytes]);
                for _ in 0..round_trips {
                    there.read_exact(&mut message).await?;
                    there.write_all(&message).await?;
                }
                Ok(())
            })
        });
        let times_ns = one_thread()?.block_on(async {
            let (mut here, mut message) = (here()?, vec![0x2A; message_bytes]);
            let mut times_ns = Vec::with_capacity(round_trips);
            for _ in 0..round_trips {
                let started = Instant::now();
                here.write_all(&message).await?;
                here.read_exact(&mut message).await?;
                times_ns.push(started.elapsed().as_nanos());
            }
            io::Result::Ok(times_ns)
        });
        echo.join().expect("the echoing thread ends").and(times_ns)
    })
}

/// The times from one turn to the next of a task that lets others run, beside one that
/// waits for a byte again and again, which never comes in the time that it spins for.
async fn turns_of_a_neighbour(mode: WaitMode, turns: usize) -> io::Result<Vec<u128>> {
    let [here, _there] = pair(mode)?;
    let waiting = tokio::spawn(async move {
        let mut here = AsyncChannel::tokio(here)?;
        loop {
            // One that begins anew does not sleep on.
            tokio::select! {
                byte = here.read_u8() => return byte,
                () = tokio::time::sleep(std::time::Duration::from_millis(1)) => {}
            }
        }
    });
    let mut times_ns = Vec::with_capacity(turns);
    for _ in 0..turns {
        let started = Instant::now();
        tokio::task::yield_now().await;
        times_ns.push(started.elapsed().as_nanos());
    }
    waiting.abort();
    Ok(times_ns)
}

fn print_heading() {
    println!("{:<12} {:>8} {:>8} {:>8} {:>10}", "", "p50_ns", "p99_ns", "p99.9_ns", "max_ns");
}

fn print(name: &str, mut times_ns: Vec<u128>) {
    times_ns.sort_unstable();
    let quantile = |permille: usize| times_ns[(times_ns.len() - 1) * permille / 1000];
    let quantiles = [500, 990, 999, 1000].map(quantile);
    let [p50, p99, p999, max] = quantiles;
    println!("{name:<12} {p50:>8} {p99:>8} {p999:>8} {max:>10}");
}
