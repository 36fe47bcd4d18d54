//! `poll`, and everything like it: waiting for several file descriptors of which
//! some are tracked.

use crate::connection::{Connection, Phase, interest_of};
use crate::epoll::{Epoll, Timeout};
use crate::errno::Errno;
use crate::table::{self, Entry};
use crate::{signals, sys};
use libc::{pollfd, sigset_t, timespec};
use shm_fifo::interposer::pace;
use shm_fifo::{Interest, channel::SpinEnd};
use std::cell::Cell;
use std::os::fd::RawFd;
use std::ptr::null;
use std::sync::Arc;

/// What this thread is announced as asleep for.
#[derive(Debug)]
enum Asleep {
    /// A connection on its socket, which does not move meanwhile.
    Socket(Arc<Connection>),
    Rings(Arc<Connection>, Interest),
    Instance(Arc<Epoll>),
}

type Joined = Vec<Asleep>;

/// One entry that is not just the kernel's.
#[derive(Debug)]
struct Watched {
    /// Its place among all entries.
    index: usize,
    source: Source,
    /// The kernel was asked for doorbells, not for what the program waits for.
    listening: Cell<bool>,
}

#[derive(Debug)]
enum Source {
    Connection(Arc<Connection>),
    /// An epoll instance that watches connections.
    Epoll(Arc<Epoll>),
    /// A connection that a forked child cannot use.
    Inherited,
}

/// `ppoll(2)`. `None` if all entries are the kernel's.
pub(crate) fn wait(
    entries: &mut [pollfd],
    timeout: Timeout,
    mask: *const sigset_t,
) -> Option<Result<usize, Errno>> {
    if table::is_empty() {
        return None;
    }
    let watched: Vec<Watched> = entries.iter().enumerate().filter_map(Watched::new).collect();
    if watched.is_empty() { None } else { Some(Poll { watched }.wait(entries, timeout, mask)) }
}

struct Poll {
    watched: Vec<Watched>,
}

impl Poll {
    fn wait(
        &self,
        entries: &mut [pollfd],
        timeout: Timeout,
        mask: *const sigset_t,
    ) -> Result<usize, Errno> {
        let deadline_ns = timeout.deadline_ns();
        loop {
            self.watched.iter().filter_map(Watched::shared).for_each(Connection::settle);
            if self.any_ready(entries) {
                return self.look(entries, mask);
            }
            let now_ns = sys::monotonic_ns();
            let left_ns = deadline_ns.map(|deadline_ns| deadline_ns.saturating_sub(now_ns));
            if left_ns == Some(0) {
                return self.look(entries, mask);
            }
            if self.spin(entries) {
                continue;
            }
            let slept = self.sleep(entries, left_ns, mask)?;
            if slept > 0 {
                return Ok(slept);
            }
        }
    }

    /// What is ready, without waiting.
    fn look(&self, entries: &mut [pollfd], mask: *const sigset_t) -> Result<usize, Errno> {
        if !self.any_ready(entries) {
            return self.ask(entries, Some(sys::NO_TIME), mask, Joined::new());
        }
        let mut asked = self.for_kernel(entries);
        sys::ppoll(&mut asked, Some(sys::NO_TIME), null())?;
        self.attend(&asked);
        Ok(self.report(entries, &asked))
    }

    /// Sleeps until something comes, or looks once where something keeps it awake. Returns how
    /// many entries are ready: none after a doorbell that was for somebody else.
    fn sleep(
        &self,
        entries: &mut [pollfd],
        left_ns: Option<u64>,
        mask: *const sigset_t,
    ) -> Result<usize, Errno> {
        match self.join(entries) {
            Some(joined) => self.ask(entries, left_ns.map(sys::timespec_of), mask, joined),
            // One that cannot be slept for may wait for something on its socket, as an answer of
            // the server.
            None => self.ask(entries, Some(sys::NO_TIME), mask, Joined::new()),
        }
    }

    /// Asks the kernel, with signals let in. As there, what is ready goes before them.
    fn ask(
        &self,
        entries: &mut [pollfd],
        timeout: Option<timespec>,
        mask: *const sigset_t,
        joined: Joined,
    ) -> Result<usize, Errno> {
        let mut asked = self.for_kernel(entries);
        let waited = signals::let_in(|| sys::ppoll(&mut asked, timeout, mask));
        part(joined);
        let is_interrupted = waited.is_err();
        waited.unwrap_or_else(|_| sys::ppoll(&mut asked, Some(sys::NO_TIME), null()))?;
        self.attend(&asked);
        match self.report(entries, &asked) {
            0 if is_interrupted => Err(Errno(libc::EINTR)),
            count => Ok(count),
        }
    }

    /// The entries as the kernel is to see them: where the readiness is ours, it
    /// listens for doorbells.
    fn for_kernel(&self, entries: &[pollfd]) -> Vec<pollfd> {
        let mut asked = entries.to_vec();
        for watched in &self.watched {
            let entry = &mut asked[watched.index];
            let listening = watched.connection().is_some_and(Connection::is_moved);
            watched.listening.set(listening);
            match &watched.source {
                // Its end was heard, and is told for ever.
                Source::Connection(connection) if listening && connection.is_gone() => {
                    entry.fd = -1;
                }
                // It is written to on the socket, and may stay there after all.
                Source::Connection(connection) if connection.phase() == Phase::Opening => {
                    entry.events = libc::POLLIN | entry.events & libc::POLLOUT;
                }
                Source::Connection(_) if listening => entry.events = libc::POLLIN,
                Source::Inherited => entry.fd = -1,
                Source::Epoll(epoll) => entry.fd = epoll.waited_for_by(entry.fd),
                Source::Connection(_) => {}
            }
        }
        asked
    }

    /// Takes the doorbells that the kernel reported.
    fn attend(&self, asked: &[pollfd]) {
        for watched in &self.watched {
            if asked[watched.index].revents == 0 {
                continue;
            }
            match &watched.source {
                Source::Connection(connection) => {
                    connection.attend(None);
                    connection.settle();
                    // A further step of a move may have followed, and the end be behind that.
                    if connection.is_being_asked() || connection.has_unheard_end() {
                        connection.attend(None);
                        connection.settle();
                    }
                }
                Source::Epoll(epoll) => epoll.attend(),
                Source::Inherited => {}
            }
        }
    }

    /// Tells the program what is ready; how many entries that are.
    fn report(&self, entries: &mut [pollfd], asked: &[pollfd]) -> usize {
        for (entry, asked) in entries.iter_mut().zip(asked) {
            entry.revents = asked.revents;
        }
        for watched in &self.watched {
            let entry = &mut entries[watched.index];
            entry.revents = watched.report(entry, &asked[watched.index]);
        }
        entries.iter().filter(|entry| entry.revents != 0).count()
    }

    fn any_ready(&self, entries: &[pollfd]) -> bool {
        self.watched.iter().any(|watched| watched.is_ready(&entries[watched.index]))
    }

    /// Announces that this thread is about to sleep; `None` if something is ready.
    fn join(&self, entries: &[pollfd]) -> Option<Joined> {
        let mut joined = Joined::new();
        for watched in &self.watched {
            let asleep = match &watched.source {
                Source::Connection(connection) => {
                    let interest = interest_of(events_of(&entries[watched.index]));
                    connection.note_seen_waiting();
                    if connection.enter_to_wait(interest.readable) {
                        Some(Asleep::Socket(Arc::clone(connection)))
                    } else {
                        let joined = connection.join(interest);
                        joined.then(|| Asleep::Rings(Arc::clone(connection), interest))
                    }
                }
                Source::Epoll(epoll) if asks_for_bytes(&entries[watched.index]) => {
                    epoll.join().then(|| Asleep::Instance(Arc::clone(epoll)))
                }
                // Nothing else ever comes of an instance.
                Source::Epoll(_) | Source::Inherited => continue,
            };
            let Some(asleep) = asleep else {
                part(joined);
                return None;
            };
            joined.push(asleep);
        }
        Some(joined)
    }

    /// Spins for the rings, if that may pay. Returns whether something came.
    fn spin(&self, entries: &[pollfd]) -> bool {
        let connections = self.watched.iter().filter_map(Watched::connection);
        let Some(mut policy) = connections.into_iter().find_map(Connection::spinning) else {
            return false;
        };
        let others = entries.len() > self.watched.len();
        let mut asked_ns = sys::monotonic_ns();
        let interrupt = |now_ns: u64| {
            if !others || !pace::kernel_is_due(asked_ns, now_ns) {
                return signals::is_waiting();
            }
            asked_ns = now_ns;
            // What is there is found again by the sleep that follows.
            signals::is_waiting()
                || sys::ppoll(&mut self.for_kernel(entries), Some(sys::NO_TIME), null()) != Ok(0)
        };
        policy.spin(|| self.any_ready(entries), interrupt) == SpinEnd::Won
    }
}

/// This thread is awake.
fn part(joined: Joined) {
    for asleep in joined {
        match asleep {
            Asleep::Socket(connection) => connection.leave(),
            Asleep::Rings(connection, interest) => connection.part(interest, false),
            Asleep::Instance(epoll) => epoll.part(),
        }
    }
}

impl Watched {
    fn new((index, entry): (usize, &pollfd)) -> Option<Self> {
        let source = match table::waited_for(entry.fd)? {
            Entry::Connection(connection) => Source::Connection(connection),
            Entry::Epoll(epoll) => Source::Epoll(epoll),
            Entry::Inherited => Source::Inherited,
        };
        Some(Self { index, source, listening: Cell::new(false) })
    }

    fn shared(&self) -> Option<&Arc<Connection>> {
        match &self.source {
            Source::Connection(connection) => Some(connection),
            _ => None,
        }
    }

    fn connection(&self) -> Option<&Connection> {
        self.shared().map(Arc::as_ref)
    }

    fn is_ready(&self, entry: &pollfd) -> bool {
        match &self.source {
            Source::Connection(connection) => {
                connection.is_virtual() && connection.ready_events(events_of(entry)) != 0
            }
            Source::Epoll(epoll) => asks_for_bytes(entry) && epoll.has_news(),
            Source::Inherited => true,
        }
    }

    fn report(&self, entry: &pollfd, asked: &pollfd) -> libc::c_short {
        match &self.source {
            Source::Connection(connection) if connection.is_virtual() => {
                let ready = connection.ready_events(events_of(entry));
                libc::c_short::try_from(ready).unwrap_or(libc::POLLERR)
            }
            // Back on its socket since the kernel was asked: what that saw was not the
            // program's.
            Source::Connection(_) if self.listening.get() => ask_kernel(entry.fd, entry.events),
            Source::Connection(connection) => {
                if asked.revents & libc::POLLIN != 0 {
                    connection.note_waited();
                }
                asked.revents
            }
            Source::Epoll(epoll) => {
                let readable = entry.events & (libc::POLLIN | libc::POLLRDNORM);
                if epoll.has_news() {
                    readable
                } else {
                    // Its doorbells were taken.
                    ask_kernel(entry.fd, readable) & readable
                }
            }
            Source::Inherited => entry.events | libc::POLLHUP | libc::POLLERR,
        }
    }
}

/// What of `events` is there now, for the kernel.
fn ask_kernel(fd: RawFd, events: libc::c_short) -> libc::c_short {
    let ready = sys::ready_now(fd, u32::from(events.cast_unsigned()));
    libc::c_short::try_from(ready).unwrap_or(libc::POLLERR)
}

fn asks_for_bytes(entry: &pollfd) -> bool {
    entry.events & (libc::POLLIN | libc::POLLRDNORM) != 0
}

fn events_of(entry: &pollfd) -> u32 {
    u32::from(entry.events.cast_unsigned())
}
