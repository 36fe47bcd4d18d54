//! The traits of `futures-io`.

use super::{AsyncChannel, Reactor};
use futures_io::{AsyncRead, AsyncWrite};
use std::io::{self, IoSlice, IoSliceMut};
use std::pin::Pin;
use std::task::{Context, Poll};

/// By smol's reactor, for example:
///
/// ```
/// use async_io::Async;
/// use futures_lite::io::{AsyncReadExt, AsyncWriteExt};
/// use shm_fifo::{Channel, aio::{AsyncChannel, Reactor}};
/// use std::os::fd::AsFd;
/// use std::task::Context;
///
/// fn for_smol(channel: Channel) -> std::io::Result<AsyncChannel<impl Reactor + Unpin>> {
///     let doorbell = Async::new(channel.as_fd().try_clone_to_owned()?)?;
///     let is_rung = move |context: &mut Context<'_>| doorbell.poll_readable(context);
///     Ok(AsyncChannel::new(channel, is_rung))
/// }
///
/// # fn main() -> std::io::Result<()> {
/// let (here, there) = Channel::pair(4096)?;
/// let (mut here, mut there) = (for_smol(here)?, for_smol(there)?);
/// async_io::block_on(async {
///     there.write_all(b"hello").await?;
///     there.close().await?;
///     let mut message = String::new();
///     here.read_to_string(&mut message).await?;
///     assert_eq!(message, "hello");
///     Ok(())
/// })
/// # }
/// ```
impl<R: Reactor + Unpin> AsyncRead for AsyncChannel<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut [u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_read(context, target)
    }

    fn poll_read_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        targets: &mut [IoSliceMut<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_read_vectored(context, targets)
    }
}

impl<R: Reactor + Unpin> AsyncWrite for AsyncChannel<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write(context, source)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        sources: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.get_mut().poll_write_vectored(context, sources)
    }

    /// Does nothing: every write is shown to the peer at once.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(context)
    }

    /// As [`AsyncChannel::poll_shutdown`].
    fn poll_close(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_shutdown(context)
    }
}
