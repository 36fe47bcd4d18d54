//! What it costs an event loop to be woken by many connections at once: the time for each
//! of n that were silent, in shared memory and on plain sockets, which is to be the same
//! for any n.
//!
//! `cargo bench -p shm-fifo --all-features --bench wakeups`; with no `--bench` it only shows
//! that it works.
#![allow(unsafe_code, reason = "epoll is called through libc")]
#![allow(clippy::unwrap_used, reason = "nothing is measured where something fails")]
#![allow(clippy::print_stdout, reason = "a table is what it makes")]

use shm_fifo::vfd::{self, WaitSettings};
use shm_fifo::{Channel, Region, WaitMode};
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const RING_BYTES: usize = 4096;
const ROUNDS: usize = 7;
/// Longer than a connection has to be silent for its loop to park it.
const SILENCE: Duration = Duration::from_millis(5);
/// As many events as Redis asks for.
const ROOM: usize = 10_128;

/// How bytes reach the event loop, and how it reads them.
trait Transport {
    /// The loop's end, and the one that wakes it.
    fn connect(epoll: &Epoll) -> Self;
    fn wake(&mut self);
    fn fd(&self) -> RawFd;
    fn wait(epoll: &Epoll, events: &mut [libc::epoll_event], timeout_ms: i32) -> usize;
    fn read(&self, target: &mut [u8]) -> usize;
}

struct Epoll(OwnedFd);

impl Epoll {
    fn new() -> Self {
        // SAFETY: takes no pointer; the descriptor is nobody else's.
        Self(unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    fn add(&self, fd: RawFd) {
        let data = u64::try_from(fd).unwrap();
        let event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: data };
        vfd::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, Some(event)).unwrap();
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

struct Socket {
    here: UnixStream,
    there: UnixStream,
}

impl Transport for Socket {
    fn connect(epoll: &Epoll) -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        epoll.add(here.as_raw_fd());
        Self { here, there }
    }

    fn wake(&mut self) {
        self.there.write_all(b"x").unwrap();
    }

    fn fd(&self) -> RawFd {
        self.here.as_raw_fd()
    }

    fn wait(epoll: &Epoll, events: &mut [libc::epoll_event], timeout_ms: i32) -> usize {
        let room = i32::try_from(events.len()).unwrap();
        let epfd = epoll.0.as_raw_fd();
        // SAFETY: room for that many events.
        let found = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), room, timeout_ms) };
        usize::try_from(found).unwrap()
    }

    fn read(&self, target: &mut [u8]) -> usize {
        (&self.here).read(target).unwrap()
    }
}

struct Ring {
    here: UnixStream,
    there: Channel,
}

impl Transport for Ring {
    fn connect(epoll: &Epoll) -> Self {
        let Socket { here, there } = Socket::connect(epoll);
        let region = Region::create(RING_BYTES).unwrap();
        let attached = Region::attach(region.fd().unwrap()).unwrap();
        vfd::start(here.as_raw_fd(), region.into_endpoint(), 0, b"").unwrap();
        Self { here, there: Channel::new(attached.into_endpoint(), there.into()) }
    }

    fn wake(&mut self) {
        self.there.try_write(b"x").unwrap();
    }

    fn fd(&self) -> RawFd {
        self.here.as_raw_fd()
    }

    fn wait(epoll: &Epoll, events: &mut [libc::epoll_event], timeout_ms: i32) -> usize {
        vfd::epoll_wait(epoll.0.as_raw_fd(), events, timeout_ms).unwrap().unwrap()
    }

    fn read(&self, target: &mut [u8]) -> usize {
        vfd::read(self.fd(), target).unwrap().unwrap()
    }
}

impl Drop for Ring {
    fn drop(&mut self) {
        vfd::before_close(self.fd());
    }
}

/// Nanoseconds for each of `count` connections that are woken at once: the median round.
fn wake<T: Transport>(count: usize) -> u128 {
    let epoll = Epoll::new();
    let mut all: Vec<T> = (0..count).map(|_| T::connect(&epoll)).collect();
    let mut by_fd = vec![usize::MAX; 4 * ROOM];
    for (index, one) in all.iter().enumerate() {
        by_fd[usize::try_from(one.fd()).unwrap()] = index;
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; ROOM];
    let mut rounds: Vec<u128> = (0..ROUNDS)
        .map(|_| {
            let silent_until = Instant::now() + SILENCE;
            while Instant::now() < silent_until {
                assert_eq!(T::wait(&epoll, &mut events, 3), 0);
            }
            all.iter_mut().for_each(T::wake);
            let started = Instant::now();
            let mut read = 0;
            while read < count {
                let found = T::wait(&epoll, &mut events, -1);
                for event in &events[..found] {
                    let index = by_fd[usize::try_from(event.u64).unwrap()];
                    read += all[index].read(&mut [0; 16]);
                }
            }
            started.elapsed().as_nanos() / u128::try_from(count).unwrap()
        })
        .collect();
    rounds.sort_unstable();
    rounds[ROUNDS / 2]
}

/// As many file descriptors as this process may have; how many connections that makes.
fn connections_at_most() -> usize {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: a live rlimit, written and then read.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit);
        limit.rlim_cur = limit.rlim_max.min(2 * ROOM as u64 + 100);
        libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
    }
    usize::try_from(limit.rlim_cur).unwrap().saturating_sub(100) / 2
}

fn main() {
    vfd::prepare().unwrap();
    vfd::configure(WaitSettings { mode: WaitMode::Park, spin_us: 0, notify_at_next_wait: false });
    let is_measured = std::env::args().any(|argument| argument == "--bench");
    let counts: &[usize] = if is_measured { &[500, 1000, 2000, 4000, 8000, 9900] } else { &[10] };
    let at_most = connections_at_most();
    println!("connections  socket ns each  ring ns each  ring / socket");
    for &count in counts.iter().filter(|&&count| count <= at_most) {
        let (socket, ring) = (wake::<Socket>(count), wake::<Ring>(count));
        #[allow(clippy::cast_precision_loss, reason = "two digits are shown")]
        let ratio = ring as f64 / socket as f64;
        println!("{count:>11}  {socket:>14}  {ring:>12}  {ratio:>13.2}");
    }
}
