//! Two processes on one machine exchange messages, or a stream of bytes, through shared memory.
//!
//! They need not trust each other: whatever the peer writes into the shared bytes, this side
//! answers with bytes, an end or an error, never with undefined behaviour, a panic or an endless
//! loop.
//!
//! # Examples
//!
//! A server, and below its client, which is another process mostly:
//!
//! ```
//! use shm_fifo::{Listener, connect};
//!
//! # fn main() -> std::io::Result<()> {
//! # let path = std::env::temp_dir().join(format!("shm-fifo-{}", std::process::id()));
//! let listener = Listener::bind(&path)?;
//! let server = std::thread::spawn(move || -> std::io::Result<()> {
//!     let mut channel = listener.accept()?;
//!     let mut request = Vec::new();
//!     while channel.recv_into(&mut request)?.is_some() {
//!         channel.send(&request)?;
//!     }
//!     Ok(())
//! });
//!
//! let mut channel = connect(&path)?;
//! channel.send(b"hello")?;
//! let mut reply = Vec::new();
//! channel.recv_into(&mut reply)?;
//! assert_eq!(reply, b"hello");
//! # drop(channel);
//! # server.join().expect("the server ended")
//! # }
//! ```
//!
//! # Where to go on
//!
//! * A process and its child: [`Channel::for_child`].
//! * Bytes instead of messages: a [`Channel`] is [`Read`](std::io::Read) and
//!   [`Write`](std::io::Write).
//! * Without copies of one's own: [`Channel::read_in_place`], [`Channel::write_in_place`]; whole
//!   streams between a channel and a file, pipe or socket: [`Channel::splice_to`],
//!   [`Channel::splice_from`].
//! * Asynchronous tasks, on tokio or elsewhere: [`aio`].
//! * An event loop: [`Channel::park`], [`Listener::try_accept`].
//! * How to wait: [`SpinPolicy`]; what came of it: [`channel::ChannelStats`].
//! * Without a socket between the two: [`Region`] and [`doorbell`].
//! * Without std, an allocator or an operating system (`default-features = false`): [`Fifo`],
//!   [`Producer`], [`Consumer`], [`frame`] and [`watch`] work on memory that the caller provides.
//! * Behind an ordinary file descriptor, for programs that know nothing of it: the feature
//!   `virtual-fd`.
#![cfg_attr(not(any(feature = "std", test)), no_std)]
#![deny(unsafe_code)]

#[cfg(not(all(target_pointer_width = "64", target_has_atomic = "64")))]
compile_error!("shm-fifo's layout is defined for 64-bit targets with 64-bit atomics only");

#[cfg(all(feature = "std", not(target_os = "linux")))]
compile_error!(
    "shm-fifo's feature `std` needs Linux (memfd, sealing); elsewhere use default-features = false"
);

mod consumer;
mod error;
pub mod fifo;
pub mod frame;
mod layout;
mod memory;
mod park;
mod position;
mod producer;
mod sync;
pub mod watch;

pub use consumer::Consumer;
#[doc(inline)]
pub use fifo::Fifo;
pub use producer::Producer;
#[doc(inline)]
pub use watch::Interest;

// Names that this crate's own modules use from here, and others from the modules.
#[allow(unused_imports, reason = "the features decide which")]
use {
    error::{Corrupt, SharedWord},
    watch::{Positions, PublishFence, SpaceWatch, Watch},
};

// loom checks the core: what lies in mapped memory it cannot see.
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
mod os;
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub use os::{
    channel::Channel,
    connect::{connect, connect_timeout},
    doorbell, fd_passing,
    listener::Listener,
    region::Region,
    wait::{SpinPolicy, WaitMode},
};

#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub mod aio;

/// What goes with a [`Channel`]: what it is made of, counts and learns, and who is behind it.
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub mod channel {
    pub use crate::os::{
        channel::ChannelStats, credentials::PeerCredentials, endpoint::Endpoint, wait::SpinEnd,
    };
}

/// What goes with a [`Region`]: its sizes, making it ahead, and why one is refused.
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub mod region {
    pub use crate::os::region::{AttachError, RING_BYTES_RANGE, UnmappedRegion};
    pub use crate::os::token::{TOKEN_BYTES, Token};
}

/// A channel for several threads, behind a socket that is somebody else's: for interposers.
///
/// Its methods take that socket by its number (`RawFd`), as the calls do that they stand for. It
/// is the program's, which may close it at any moment: there is nothing to borrow.
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub mod duplex {
    pub use crate::os::duplex::Duplex;
}

#[cfg(feature = "test-utils")]
pub mod testing;

/// The examples of the page that people see first are tests too.
#[cfg(all(doctest, feature = "std"))]
#[doc = include_str!("../README.md")]
struct Readme;

#[cfg(all(feature = "virtual-fd", target_os = "linux", not(loom)))]
#[doc(hidden)]
pub mod interposer;
#[cfg(all(feature = "virtual-fd", target_os = "linux", not(loom)))]
pub mod vfd;
