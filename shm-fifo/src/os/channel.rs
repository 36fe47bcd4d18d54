//! A byte stream over a region, with a doorbell.

use super::bell::{Bell, EventDoorbells};
use super::doorbell::{self, Heard};
use super::region::Endpoint;
use super::sys;
use super::wait::{PublishedCpu, SpinEnd, SpinPolicy};
use crate::{Consumer, Corrupt, Interest, Positions, Producer};
use std::io::{self, IoSlice, IoSliceMut, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

/// A connected byte stream through shared memory.
///
/// It behaves as a stream socket does: [`Read`] and [`Write`] wait, up to a
/// timeout or deadline if one is set; `try_read` and `try_write` never do.
///
/// What wakes it is a socket ([`Channel::new`]), whose end is the end of the peer,
/// or a pair of eventfds ([`Channel::with_events`]), beside which something else
/// tells of that. Either way the end is noticed after the bytes that the peer
/// published before. An event loop sleeps in a channel's place: [`Channel::park`].
///
/// A channel is not inherited over `fork`: in a child every operation fails with
/// `BrokenPipe`, and the parent's channel goes on unharmed.
///
/// A socket's receive timeout (`SO_RCVTIMEO`) is set by the channel. One in
/// non-blocking mode works as well, for a system call or two more each sleep.
#[derive(Debug)]
pub struct Channel {
    endpoint: Endpoint,
    bell: Bell,
    policy: SpinPolicy,
    cpu: PublishedCpu,
    /// The peer's end was heard on the doorbell.
    peer_ended: bool,
    /// The peer broke the protocol; nothing is read or written any more.
    broken: bool,
    timeout: Option<Duration>,
    deadline: Option<Instant>,
    stats: ChannelStats,
}

/// What a [`Channel`] has done since it was made. Exact, and kept in its own
/// memory: nothing is shared with the peer or with other threads for it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct ChannelStats {
    /// Bytes read.
    pub bytes_received: u64,
    /// Bytes written.
    pub bytes_sent: u64,
    /// Reads that returned at least a byte.
    pub reads: u64,
    /// Writes that took at least a byte, each of them published.
    pub writes: u64,
    /// Times that the channel slept in the kernel, or was announced as asleep by
    /// [`Channel::park`].
    pub parks: u64,
    /// Doorbells sent to a sleeping peer.
    pub doorbells_sent: u64,
    /// Doorbells received.
    pub doorbells_received: u64,
    /// Spins that ended with what was waited for.
    pub spins_won: u64,
    /// Spins that ended with nothing.
    pub spins_lost: u64,
}

impl Channel {
    /// A channel over `endpoint` whose doorbell is the connected `socket`.
    #[must_use]
    pub fn new(endpoint: Endpoint, socket: OwnedFd) -> Self {
        Self::over(endpoint, Bell::socket(socket))
    }

    /// A channel over `endpoint` that is woken by eventfds.
    ///
    /// # Examples
    ///
    /// Two threads stand for two processes.
    ///
    /// ```
    /// use shm_fifo::{Channel, EventDoorbells, Region};
    /// use std::io::{Read, Write};
    ///
    /// # fn main() -> std::io::Result<()> {
    /// let created = Region::create(4096)?;
    /// let attached = Region::attach(created.fd()?)?;
    /// let [here, there] = EventDoorbells::pair()?;
    /// let mut writer = Channel::with_events(created.into_endpoint(), here);
    /// let mut reader = Channel::with_events(attached.into_endpoint(), there);
    ///
    /// let writing = std::thread::spawn(move || writer.write_all(b"no socket needed"));
    /// let mut message = String::new();
    /// reader.read_to_string(&mut message)?;
    /// assert_eq!(message, "no socket needed");
    /// writing.join().expect("the writer ended")?;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn with_events(endpoint: Endpoint, events: EventDoorbells) -> Self {
        Self::over(endpoint, Bell::Events(events))
    }

    fn over(endpoint: Endpoint, bell: Bell) -> Self {
        // Where the handshake announced this side as asleep, it is awake now.
        if !endpoint.mapping.is_inherited() {
            endpoint.consumer.watch().unpark();
        }
        Self {
            endpoint,
            bell,
            policy: SpinPolicy::default(),
            cpu: PublishedCpu::default(),
            peer_ended: false,
            broken: false,
            timeout: None,
            deadline: None,
            stats: ChannelStats::default(),
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

    /// When [`Read`] and [`Write`] fail with `TimedOut`, whatever their timeout:
    /// for exchanges of several calls that are to end by one moment. `None`, the
    /// default, is never.
    pub fn set_deadline(&mut self, deadline: Option<Instant>) {
        self.deadline = deadline;
    }

    /// Reads what there is. `Ok(0)` is the end of the stream (or an empty
    /// `target`).
    ///
    /// A peer that was killed could not announce its end; [`Channel::wait`] and
    /// [`Channel::listen`] hear of it, by the doorbell.
    ///
    /// # Errors
    /// `WouldBlock` if there is nothing yet; `InvalidData` if the peer broke the
    /// protocol, for ever after.
    pub fn try_read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.try_read_by(target.is_empty(), |consumer| consumer.read(target))
    }

    /// As [`Channel::try_read`], into `targets` one after the other.
    ///
    /// # Errors
    /// As [`Channel::try_read`].
    pub fn try_read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        let nothing_wanted = targets.iter().all(|target| target.is_empty());
        self.try_read_by(nothing_wanted, |consumer| consumer.read_vectored(targets))
    }

    /// Writes what there is space for and shows it to the peer.
    ///
    /// # Errors
    /// `WouldBlock` if there is no space; `BrokenPipe` if the peer has ended;
    /// `InvalidData` if it broke the protocol.
    pub fn try_write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.try_write_by(source.is_empty(), |producer| producer.write(source))
    }

    /// As [`Channel::try_write`], of all `sources` one behind the other: they are
    /// shown to the peer together, by one doorbell at most.
    ///
    /// # Errors
    /// As [`Channel::try_write`].
    pub fn try_write_vectored(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        let nothing_to_write = sources.iter().all(|source| source.is_empty());
        self.try_write_by(nothing_to_write, |producer| producer.write_vectored(sources))
    }

    /// Whether what `interest` names is there, without waiting. The end of the
    /// peer counts as both.
    #[must_use]
    pub fn is_ready(&self, interest: Interest) -> bool {
        self.broken
            || self.peer_ended
            || self.endpoint.mapping.is_inherited()
            || self.endpoint.watch().is_ready(interest, self.endpoint.positions())
    }

    /// Waits until what `interest` names is there, or the peer ended.
    ///
    /// It spins while the policy says that this pays, then sleeps on the doorbell.
    ///
    /// # Errors
    /// `TimedOut` after `deadline`; `InvalidData` if the peer broke the protocol.
    pub fn wait(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        if !self.spin(interest) {
            while !self.is_ready(interest) {
                self.sleep(interest, deadline)?;
            }
        }
        self.refuse_if_unusable()
    }

    /// Spins for what `interest` names if the policy says that this pays, at most
    /// for the policy's budget. Returns whether it is there.
    ///
    /// [`Channel::wait`] does this before it sleeps; an event loop may do it before
    /// [`Channel::park`].
    pub fn spin(&mut self, interest: Interest) -> bool {
        if self.is_ready(interest) {
            return true;
        }
        if self.may_spin() {
            let (watch, at) = (self.endpoint.watch(), self.endpoint.positions());
            match self.policy.spin(|| watch.is_ready(interest, at), |_| false) {
                SpinEnd::Won => self.stats.spins_won += 1,
                _ => self.stats.spins_lost += 1,
            }
        }
        self.is_ready(interest)
    }

    /// Whether [`Channel::spin`] would spin, by the policy. Tells the peer on which CPU
    /// this thread waits.
    #[must_use]
    pub fn may_spin(&mut self) -> bool {
        let watch = self.endpoint.watch();
        let own_cpu = sys::current_cpu();
        self.cpu.update(own_cpu, |cpu| watch.publish_cpu(cpu));
        self.policy.may_spin(sys::monotonic_ns(), own_cpu, watch.peer_cpu())
    }

    /// Announces to the peer that this side sleeps until what `interest` names is
    /// there; the peer then rings. Returns whether it may sleep: `false`, with
    /// nothing announced, if it is there already.
    ///
    /// For event loops. Where they watch the doorbell for reading (the channel's
    /// [`AsFd`], and [`Channel::life_fd`] if there is one), the order is:
    /// [`Channel::listen`], then read or write until `WouldBlock`, then `park`; on
    /// `false` from the beginning. A doorbell that rings after `park` is still there
    /// when the event loop looks at it.
    ///
    /// # Examples
    ///
    /// ```
    /// use rustix::event::{PollFd, PollFlags, poll};
    /// use shm_fifo::{Channel, Interest};
    /// use std::io::ErrorKind;
    ///
    /// fn receive(channel: &mut Channel, target: &mut [u8]) -> std::io::Result<usize> {
    ///     loop {
    ///         channel.listen();
    ///         match channel.try_read(target) {
    ///             Err(error) if error.kind() == ErrorKind::WouldBlock => {}
    ///             result => return result,
    ///         }
    ///         if channel.park(Interest::READABLE) {
    ///             // Among whatever else the loop waits for.
    ///             poll(&mut [PollFd::new(channel, PollFlags::IN)], None)?;
    ///             channel.unpark(Interest::READABLE);
    ///         }
    ///     }
    /// }
    ///
    /// let (mut here, mut there) = Channel::pair(4096)?;
    /// let writing = std::thread::spawn(move || there.try_write(b"hello"));
    /// assert_eq!(receive(&mut here, &mut [0; 8])?, 5);
    /// writing.join().expect("the writer ended")?;
    /// assert_eq!(receive(&mut here, &mut [0; 8])?, 0, "the writer was dropped");
    /// # Ok::<(), std::io::Error>(())
    /// ```
    #[must_use = "on false it is there: do not sleep"]
    pub fn park(&mut self, interest: Interest) -> bool {
        if self.is_ready(interest) {
            return false;
        }
        self.ring_before_sleep();
        let parked = self.endpoint.watch().park(interest, self.endpoint.positions());
        self.stats.parks += u64::from(parked);
        parked
    }

    /// Takes back what [`Channel::park`] announced: awake again, no doorbell is
    /// needed.
    pub fn unpark(&mut self, interest: Interest) {
        if !self.endpoint.mapping.is_inherited() {
            self.endpoint.watch().unpark(interest);
        }
    }

    /// Takes pending doorbells, without waiting, and notes the peer's end if that
    /// is what is there; the next read or write tells it. Returns whether more may
    /// be pending, after a look at a bounded part.
    pub fn listen(&mut self) -> bool {
        if self.endpoint.mapping.is_inherited() {
            // The doorbells are the parent's.
            return false;
        }
        let heard = self.bell.listen();
        self.note(heard);
        heard == Heard::Rung(doorbell::LOOK_BYTES)
    }

    /// What becomes readable when the peer has ended, where the doorbell does not
    /// say so: that of [`EventDoorbells`]. A socket does.
    #[must_use]
    pub fn life_fd(&self) -> Option<BorrowedFd<'_>> {
        self.bell.life_fd()
    }

    /// What this end has done since it was made.
    #[must_use]
    pub fn stats(&self) -> ChannelStats {
        let Positions { head, tail } = self.endpoint.positions();
        ChannelStats { bytes_received: head, bytes_sent: tail, ..self.stats }
    }

    fn try_read_by(
        &mut self,
        nothing_wanted: bool,
        mut read: impl FnMut(&mut Consumer<'_>) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        let count = self.read_ring(&mut read)?;
        if count > 0 || nothing_wanted {
            return Ok(count);
        }
        if !self.peer_has_ended() {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        // What was published before the end is seen by now.
        self.read_ring(read)
    }

    fn try_write_by(
        &mut self,
        nothing_to_write: bool,
        write: impl FnOnce(&mut Producer<'_>) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        self.refuse_if_unusable()?;
        if self.peer_ended || self.peer_has_closed() {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let written =
            write(&mut self.endpoint.producer).map_err(|corrupt| self.corrupted(corrupt))?;
        if written > 0 {
            self.stats.writes += 1;
            if self.endpoint.producer.must_ring() {
                self.ring();
            }
        }
        if written == 0 && !nothing_to_write {
            let nobody_reads = self.endpoint.producer.watch().consumer_closed();
            let kind =
                if nobody_reads { io::ErrorKind::BrokenPipe } else { io::ErrorKind::WouldBlock };
            return Err(kind.into());
        }
        Ok(written)
    }

    /// Whether the peer has ended both its directions.
    ///
    /// The word that ends its writing is looked at first: that line stays in our
    /// cache. The one that ends its reading lies beside its position, which it has
    /// just written, and would have to come from its CPU before each write.
    fn peer_has_closed(&self) -> bool {
        self.endpoint.consumer.watch().producer_closed()
            && self.endpoint.producer.watch().consumer_closed()
    }

    fn read_ring(
        &mut self,
        read: impl FnOnce(&mut Consumer<'_>) -> Result<usize, Corrupt>,
    ) -> io::Result<usize> {
        self.refuse_if_unusable()?;
        match read(&mut self.endpoint.consumer) {
            Ok(read) => {
                self.stats.reads += u64::from(read > 0);
                if self.endpoint.consumer.must_ring() {
                    self.ring();
                }
                Ok(read)
            }
            Err(corrupt) => Err(self.corrupted(corrupt)),
        }
    }

    fn peer_has_ended(&self) -> bool {
        self.peer_ended || self.endpoint.consumer.watch().producer_closed()
    }

    /// Sleeps until a doorbell, having announced it.
    fn sleep(&mut self, interest: Interest, deadline: Option<Instant>) -> io::Result<()> {
        let timeout = time_left(deadline)?;
        self.ring_before_sleep();
        let (watch, at) = (self.endpoint.watch(), self.endpoint.positions());
        if let Some(heard) = watch.sleep(interest, at, || self.bell.wait(timeout)) {
            self.stats.parks += 1;
            self.note(heard?);
        }
        Ok(())
    }

    /// A producer that sleeps is looked for before this end sleeps itself.
    fn ring_before_sleep(&mut self) {
        if self.endpoint.consumer.must_ring_now() {
            self.ring();
        }
    }

    fn ring(&mut self) {
        self.stats.doorbells_sent += u64::from(self.bell.ring());
    }

    fn note(&mut self, heard: Heard) {
        match heard {
            Heard::Nothing => {}
            Heard::Rung(count) => self.stats.doorbells_received += count as u64,
            Heard::End => self.peer_ended = true,
            Heard::Violation(_) => self.break_off(),
        }
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

    /// The peer broke the protocol: it is told that this is the end.
    fn break_off(&mut self) {
        self.broken = true;
        self.end();
    }

    fn end(&self) {
        self.endpoint.producer.close();
        self.endpoint.consumer.close();
        self.bell.end();
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

    /// When a call that begins now is to end.
    fn deadline(&self) -> Option<Instant> {
        let of_this_call = self.timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        of_this_call.into_iter().chain(self.deadline).min()
    }
}

impl AsFd for Channel {
    /// The doorbell: the socket, or the eventfd that wakes this end. It stays the
    /// channel's.
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.bell.as_fd()
    }
}

impl Read for Channel {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        self.block_on(Interest::READABLE, |channel| channel.try_read(target))
    }

    fn read_vectored(&mut self, targets: &mut [IoSliceMut<'_>]) -> io::Result<usize> {
        self.block_on(Interest::READABLE, |channel| channel.try_read_vectored(targets))
    }
}

impl Write for Channel {
    fn write(&mut self, source: &[u8]) -> io::Result<usize> {
        self.block_on(Interest::WRITABLE, |channel| channel.try_write(source))
    }

    fn write_vectored(&mut self, sources: &[IoSlice<'_>]) -> io::Result<usize> {
        self.block_on(Interest::WRITABLE, |channel| channel.try_write_vectored(sources))
    }

    /// Does nothing: every write is published at once.
    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl AsRawFd for Channel {
    /// As [`AsFd`].
    fn as_raw_fd(&self) -> RawFd {
        self.as_fd().as_raw_fd()
    }
}

impl Drop for Channel {
    fn drop(&mut self) {
        // In a forked child this is only a copy: the parent's goes on.
        if self.endpoint.mapping.is_inherited() {
            return;
        }
        self.end();
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

/// How long a sleep may last that is to end by `deadline`.
fn time_left(deadline: Option<Instant>) -> io::Result<Option<Duration>> {
    let left = deadline.map(|deadline| deadline.saturating_duration_since(Instant::now()));
    if left.is_some_and(|left| left.is_zero()) {
        return Err(io::ErrorKind::TimedOut.into());
    }
    Ok(left)
}
