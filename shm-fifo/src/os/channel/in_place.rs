//! Reading and writing where the bytes lie.

use super::frames::length_between;
use super::{Channel, own};
use crate::Interest;
use crate::fifo::{ReadGrant, WriteGrant};
use std::io::{self, ErrorKind};

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
