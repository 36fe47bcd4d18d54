//! An asynchronous byte stream, whatever carries it. It knows no commands.

use crate::stream::{Carrier, Transport};
use shm_fifo::aio::{AsyncChannel, Tokio};
use std::collections::VecDeque;
use std::fmt;
use std::io::{self, IoSlice, Read as _};
use std::pin::Pin;
use std::task::{Context, Poll};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

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
    Shared(Box<AsyncChannel<Tokio>>),
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
            Carrier::Shared(channel) => {
                AsyncCarrier::Shared(Box::new(AsyncChannel::tokio(*channel)?))
            }
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
            AsyncCarrier::Shared(channel) => {
                AsyncRead::poll_read(Pin::new(&mut **channel), context, target)
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
        self.carrier.as_async_write().poll_write(context, source)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
        sources: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.carrier.as_async_write().poll_write_vectored(context, sources)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: every write is sent at once.
    fn poll_flush(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.as_async_write().poll_flush(context)
    }

    /// Ends the stream in this direction.
    fn poll_shutdown(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.carrier.as_async_write().poll_shutdown(context)
    }
}

impl AsyncCarrier {
    fn as_async_write(&mut self) -> Pin<&mut (dyn AsyncWrite + Unpin)> {
        match self {
            Self::Tcp(socket) => Pin::new(socket),
            Self::Unix(socket) => Pin::new(socket),
            Self::Shared(channel) => Pin::new(&mut **channel),
        }
    }
}
