//! Event loops on threads of their own that hand connections to each other, as Redis
//! 8's io-threads do, while clients come, speak and vanish. ThreadSanitizer runs it too.
#![cfg(feature = "virtual-fd")]
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Channel, Region};
use std::collections::HashMap;
use std::fs::File;
use std::io::{IoSlice, Read, Write};
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::net::UnixStream;
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use support::{Random, Watchdog};

const IN: u32 = libc::EPOLLIN as u32;
const OUT: u32 = libc::EPOLLOUT as u32;
const RING_BYTES: usize = 4096;
const LOOPS: u64 = 3;
const CLIENTS: u64 = 6;
const LIVES: usize = 60;
const AGAIN: Errno = Errno(libc::EAGAIN);

/// A moved connection, and what of its echo there was no space for.
struct Connection {
    socket: UnixStream,
    unsent: Vec<u8>,
}

impl Connection {
    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn interest(&self) -> u32 {
        if self.unsent.is_empty() { IN } else { OUT }
    }

    /// Echoes what there is. Whether the client is still there.
    fn serve(&mut self) -> bool {
        if self.unsent.is_empty() {
            let mut chunk = [0; 1500];
            match vfd::read(self.fd(), &mut chunk).expect("it is virtual") {
                Ok(0) => return false,
                Ok(count) => self.unsent.extend_from_slice(&chunk[..count]),
                Err(error) => return error == AGAIN,
            }
        }
        match vfd::write(self.fd(), &[IoSlice::new(&self.unsent)]).expect("it is virtual") {
            Ok(count) => drop(self.unsent.drain(..count)),
            Err(error) => return error == AGAIN,
        }
        true
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        vfd::before_close(self.fd());
    }
}

/// One thread's event loop, to which others hand connections.
struct EventLoop {
    epoll: File,
    kick: File,
    handed: Mutex<Vec<Connection>>,
}

impl EventLoop {
    fn new() -> Self {
        vfd::prepare().unwrap();
        // SAFETY: no pointers; each result is a new descriptor that nobody else has.
        let (epoll, kick) = unsafe {
            let epoll = libc::epoll_create1(libc::EPOLL_CLOEXEC);
            let kick = libc::eventfd(0, libc::EFD_CLOEXEC | libc::EFD_NONBLOCK);
            assert!(epoll >= 0 && kick >= 0);
            (File::from_raw_fd(epoll), File::from_raw_fd(kick))
        };
        let new = Self { epoll, kick, handed: Mutex::default() };
        new.control(libc::EPOLL_CTL_ADD, new.kick.as_raw_fd(), IN);
        new
    }

    fn control(&self, operation: i32, fd: RawFd, mask: u32) {
        let event = libc::epoll_event { events: mask, u64: u64::from(fd.unsigned_abs()) };
        vfd::epoll_ctl(self.epoll.as_raw_fd(), operation, fd, Some(event)).unwrap();
    }

    fn hand(&self, connection: Connection) {
        self.handed.lock().unwrap().push(connection);
        self.wake();
    }

    fn wake(&self) {
        (&self.kick).write_all(&1_u64.to_ne_bytes()).unwrap();
    }

    /// The descriptors that are ready.
    fn wait(&self) -> Vec<RawFd> {
        let mut events = [libc::epoll_event { events: 0, u64: 0 }; 4];
        let epfd = self.epoll.as_raw_fd();
        let found = vfd::epoll_wait(epfd, &mut events, -1).unwrap_or_else(|| {
            // SAFETY: room for four events.
            let found = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), 4, -1) };
            Ok(vfd::filter_events(epfd, &mut events, usize::try_from(found).unwrap()))
        });
        let ready = &events[..found.unwrap()];
        ready.iter().map(|event| RawFd::try_from(event.u64).unwrap()).collect()
    }

    /// Serves until it is `over`; hands one served connection in eight to another loop.
    fn run(&self, all: &[Self], over: &AtomicBool, random: &mut Random) {
        let mut own: HashMap<RawFd, Connection> = HashMap::new();
        while !over.load(SeqCst) {
            for fd in self.wait() {
                if fd == self.kick.as_raw_fd() {
                    (&self.kick).read_exact(&mut [0; 8]).ok();
                    for connection in self.handed.lock().unwrap().drain(..) {
                        self.control(libc::EPOLL_CTL_ADD, connection.fd(), connection.interest());
                        own.insert(connection.fd(), connection);
                    }
                    continue;
                }
                let mut connection = own.remove(&fd).expect("it is this loop's");
                if !connection.serve() {
                    continue;
                }
                if random.below(8) == 0 {
                    self.control(libc::EPOLL_CTL_DEL, fd, 0);
                    all[random.below(all.len())].hand(connection);
                } else {
                    self.control(libc::EPOLL_CTL_MOD, fd, connection.interest());
                    own.insert(fd, connection);
                }
            }
        }
    }
}

impl Drop for EventLoop {
    fn drop(&mut self) {
        vfd::before_close(self.epoll.as_raw_fd());
    }
}

/// A client's life: echoes, each checked, and an end in the midst of one or after it.
fn live(first: &EventLoop, random: &mut Random) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    let region = Region::create(RING_BYTES).unwrap();
    region.park_both_ends();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    vfd::start(here.as_raw_fd(), region.into_endpoint(), 0, b"").unwrap();
    first.hand(Connection { socket: here, unsent: Vec::new() });

    let mut client = Channel::new(attached.into_endpoint(), there.into());
    for _ in 0..random.below(40) {
        let length = random.below(RING_BYTES);
        let message = random.bytes(length);
        let mut echo = vec![0; length];
        client.write_all(&message).unwrap();
        client.read_exact(&mut echo).unwrap();
        assert!(echo == message, "an echo of {length} bytes was changed");
    }
    if random.below(2) == 0 {
        client.write_all(&[7; 3000]).unwrap();
    }
}

#[test]
fn connections_change_between_loops_while_clients_come_and_vanish() {
    let _watchdog = Watchdog::start();
    let loops: Vec<_> = (0..LOOPS).map(|_| EventLoop::new()).collect();
    let (loops, over) = (&loops[..], AtomicBool::new(false));
    thread::scope(|scope| {
        for (seed, event_loop) in (100..).zip(loops) {
            let over = &over;
            scope.spawn(move || event_loop.run(loops, over, &mut Random::seeded(seed)));
        }
        let clients: Vec<_> = (0..CLIENTS)
            .map(|seed| {
                scope.spawn(move || {
                    let mut random = Random::seeded(seed);
                    (0..LIVES).for_each(|_| live(&loops[random.below(loops.len())], &mut random));
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        over.store(true, SeqCst);
        loops.iter().for_each(EventLoop::wake);
    });
    for event_loop in loops {
        event_loop.handed.lock().unwrap().clear();
    }
    assert!(vfd::sessions().is_empty(), "every session ended with its connection");
}
