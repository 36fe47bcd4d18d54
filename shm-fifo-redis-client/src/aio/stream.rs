//! An asynchronous byte stream, whatever carries it. It knows no commands.

use super::shared::Shared;
use crate::stream::{Carrier, Transport};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, Read as _};
use std::os::fd::AsRawFd;
use std::pin::Pin;
use std::task::{Context, Poll, ready};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// How many bytes one read takes out of shared memory at most.
const READ_BYTES: usize = 16 * 1024;

/// A connected byte stream over TCP, a unix socket or shared memory.
///
/// It belongs to the runtime in which it was made. Dropping a read or a write that
/// is not done loses nothing: no byte was taken, none was sent.
pub struct Stream {
    carrier: AsyncCarrier,
    /// Bytes that came while the connection moved.
    kept: VecDeque<u8>,
}

enum AsyncCarrier {
    Tcp(TcpStream),
    Unix(UnixStream),
    Shared(Box<Shared>),
}

impl Stream {
    /// The same connection, for the current runtime.
    ///
    /// # Errors
    /// If the runtime cannot watch its socket.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO.
    pub fn new(stream: crate::Stream) -> io::Result<Self> {
        let (carrier, kept) = stream.into_parts();
        let carrier = match carrier {
            Carrier::Tcp(socket) => {
                socket.set_nonblocking(true)?;
                AsyncCarrier::Tcp(TcpStream::from_std(socket)?)
            }
            Carrier::Unix(socket) => {
                socket.set_nonblocking(true)?;
                AsyncCarrier::Unix(UnixStream::from_std(socket)?)
            }
            Carrier::Shared(channel) => AsyncCarrier::Shared(Box::new(Shared::new(*channel)?)),
        };
        Ok(Self { carrier, kept })
    }

    /// A stream over a socket of the runtime's.
    pub(super) fn tcp(socket: TcpStream) -> Self {
        Self { carrier: AsyncCarrier::Tcp(socket), kept: VecDeque::new() }
    }

    /// As [`Stream::tcp`].
    pub(super) fn unix(socket: UnixStream) -> Self {
        Self { carrier: AsyncCarrier::Unix(socket), kept: VecDeque::new() }
    }

    /// The same connection, for no runtime.
    pub(super) fn into_std(self) -> io::Result<crate::Stream> {
        let mut stream = match self.carrier {
            AsyncCarrier::Tcp(socket) => crate::Stream::from(socket.into_std()?),
            AsyncCarrier::Unix(socket) => crate::Stream::from(socket.into_std()?),
            AsyncCarrier::Shared(shared) => crate::Stream::from(shared.into_channel()),
        };
        stream.keep(&self.kept);
        Ok(stream)
    }

    /// Puts bytes that were read behind those kept before.
    pub(super) fn keep(&mut self, bytes: &[u8]) {
        self.kept.extend(bytes);
    }

    /// What carries this stream.
    #[must_use]
    pub fn transport(&self) -> Transport {
        match self.carrier {
            AsyncCarrier::Tcp(_) => Transport::Tcp,
            AsyncCarrier::Unix(_) => Transport::UnixSocket,
            AsyncCarrier::Shared(_) => Transport::SharedMemory,
        }
    }
}

impl fmt::Debug for Stream {
    /// Without the bytes that were kept: what passes is the user's own.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Stream")
            .field("transport", &self.transport())
            .field("kept_bytes", &self.kept.len())
            .finish_non_exhaustive()
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if !self.kept.is_empty() {
            let length = target.remaining().min(self.kept.len());
            let read = self.kept.read(target.initialize_unfilled_to(length))?;
            target.advance(read);
            return Poll::Ready(Ok(()));
        }
        match &mut self.carrier {
            AsyncCarrier::Tcp(socket) => Pin::new(socket).poll_read(context, target),
            AsyncCarrier::Unix(socket) => Pin::new(socket).poll_read(context, target),
            AsyncCarrier::Shared(shared) => {
                // No more than is likely to come: all of it is zeroed first.
                let length = target.remaining().min(READ_BYTES);
                let read = shared.poll_read(context, target.initialize_unfilled_to(length));
                target.advance(ready!(read)?);
                Poll::Ready(Ok(()))
            }
        }
    }
}

impl AsyncWrite for Stream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        match &mut self.carrier {
            AsyncCarrier::Tcp(socket) => Pin::new(socket).poll_write(context, source),
            AsyncCarrier::Unix(socket) => Pin::new(socket).poll_write(context, source),
            AsyncCarrier::Shared(shared) => shared.poll_write(context, source),
        }
    }

    /// Does nothing: every write is sent at once.
    fn poll_flush(self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    /// Ends the stream: a socket in this direction, shared memory in both.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.carrier {
            AsyncCarrier::Tcp(socket) => Pin::new(socket).poll_shutdown(context),
            AsyncCarrier::Unix(socket) => Pin::new(socket).poll_shutdown(context),
            AsyncCarrier::Shared(shared) => {
                crate::sys::shut_down(shared.channel().as_raw_fd());
                Poll::Ready(Ok(()))
            }
        }
    }
}
