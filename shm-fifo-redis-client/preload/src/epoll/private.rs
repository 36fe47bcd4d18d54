//! The epoll instance beside a program's own: what threads sleep in once a connection is
//! watched.

use crate::errno::Errno;
use crate::{sys, table};
use libc::{epoll_event, sigset_t};
use std::os::fd::RawFd;

const READABLE: u32 = libc::EPOLLIN.cast_unsigned();
const EDGE: u32 = libc::EPOLLET.cast_unsigned();

/// What an event is about: a connection's number, or one of these.
const PROGRAMS: u64 = u64::MAX;
const KICKED: u64 = u64::MAX - 1;

/// How many events are taken at a time. More come with the next look.
const AT_ONCE: usize = 32;

/// Our own descriptors have high numbers: programs expect the lowest free one for theirs,
/// and some close all up to the last that they know of.
pub(crate) const FIRST_NUMBER: RawFd = 512;

/// Its number is none that the program was given.
#[derive(Debug)]
pub(super) struct Private {
    fd: RawFd,
    /// An eventfd that wakes who sleeps. Nobody reads it: it is registered edge-triggered, so
    /// each signal is an event of its own.
    kick: RawFd,
}

/// What the kernel has to say.
#[derive(Debug, Default)]
pub(super) struct News {
    /// The program's own instance has events.
    pub(super) has_programs: bool,
    /// The numbers of connections on whose sockets there is something.
    rung: [u64; AT_ONCE],
    rung_count: usize,
}

impl News {
    pub(super) fn has_some(&self) -> bool {
        self.has_programs || self.rung_count > 0
    }

    pub(super) fn rung(&self) -> &[u64] {
        &self.rung[..self.rung_count]
    }
}

impl Private {
    /// Beside the instance `epfd`, which it watches.
    pub(super) fn new(epfd: RawFd) -> Result<Self, Errno> {
        let kick = sys::eventfd(FIRST_NUMBER)?;
        let fd = sys::epoll_create(FIRST_NUMBER).inspect_err(|_| sys::close(kick))?;
        let private = Self { fd, kick };
        [fd, kick].into_iter().for_each(table::make_private);
        private.add(epfd, READABLE, PROGRAMS)?;
        private.add(kick, READABLE | EDGE, KICKED)?;
        Ok(private)
    }

    /// Wakes who sleeps; or who looks next, where nobody does.
    pub(super) fn kick(&self) {
        sys::signal_eventfd(self.kick);
    }

    /// In a forked child: what the parent sleeps in is none of its own.
    pub(super) fn close(&self) {
        sys::close(self.fd);
        sys::close(self.kick);
    }

    pub(super) fn fd(&self) -> RawFd {
        self.fd
    }

    fn add(&self, fd: RawFd, events: u32, about: u64) -> Result<(), Errno> {
        let event = epoll_event { events, u64: about };
        sys::epoll_ctl(self.fd, libc::EPOLL_CTL_ADD, fd, Some(event))
    }

    /// Watches the socket of that connection for doorbells.
    pub(super) fn add_socket(&self, socket: RawFd, connection: u64) -> Result<(), Errno> {
        match self.add(socket, READABLE, connection) {
            // By another of the connection's numbers, or since the program removed it.
            Err(Errno(libc::EEXIST)) => Ok(()),
            added => added,
        }
    }

    pub(super) fn remove_socket(&self, socket: RawFd) {
        // It may be closed.
        sys::epoll_ctl(self.fd, libc::EPOLL_CTL_DEL, socket, None).ok();
    }

    /// The program closes one of its instance's numbers: another is `left`.
    pub(super) fn renumber_program(&self, epfd: RawFd, left: RawFd) {
        self.remove_socket(epfd);
        self.add(left, READABLE, PROGRAMS).ok();
    }

    /// Sleeps until there is something, at most for `timeout_ns`.
    pub(super) fn wait(
        fd: RawFd,
        timeout_ns: Option<u64>,
        mask: *const sigset_t,
    ) -> Result<News, Errno> {
        let mut events = [epoll_event { events: 0, u64: 0 }; AT_ONCE];
        let count = sys::epoll_wait(fd, &mut events, timeout_ns, mask)?;
        let mut news = News::default();
        for event in &events[..count] {
            match event.u64 {
                PROGRAMS => news.has_programs = true,
                KICKED => {}
                connection => {
                    news.rung[news.rung_count] = connection;
                    news.rung_count += 1;
                }
            }
        }
        Ok(news)
    }
}

impl Drop for Private {
    fn drop(&mut self) {
        for fd in [self.fd, self.kick].into_iter().filter(|&fd| table::unmake_private(fd)) {
            sys::close(fd);
        }
    }
}
