//! A program whose calls go through `vfd`, and its connections.

use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Channel, Region};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;

pub(crate) const IN: u32 = libc::EPOLLIN as u32;
pub(crate) const OUT: u32 = libc::EPOLLOUT as u32;
pub(crate) const RING_BYTES: usize = 4096;
/// What the program registered beside its file descriptors: any number is its right.
pub(crate) const DATA: u64 = 0xFEED_0000_0000_0007;

/// An epoll instance of a program that makes its calls through `vfd`.
pub(crate) struct Epoll(pub(crate) OwnedFd);

impl Epoll {
    pub(crate) fn new() -> Self {
        vfd::prepare().unwrap();
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0);
        // SAFETY: just made, nobody else has it.
        Self(unsafe { OwnedFd::from_raw_fd(fd) })
    }

    pub(crate) fn control(
        &self,
        operation: i32,
        fd: RawFd,
        mask: u32,
        data: u64,
    ) -> Result<(), Errno> {
        let event = libc::epoll_event { events: mask, u64: data };
        vfd::epoll_ctl(self.0.as_raw_fd(), operation, fd, Some(event))
    }

    /// As an interposer's `epoll_wait`, with room for `room` events.
    pub(crate) fn wait_with_room(&self, room: usize, timeout_ms: i32) -> Vec<(u32, u64)> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; room];
        let epfd = self.0.as_raw_fd();
        let found = match vfd::epoll_wait(epfd, &mut events, timeout_ms) {
            Some(result) => result.expect("no signal comes"),
            None => {
                let capacity = i32::try_from(room).unwrap();
                // SAFETY: room for that many events.
                let found =
                    unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), capacity, timeout_ms) };
                vfd::filter_events(epfd, &mut events, usize::try_from(found).unwrap())
            }
        };
        events[..found].iter().map(|event| (event.events, event.u64)).collect()
    }

    pub(crate) fn wait(&self, timeout_ms: i32) -> Vec<(u32, u64)> {
        self.wait_with_room(16, timeout_ms)
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

/// The program's file descriptor. Closed the way an interposed program closes it.
pub(crate) struct Moved(pub(crate) UnixStream);

impl Moved {
    pub(crate) fn fd(&self) -> RawFd {
        self.0.as_raw_fd()
    }

    pub(crate) fn read(&self, length: usize) -> Result<Vec<u8>, Errno> {
        let mut target = vec![0; length];
        let count = vfd::read(self.fd(), &mut target).expect("it is virtual")?;
        target.truncate(count);
        Ok(target)
    }

    pub(crate) fn write(&self, source: &[u8]) -> Result<usize, Errno> {
        vfd::write(self.fd(), &[IoSlice::new(source)]).expect("it is virtual")
    }
}

impl Drop for Moved {
    fn drop(&mut self) {
        vfd::before_close(self.0.as_raw_fd());
    }
}

/// A connection whose server side has moved, and the client's end of it. `watch`
/// runs before the move.
pub(crate) fn connection(watch: impl FnOnce(RawFd)) -> (Moved, Channel) {
    let (here, there) = UnixStream::pair().unwrap();
    here.set_nonblocking(true).unwrap();
    watch(here.as_raw_fd());
    let region = Region::create(RING_BYTES).unwrap();
    region.park_both_ends();
    let attached = Region::attach(region.fd().unwrap()).unwrap();
    vfd::start(here.as_raw_fd(), region.into_endpoint(), 42, b"").unwrap();
    (Moved(here), Channel::new(attached.into_endpoint(), there.into()))
}

/// A connection that `epoll` watches for input.
pub(crate) fn watched_connection(epoll: &Epoll) -> (Moved, Channel) {
    connection(|fd| epoll.control(libc::EPOLL_CTL_ADD, fd, IN, DATA).unwrap())
}
