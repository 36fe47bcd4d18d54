//! What the kernel offers: pipes and unix sockets.

use crate::shared::Messages;
use crate::transport::{End, Message, Opening, Pair, Place, Transport};
use anyhow::{Result, ensure};
use std::fs::File;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::net::UnixStream;

/// Messages that arrive as a stream of bytes.
#[derive(Debug)]
pub struct Reassembly<const N: usize> {
    messages: Messages<N>,
    /// Bytes of an unfinished message, at the start.
    filled: usize,
}

impl<const N: usize> Reassembly<N> {
    pub fn new() -> Result<Self> {
        const READ_BYTES: usize = 16 * 1024;
        Ok(Self { messages: Messages::in_bytes(READ_BYTES)?, filled: 0 })
    }

    /// Where the next bytes go.
    pub fn space(&mut self) -> &mut [u8] {
        &mut self.messages.as_flattened_mut()[self.filled..]
    }

    /// Gives `take` the messages that are complete with `read` more bytes.
    pub fn arrived(&mut self, read: usize, take: impl FnMut(&Message<N>)) {
        self.filled += read;
        let complete = self.filled / N;
        self.messages[..complete].iter().for_each(take);
        let used = complete * N;
        if self.filled > used && used > 0 {
            self.messages.as_flattened_mut().copy_within(used..self.filled, 0);
        }
        self.filled -= used;
    }
}

/// A pair of pipes.
#[derive(Debug)]
pub struct Pipe;

/// A pair of stream sockets.
#[derive(Debug)]
pub struct UnixSocket;

/// Blocking reads and writes of a burst at a time.
#[derive(Debug)]
pub struct StreamEnd<R, W, const N: usize> {
    incoming: R,
    outgoing: W,
    arriving: Reassembly<N>,
}

impl<const N: usize> Transport<N> for Pipe {
    type End = StreamEnd<PipeReader, PipeWriter, N>;
    const PLACE: Place = Place::Processes;

    fn connect(_: usize) -> Result<Pair<Self::End>> {
        let (near_incoming, far_outgoing) = std::io::pipe()?;
        let (far_incoming, near_outgoing) = std::io::pipe()?;
        Ok((opening(near_incoming, near_outgoing), opening(far_incoming, far_outgoing)))
    }
}

impl<const N: usize> Transport<N> for UnixSocket {
    type End = StreamEnd<File, File, N>;
    const PLACE: Place = Place::Processes;

    fn connect(_: usize) -> Result<Pair<Self::End>> {
        let (near, far) = UnixStream::pair()?;
        let opening_of = |socket: UnixStream| -> Result<_> {
            let copy = socket.try_clone()?;
            Ok(opening(file(socket), file(copy)))
        };
        Ok((opening_of(near)?, opening_of(far)?))
    }
}

/// Reading and writing a file is `read` and `write`, as with pipes.
fn file(socket: UnixStream) -> File {
    File::from(std::os::fd::OwnedFd::from(socket))
}

fn opening<R: Send + 'static, W: Send + 'static, const N: usize>(
    incoming: R,
    outgoing: W,
) -> Opening<StreamEnd<R, W, N>> {
    Box::new(|| Ok(StreamEnd { incoming, outgoing, arriving: Reassembly::new()? }))
}

impl<R: Read, W: Write, const N: usize> End<N> for StreamEnd<R, W, N> {
    fn send(&mut self, burst: &[Message<N>]) -> Result<()> {
        Ok(self.outgoing.write_all(burst.as_flattened())?)
    }

    fn receive(&mut self, take: impl FnMut(&Message<N>)) -> Result<()> {
        let read = self.incoming.read(self.arriving.space())?;
        ensure!(read > 0, "the other end closed the connection");
        self.arriving.arrived(read, take);
        Ok(())
    }
}
