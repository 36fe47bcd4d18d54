//! Whole streams between a channel and file descriptors.

use super::{Channel, own, time_left};
use crate::os::in_place::{Ready, wait_for};
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};

/// Splicing: the kernel copies between the ring and a file descriptor, and nobody else.
impl Channel {
    /// Writes what the peer sends to `target`, until its stream ends or `at_most` bytes have
    /// gone, and returns how many that were.
    ///
    /// The kernel takes the bytes out of the ring: there is no copy in this process. Where
    /// `target` is a socket, a pipe or anything else that is full, in blocking mode or not, this
    /// waits for it; the channel's timeout is for each wait, its deadline for all of them. (In
    /// blocking mode it is the kernel that waits, which knows of neither.)
    ///
    /// After an error nothing is lost: what was not written can still be read, and
    /// [`Channel::stats`] says how far it went.
    ///
    /// # Errors
    /// What `writev(2)` says, as [`ReadGrant::write_to`], but for `Interrupted` and `WouldBlock`;
    /// otherwise as [`Read`](io::Read).
    ///
    /// [`ReadGrant::write_to`]: crate::fifo::ReadGrant::write_to
    ///
    /// # Examples
    ///
    /// ```
    /// use shm_fifo::Channel;
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
    ///
    /// [`WriteGrant::read_from`]: crate::fifo::WriteGrant::read_from
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
            match piece(self, left)? {
                Ok(0) => break,
                Ok(count) => moved += count as u64,
                Err(error) => match error.kind() {
                    ErrorKind::Interrupted => {}
                    ErrorKind::WouldBlock => wait_for(fd, ready, self.deadline())?,
                    _ => return Err(error),
                },
            }
        }
        Ok(moved)
    }
}
