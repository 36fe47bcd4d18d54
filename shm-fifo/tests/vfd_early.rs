//! A client that writes before it was greeted, and rings nobody: it is found on every
//! way by which a program comes to look at a connection that has just moved.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd;
use shm_fifo::{Region, duplex::Duplex};
use std::fs::File;
use std::io::{IoSlice, Read as _};
use std::os::fd::{AsRawFd as _, FromRawFd as _, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use support::{Random, Watchdog};

const RING_BYTES: usize = 4096;
const ROUNDS: usize = 3000;
const GREETING: &[u8] = b"+OK\r\n";
const MESSAGE: &[u8] = b"early";

/// An epoll instance of a program's.
struct Epoll(File);

impl Epoll {
    fn new() -> Self {
        vfd::prepare().unwrap();
        // SAFETY: no pointer; the result is a new descriptor that nobody else has.
        Self(unsafe { File::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) })
    }

    fn add(&self, fd: RawFd) {
        let events = libc::EPOLLIN as u32;
        let event = libc::epoll_event { events, u64: u64::from(fd.unsigned_abs()) };
        vfd::epoll_ctl(self.0.as_raw_fd(), libc::EPOLL_CTL_ADD, fd, Some(event)).unwrap();
    }

    /// Waits as long as `timeout_ms` says, and reads what is ready. Returns the messages.
    fn serve(&self, timeout_ms: i32) -> Vec<(RawFd, Vec<u8>)> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let epfd = self.0.as_raw_fd();
        let found = vfd::epoll_wait(epfd, &mut events, timeout_ms).unwrap_or_else(|| {
            // SAFETY: room for four events.
            let found = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), 4, timeout_ms) };
            Ok(vfd::filter_events(epfd, &mut events, usize::try_from(found).unwrap()))
        });
        let ready = events[..found.unwrap()].iter();
        ready.filter_map(|event| message_on(RawFd::try_from(event.u64).unwrap())).collect()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

/// What there is to be read on `fd`, unless another thread was first.
fn message_on(fd: RawFd) -> Option<(RawFd, Vec<u8>)> {
    let mut target = [0; 64];
    let count = vfd::read(fd, &mut target)?.ok()?;
    Some((fd, target[..count].to_vec()))
}

/// A connection of which the client has a region already, and the server none yet.
struct Pending {
    here: UnixStream,
    region: Region,
    client: Duplex,
    there: UnixStream,
}

impl Pending {
    fn new() -> Self {
        let (here, there) = UnixStream::pair().unwrap();
        here.set_nonblocking(true).unwrap();
        let region = Region::create(RING_BYTES).unwrap();
        region.park_both_ends();
        let attached = Region::attach(region.fd().unwrap()).unwrap();
        Self { here, region, client: Duplex::new_unstarted(attached.into_endpoint()), there }
    }

    /// Moves the server's end, while the client writes its one message at some moment
    /// about then. `found` is called on the thread that moves it, and waits until that
    /// message was read.
    fn meet(self, random: &mut Random, found: impl FnOnce(RawFd)) {
        let Self { here, region, client, mut there } = self;
        let [before_the_move, before_the_message] = [random.below(600), random.below(600)];
        let fd = here.as_raw_fd();
        thread::scope(|scope| {
            scope.spawn(|| {
                pause(before_the_message);
                let written = client.write(there.as_raw_fd(), &[IoSlice::new(MESSAGE)]);
                assert_eq!(written.unwrap(), MESSAGE.len());
            });
            pause(before_the_move);
            vfd::start(fd, region.into_endpoint(), 0, GREETING).unwrap();
            found(fd);
        });
        assert_greeted(&client, &mut there);
        vfd::before_close(fd);
    }
}

/// The greeting is the first thing in the ring, and one doorbell on the socket.
fn assert_greeted(client: &Duplex, there: &mut UnixStream) {
    let mut doorbell = [1; 2];
    assert_eq!(there.read(&mut doorbell).unwrap(), 1);
    assert_eq!(doorbell[0], 0);
    assert!(client.has_peer_entered());
    client.enter();
    let mut greeting = [0; 64];
    assert_eq!(client.read(there.as_raw_fd(), &mut greeting).unwrap(), GREETING.len());
    assert_eq!(&greeting[..GREETING.len()], GREETING);
}

fn pause(turns: usize) {
    (0..turns).for_each(|_| std::hint::spin_loop());
}

#[test]
fn the_thread_that_moves_it_waits_for_it_afterwards() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let mut random = Random::seeded(1);
    for _ in 0..ROUNDS {
        let pending = Pending::new();
        epoll.add(pending.here.as_raw_fd());
        pending.meet(&mut random, |fd| while epoll.serve(-1) != [(fd, MESSAGE.to_vec())] {});
    }
}

#[test]
fn it_is_watched_after_it_moved() {
    let _watchdog = Watchdog::start();
    let epoll = Epoll::new();
    let mut random = Random::seeded(2);
    for _ in 0..ROUNDS {
        Pending::new().meet(&mut random, |fd| {
            epoll.add(fd);
            while epoll.serve(-1) != [(fd, MESSAGE.to_vec())] {}
        });
    }
}

#[test]
fn other_threads_wait_for_it_meanwhile() {
    let _watchdog = Watchdog::start();
    // One that sleeps, as an io-thread of Redis 8; and two that look in turns, as Valkey's.
    for (threads, timeout_ms) in [(1, -1), (2, 0)] {
        let epoll = Epoll::new();
        let over = AtomicBool::new(false);
        let (end, ending) = UnixStream::pair().unwrap();
        let (tell, told) = mpsc::channel();
        let mut random = Random::seeded(3);
        thread::scope(|scope| {
            for _ in 0..threads {
                let (epoll, over, tell) = (&epoll, &over, tell.clone());
                scope.spawn(move || {
                    while !over.load(SeqCst) {
                        epoll
                            .serve(timeout_ms)
                            .into_iter()
                            .for_each(|news| tell.send(news).unwrap());
                    }
                });
            }
            for _ in 0..ROUNDS {
                let pending = Pending::new();
                epoll.add(pending.here.as_raw_fd());
                pending.meet(&mut random, |fd| {
                    assert_eq!(told.recv().unwrap(), (fd, MESSAGE.to_vec()));
                });
            }
            over.store(true, SeqCst);
            // One that has ended wakes everybody.
            drop(ending);
            epoll.add(end.as_raw_fd());
        });
        // Its number is the next one's.
        vfd::before_close(end.as_raw_fd());
    }
}
