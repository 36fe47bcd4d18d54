//! tokio's reactor and traits.
#![allow(unsafe_code)]

use super::{AsyncChannel, Reactor};
use crate::Channel;
use std::io::{self, IoSlice};
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::pin::{Pin, pin};
use std::task::{Context, Poll, Waker, ready};
use tokio::io::unix::AsyncFd;
use tokio::io::{AsyncRead, AsyncWrite, Interest, ReadBuf};
use tokio::task::{coop, yield_now};

/// The tokio runtime in which an [`AsyncChannel`] was made.
#[derive(Debug)]
pub struct Tokio {
    doorbell: AsyncFd<RawFd>,
    life: Option<AsyncFd<RawFd>>,
}

impl AsyncChannel<Tokio> {
    /// A channel for the tasks of the current runtime: an `AsyncRead + AsyncWrite`.
    ///
    /// # Errors
    /// If the runtime cannot watch the doorbell.
    ///
    /// # Panics
    /// Outside a tokio runtime, or in one without IO.
    ///
    /// # Examples
    /// ```
    /// use shm_fifo::{Channel, aio::AsyncChannel};
    /// use tokio::io::{AsyncReadExt, AsyncWriteExt};
    ///
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> std::io::Result<()> {
    /// let (here, there) = Channel::pair(4096)?;
    /// let (mut here, mut there) = (AsyncChannel::tokio(here)?, AsyncChannel::tokio(there)?);
    ///
    /// let echo = tokio::spawn(async move {
    ///     let mut line = [0; 5];
    ///     there.read_exact(&mut line).await?;
    ///     there.write_all(&line).await
    /// });
    /// here.write_all(b"hello").await?;
    /// let mut answer = String::new();
    /// here.read_to_string(&mut answer).await?;
    /// assert_eq!(answer, "hello");
    /// echo.await.expect("the task ended")?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tokio(channel: Channel) -> io::Result<Self> {
        // SAFETY: the channel owns both descriptors, never replaces them and closes them
        // when it is dropped. It moves into the value that has the reactor, and both leave
        // it together with the reactor dropped first: `reactor` is declared before
        // `channel`, and nothing gives either away alone, but `into_channel`, which drops
        // the reactor.
        let watch = |fd: BorrowedFd<'_>| unsafe {
            AsyncFd::register_with_interest(fd.as_raw_fd(), Interest::READABLE)
        };
        let doorbell = watch(std::os::fd::AsFd::as_fd(&channel))?;
        let life = channel.life_fd().map(watch).transpose()?;
        Ok(Self::new(channel, Tokio { doorbell, life }))
    }
}

impl Reactor for Tokio {
    fn poll_readable(&mut self, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        let doorbell = poll_once(&self.doorbell, context)?;
        match &self.life {
            Some(life) if doorbell.is_pending() => poll_once(life, context),
            _ => doorbell.map(Ok),
        }
    }

    /// Unlike a task that wakes itself, this lets the runtime hear of descriptors and timers
    /// as well.
    fn cede(&mut self, waker: &Waker) {
        let yielding = pin!(yield_now());
        // It is ready only when it is polled again, which this one never is.
        let _ = yielding.poll(&mut Context::from_waker(waker));
    }
}

/// Ready once for each time that `fd` may have become readable.
fn poll_once(fd: &AsyncFd<RawFd>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
    ready!(fd.poll_read_ready(context))?.clear_ready();
    Poll::Ready(Ok(()))
}

impl<R: Reactor + Unpin> AsyncRead for AsyncChannel<R> {
    fn poll_read(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        target: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        let turn = ready!(coop::poll_proceed(context));
        let read = ready!(self.get_mut().poll_read_by(context, |channel| {
            // What is there, or one byte for the end: all of it is zeroed first.
            let length = target.remaining().min(channel.unread_bytes().max(1));
            channel.try_read(target.initialize_unfilled_to(length))
        }));
        turn.made_progress();
        target.advance(read?);
        Poll::Ready(Ok(()))
    }
}

impl<R: Reactor + Unpin> AsyncWrite for AsyncChannel<R> {
    fn poll_write(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        source: &[u8],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(context));
        let written = ready!(self.get_mut().poll_write(context, source));
        turn.made_progress();
        Poll::Ready(written)
    }

    fn poll_write_vectored(
        self: Pin<&mut Self>,
        context: &mut Context<'_>,
        sources: &[IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        let turn = ready!(coop::poll_proceed(context));
        let written = ready!(self.get_mut().poll_write_vectored(context, sources));
        turn.made_progress();
        Poll::Ready(written)
    }

    fn is_write_vectored(&self) -> bool {
        true
    }

    /// Does nothing: every write is shown to the peer at once.
    fn poll_flush(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_flush(context)
    }

    /// As [`AsyncChannel::poll_shutdown`].
    fn poll_shutdown(self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<io::Result<()>> {
        self.get_mut().poll_shutdown(context)
    }
}
