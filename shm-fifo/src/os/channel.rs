//! A byte stream over a region, with a socket as doorbell.

use super::doorbell::{self, Heard};
use super::region::Endpoint;
use super::sys;
use super::wait::{PublishedCpu, SpinEnd, SpinPolicy};
use crate::Corrupt;
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// What a wait is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Interest {
    /// Bytes to read, or the end of the stream.
    pub readable: bool,
    /// Space to write, a quarter of the ring, or the end of the reader.
    pub writable: bool,
}

impl Interest {
    /// Something to read.
    pub const READABLE: Self = Self { readable: true, writable: false };
    /// Space to write.
    pub const WRITABLE: Self = Self { readable: false, writable: true };
    /// Either.
    pub const BOTH: Self = Self { readable: true, writable: true };
}

/// A connected byte stream through shared memory.
///
/// It behaves as a stream socket does: [`Read`] and [`Write`] wait, up to a
/// timeout if one is set; `try_read` and `try_write` never do. The socket only
/// carries doorbells; its end is the end of the peer, noticed after the bytes
/// that the peer published before.
///
/// A channel is not inherited over `fork`: in a child every operation fails with
/// `BrokenPipe`, and the parent's channel goes on unharmed.
///
/// The socket must be in blocking mode. Its receive timeout (`SO_RCVTIMEO`) is
/// set by the channel.
#[derive(Debug)]
pub struct Channel {
    endpoint: Endpoint,
    socket: OwnedFd,
    policy: SpinPolicy,
    cpu: PublishedCpu,
    /// The peer's end was heard on the socket.
    peer_ended: bool,
    /// The peer broke the protocol; nothing is read or written any more.
    broken: bool,
    timeout: Option<Duration>,
    /// The value of `SO_RCVTIMEO` on the socket.
    socket_timeout: Option<Duration>,
}

impl Channel {
    /// A channel over `endpoint` whose doorbell is the connected `socket`.
    #[must_use]
    pub fn new(endpoint: Endpoint, socket: OwnedFd) -> Self {
        // Where the handshake announced this side as asleep, it is awake now.
        endpoint.consumer.watch().unpark();
        Self {
            endpoint,
            socket,
            policy: SpinPolicy::default(),
            cpu: PublishedCpu::default(),
            peer_ended: false,
            broken: false,
            timeout: None,
            socket_timeout: None,
        }
    }

    /// Replaces the waiting policy.
    pub fn set_policy(&mut self, policy: SpinPolicy) {
        self.policy = policy;
    }

    /// How long [`Read`] and [`Write`] wait before they fail with `TimedOut`;
    /// `None`, the default, is for ever.
    pub fn set_timeout(&mut self, timeout: Option<Duration>) {
        self.timeout = timeout;
    }

    /// Reads what there is. `Ok(0)` is the end of the stream (or an empty
    /// `target`).
    ///
    /// A peer that was killed could not announce its end; [`Channel::wait`] hears
    /// of it, on the socket.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; `InvalidData` if the peer broke the
    /// protocol, for ever after.
    pub fn try_read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        let read = self.read_ring(target)?;
        if read > 0 || target.is_empty() {
            return Ok(read);
        }
        if !self.peer_has_ended() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What was published before the end is seen by now.
        self.read_ring(target)
    }

    /// Writes what there is space for and shows it to the peer.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space; `BrokenPipe` if the peer has ended;
    /// `InvalidData` if it broke the protocol.
    pub fn try_write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.refuse_if_unusable()?;
        if self.peer_ended || self.endpoint.producer.watch().consumer_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written = match self.endpoint.producer.write(source) {
            Ok(written) => written,
            Err(corrupt) => return Err(self.corrupted(corrupt)),
        };
        if written > 0 && self.endpoint.producer.must_ring() {
            doorbell::ring(self.socket.as_raw_fd());
        }
        if written == 0 && !source.is_empty() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        Ok(written)
    }

    /// Whether what `interest` names is there, without waiting. The end of the
    /// peer counts as both.
    #[must_use]
    pub fn is_ready(&self, interest: Interest) -> bool {
        self.broken
            || self.peer_ended
            || self.endpoint.mapping.is_inherited()
            || interest.readable && self.endpoint.consumer.watch().is_ready(self.head())
            || interest.writable && self.endpoint.producer.watch().is_ready(self.tail())
    }

    /// Waits until what `interest` names is there, or the peer ended.
    ///
    /// It spins while the policy says that this pays, then sleeps on the socket.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; `InvalidData` if the peer broke the protocol.
    pub fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        if !self.is_ready(interest) {
            self.spin(interest);
        }
        while !self.is_ready(interest) {
            self.sleep(interest, deadline)?;
        }
        self.refuse_if_unusable()
    }

    /// The doorbell socket, to be watched by an event loop; its owner stays the
    /// channel.
    #[must_use]
    pub fn socket_fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    /// Bytes received and sent through this end since it was made.
    #[must_use]
    pub fn transferred_bytes(&self) -> (u64, u64) {
        (self.head(), self.tail())
    }

    fn head(&self) -> u64 {
        self.endpoint.consumer.position()
    }

    fn tail(&self) -> u64 {
        self.endpoint.producer.position()
    }

    fn read_ring(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.refuse_if_unusable()?;
        match self.endpoint.consumer.read(target) {
            Ok(read) => {
                if self.endpoint.consumer.must_ring() {
                    doorbell::ring(self.socket.as_raw_fd());
                }
                Ok(read)
            }
            Err(corrupt) => Err(self.corrupted(corrupt)),
        }
    }

    fn peer_has_ended(&self) -> bool {
        self.peer_ended || self.endpoint.consumer.watch().producer_closed()
    }

    fn spin(&mut self, interest: Interest) {
        let data = self.endpoint.consumer.watch();
        let space = self.endpoint.producer.watch();
        let own_cpu = sys::current_cpu();
        self.cpu.update(own_cpu, |cpu| {
            data.publish_cpu(cpu);
            space.publish_cpu(cpu);
        });
        if self.policy.may_spin(sys::monotonic_ns(), own_cpu, data.peer_cpu()) {
            let (head, tail) = (self.head(), self.tail());
            let is_ready = || {
                interest.readable && data.is_ready(head)
                    || interest.writable && space.is_ready(tail)
            };
            let _: SpinEnd = self.policy.spin(is_ready, |_| false);
        }
    }

    /// Sleeps on the socket until a doorbell, having announced it.
    fn sleep(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        self.set_socket_timeout(deadline)?;
        if self.endpoint.consumer.must_ring_now() {
            doorbell::ring(self.socket.as_raw_fd());
        }
        let data = self.endpoint.consumer.watch();
        let space = self.endpoint.producer.watch();
        let may_sleep = (!interest.readable || data.park(self.head()))
            && (!interest.writable || space.park(self.tail()));
        if may_sleep {
            match doorbell::wait(self.socket.as_raw_fd()) {
                Heard::Rung(_) | Heard::Nothing => {}
                Heard::End => self.peer_ended = true,
                Heard::Violation(_) => self.break_off(),
            }
        }
        data.unpark();
        space.unpark();
        Ok(())
    }

    /// Lets the next sleep end at `deadline`.
    ///
    /// Waits with the same timeout differ by less than a millisecond here, so
    /// the option is set once, not for each of them.
    fn set_socket_timeout(&mut self, deadline: Option<Instant>) -> io::Result<()> {
        let Some(deadline) = deadline else {
            if self.socket_timeout.is_some() {
                sys::set_receive_timeout(self.socket.as_raw_fd(), Duration::ZERO)?;
                self.socket_timeout = None;
            }
            return Ok(());
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let slack = Duration::from_millis(1);
        let fits = |set: Duration| set >= left && set - left < slack;
        if !self.socket_timeout.is_some_and(fits) {
            let rounded = left.max(Duration::from_micros(1));
            sys::set_receive_timeout(self.socket.as_raw_fd(), rounded)?;
            self.socket_timeout = Some(rounded);
        }
        Ok(())
    }

    fn refuse_if_unusable(&self) -> io::Result<()> {
        if self.endpoint.mapping.is_inherited() {
            let message = "the channel belongs to the process that forked this one";
            return Err(io::Error::new(io::ErrorKind::BrokenPipe, message));
        }
        if self.broken {
            let message = "the peer broke the shared memory protocol";
            return Err(io::Error::new(io::ErrorKind::InvalidData, message));
        }
        Ok(())
    }

    /// The peer broke the protocol: it is told by the end of the socket.
    fn break_off(&mut self) {
        self.broken = true;
        sys::shutdown(self.socket.as_raw_fd());
    }

    fn corrupted(&mut self, corrupt: Corrupt) -> io::Error {
        self.break_off();
        io::Error::new(io::ErrorKind::InvalidData, corrupt)
    }

    /// Repeats `attempt` until it has something to say, waiting in between.
    fn block_on(
        &mut self,
        interest: Interest,
        mut attempt: impl FnMut(&mut Self) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let would_block = |result: &io::Result<usize>| {
            result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        };
        let result = attempt(self);
        if !would_block(&result) {
            return result;
        }
        let deadline = self.deadline();
        loop {
            self.wait(interest, deadline)?;
            let result = attempt(self);
            if !would_block(&result) {
                return result;
            }
            // A peer that changes its words all the time could make every wait end
            // and every attempt fail: the deadline holds all the same.
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    fn deadline(&self) -> Option<Instant> {
        self.timeout.and_then(|timeout| Instant::now().checked_add(timeout))
    }
}

impl Read for Channel {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.block_on(Interest::READABLE, |channel| channel.try_read(target))
    }
}

impl Write for Channel {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.block_on(Interest::WRITABLE, |channel| channel.try_write(source))
    }

    /// Does nothing: every write is published at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // In a forked child this is only a copy: the parent's goes on.
        if self.endpoint.mapping.is_inherited() {
            return;
        }
        self.endpoint.producer.close();
        self.endpoint.consumer.close();
        // Whoever sleeps on the socket's other end wakes by its end, even where a
        // forked child still holds a copy of it.
        sys::shutdown(self.socket.as_raw_fd());
    }
}

impl Channel {
    /// Two connected channels within this process, for tests and examples.
    ///
    /// # Errors
    /// If the region or the socket pair cannot be made.
    pub fn pair(ring_bytes: usize) -> io::Result<(Self, Self)> {
        let created = crate::Region::create(ring_bytes)?;
        let attached = crate::Region::attach(created.fd()?)?;
        let (one, other) = UnixStream::pair()?;
        Ok((
            Self::new(created.into_endpoint(), one.into()),
            Self::new(attached.into_endpoint(), other.into()),
        ))
    }
}
