//! Reading and writing where the bytes lie, and between a channel and file descriptors.

use super::frames::length_between;
use super::{Channel, own};
use crate::Interest;
use crate::fifo::{ReadGrant, WriteGrant};
use crate::os::channel::time_left;
use crate::os::in_place::{Ready, wait_for};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

/// In place: without a copy into memory of this process, or out of it.
impl Channel {
    /// Calls `read` with [all that can be read](crate::Consumer::grant), where it lies, once that
    /// is `at_least` so many bytes or the stream has ended, and waits for that as
    /// [`Read`](io::Read) does. Returns what `read` does; `None`, without calling it, at the end
    /// of the stream.
    ///
    /// What `read` does not [consume](ReadGrant::consume) is there the next time. More than half
    /// of the ring may never be there at once.
    ///
    /// # Errors
    /// `InvalidInput` if `at_least` is more than a ring has; otherwise as [`Read`](io::Read).
    ///
    /// # Examples
    ///
    /// From one channel to another, without a third place in between:
    ///
    /// ```
    /// use shm_fifo::Channel;
    ///
    /// fn forward(from: &mut Channel, to: &mut Channel) -> std::io::Result<()> {
    ///     while from
    ///         .read_in_place(1, |arrived| {
    ///             let length = arrived.length().min(1024);
    ///             to.write_in_place(length, |mut space| {
    ///                 space.copy_from(0, &arrived, 0..length);
    ///                 space.commit(length);
    ///                 arrived.consume(length);
    ///             })
    ///         })?
    ///         .transpose()?
    ///         .is_some()
    ///     {}
    ///     Ok(())
    /// }
    /// # use std::io::{Read, Write};
    /// # let ((mut a, mut b), (mut c, mut d)) = (Channel::pair(4096)?, Channel::pair(4096)?);
    /// # a.write_all(&[7; 3000])?;
    /// # drop(a);
    /// # forward(&mut b, &mut c)?;
    /// # let mut arrived = [0; 3000];
    /// # d.read_exact(&mut arrived)?;
    /// # assert_eq!(arrived, [7; 3000]);
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn read_in_place<T>(
        &mut self,
        at_least: usize,
        read: impl FnOnce(ReadGrant<'_, '_>) -> T,
    ) -> io::Result<Option<T>> {
        let mut read = Some(read);
        self.block_on(Interest::READABLE, |channel| channel.grant_read(at_least, &mut read))
    }

    /// As [`Channel::read_in_place`], without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there are not so many bytes yet: until there are, the channel is not
    /// [readable](Interest::READABLE). `InvalidInput` if `at_least` is more than a ring has;
    /// otherwise as [`Channel::try_read`].
    pub fn try_read_in_place<T>(
        &mut self,
        at_least: usize,
        read: impl FnOnce(ReadGrant<'_, '_>) -> T,
    ) -> io::Result<Option<T>> {
        self.grant_read(at_least, &mut Some(read))
    }

    /// Calls `write` with [`length` bytes of space](crate::Producer::grant), once there is so
    /// much, and waits for that as [`Write`](io::Write) does. Returns what `write` does.
    ///
    /// What `write` does not [commit](WriteGrant::commit) is not written.
    ///
    /// # Errors
    /// `InvalidInput` if `length` is more than a ring has; otherwise as [`Write`](io::Write).
    pub fn write_in_place<T>(
        &mut self,
        length: usize,
        write: impl FnOnce(WriteGrant<'_, '_>) -> T,
    ) -> io::Result<T> {
        let mut write = Some(write);
        self.block_on(Interest::WRITABLE, |channel| channel.grant_write(length, &mut write))
    }

    /// As [`Channel::write_in_place`], without waiting.
    ///
    /// # Errors
    /// `WouldBlock` if there is not so much space: until there is, the channel is not
    /// [writable](Interest::WRITABLE). `InvalidInput` if `length` is more than a ring has;
    /// otherwise as [`Channel::try_write`].
    pub fn try_write_in_place<T>(
        &mut self,
        length: usize,
        write: impl FnOnce(WriteGrant<'_, '_>) -> T,
    ) -> io::Result<T> {
        self.grant_write(length, &mut Some(write))
    }

    /// Writes what the peer sends to `target`, until its stream ends or `at_most` bytes have
    /// gone, and returns how many that were.
    ///
    /// The kernel takes the bytes out of the ring: there is no copy in this process. Where
    /// `target` is a socket, a pipe or anything else that is full, in blocking mode or not, this
    /// waits for it; the channel's timeout is for each wait, its deadline for all of them. (In
    /// blocking mode the kernel waits, who knows of neither.)
    ///
    /// After an error nothing is lost: what was not written can still be read, and
    /// [`Channel::stats`] says how far it went.
    ///
    /// # Errors
    /// What `writev(2)` says, as [`ReadGrant::write_to`], but for `Interrupted` and
    /// `WouldBlock`; otherwise as [`Read`](io::Read).
    ///
    /// # Examples
    ///
    /// ```
    /// use shm_fifo::Channel;
    /// use std::io::{Seek, Write};
    ///
    /// # let directory = std::env::temp_dir();
    /// # let path = |name| directory.join(format!("shm-fifo-splice-{name}-{}", std::process::id()));
    /// # let [from, to] = ["from", "to"].map(path);
    /// # std::fs::write(&from, [7; 100_000])?;
    /// let (mut here, mut there) = Channel::pair(4096)?;
    /// let file = std::fs::File::open(&from)?;
    /// let sending = std::thread::spawn(move || here.splice_from(&file, u64::MAX));
    ///
    /// let copy = std::fs::File::create(&to)?;
    /// assert_eq!(there.splice_to(&copy, u64::MAX)?, 100_000);
    /// assert_eq!(sending.join().expect("all was sent")?, 100_000);
    /// # assert_eq!(std::fs::read(&to)?, [7; 100_000]);
    /// # for path in [from, to] { std::fs::remove_file(path)?; }
    /// # Ok::<(), std::io::Error>(())
    /// ```
    pub fn splice_to(&mut self, target: impl AsFd, at_most: u64) -> io::Result<u64> {
        let target = target.as_fd();
        self.splice(target, Ready::ToWrite, at_most, |channel, at_most| {
            let written = channel.read_in_place(1, |grant| {
                let written = grant.write_to(0..grant.length().min(at_most), target)?;
                grant.consume(written);
                if written == 0 { Err(ErrorKind::WriteZero.into()) } else { Ok(written) }
            })?;
            // The end of the stream is no more bytes.
            Ok(written.unwrap_or(Ok(0)))
        })
    }

    /// Sends the peer what is read from `source`, until that ends or `at_most` bytes have come,
    /// and returns how many that were.
    ///
    /// The kernel puts the bytes into the ring: there is no copy in this process. How it waits
    /// is said at [`Channel::splice_to`]. `source` is read only where there is space: after an
    /// error all that was taken of it is sent.
    ///
    /// # Errors
    /// What `readv(2)` says, as [`WriteGrant::read_from`], but for `Interrupted` and
    /// `WouldBlock`; otherwise as [`Write`](io::Write).
    pub fn splice_from(&mut self, source: impl AsFd, at_most: u64) -> io::Result<u64> {
        let source = source.as_fd();
        // While the peer reads one part, the next comes.
        let part = own(&mut self.endpoint)?.producer.capacity() / 4;
        self.splice(source, Ready::ToRead, at_most, |channel, at_most| {
            let length = part.min(at_most);
            channel.write_in_place(length, |mut grant| {
                let read = grant.read_from(0..length, source)?;
                grant.commit(read);
                Ok(read)
            })
        })
    }

    /// Moves what `piece` moves, until that is nothing or `at_most` bytes have gone. `piece`
    /// fails if the channel does, and returns what `fd` says.
    fn splice(
        &mut self,
        fd: BorrowedFd<'_>,
        ready: Ready,
        at_most: u64,
        mut piece: impl FnMut(&mut Self, usize) -> io::Result<io::Result<usize>>,
    ) -> io::Result<u64> {
        let mut moved = 0;
        while moved < at_most {
            time_left(self.deadline)?;
            // What follows may wait for somebody else than the peer.
            self.notify_before_sleep();
            let left = usize::try_from(at_most - moved).unwrap_or(usize::MAX);
            match piece(self, left)?.map_err(|error| (error.kind(), error)) {
                Ok(0) => break,
                Ok(count) => moved += count as u64,
                Err((ErrorKind::Interrupted, _)) => {}
                Err((ErrorKind::WouldBlock, _)) => wait_for(fd, ready, self.deadline())?,
                Err((_, error)) => return Err(error),
            }
        }
        Ok(moved)
    }

    fn grant_read<T, F>(&mut self, at_least: usize, read: &mut Option<F>) -> io::Result<Option<T>>
    where
        F: FnOnce(ReadGrant<'_, '_>) -> T,
    {
        self.refuse_beyond_ring(at_least)?;
        let mut outcome = None;
        let result = self.try_read_by(true, |consumer, _| {
            let before = consumer.position();
            let grant = consumer.grant()?;
            if let Some(read) = read.take_if(|_| grant.length() >= at_least.max(1)) {
                outcome = Some(read(grant));
            }
            Ok(length_between(before, consumer.position()))
        });
        own(&mut self.endpoint)?.wanted.bytes = if outcome.is_some() { 1 } else { at_least };
        match result {
            // Whether or not any of it was consumed.
            _ if outcome.is_some() => Ok(outcome),
            // The stream has ended: what is left of it is all that will be.
            Ok(_) if at_least > 1 => self.grant_read(1, read),
            result => result.map(|_| None),
        }
    }

    fn grant_write<T, F>(&mut self, length: usize, write: &mut Option<F>) -> io::Result<T>
    where
        F: FnOnce(WriteGrant<'_, '_>) -> T,
    {
        self.refuse_beyond_ring(length)?;
        let mut outcome = None;
        let result = self.try_write_by(true, |producer, _| {
            let before = producer.position();
            if let Some(grant) = producer.grant(length)? {
                outcome = write.take().map(|write| write(grant));
            }
            Ok(length_between(before, producer.position()))
        });
        own(&mut self.endpoint)?.wanted.space_bytes = outcome.is_none().then_some(length);
        outcome.ok_or_else(|| result.err().unwrap_or(ErrorKind::WouldBlock.into()))
    }

    /// So much is never there at once: nobody is to wait for it.
    fn refuse_beyond_ring(&mut self, bytes: usize) -> io::Result<()> {
        let capacity = own(&mut self.endpoint)?.producer.capacity();
        if bytes <= capacity {
            return Ok(());
        }
        let message = format!("{bytes} bytes in place are more than a ring of {capacity}");
        Err(io::Error::new(ErrorKind::InvalidInput, message))
    }
}
