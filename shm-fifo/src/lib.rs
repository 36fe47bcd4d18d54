//! A single-producer single-consumer byte FIFO in shared memory.
//!
//! The two ends may live in different processes that do not trust each other:
//! whatever the peer writes into the shared bytes, this side answers with an
//! error, never with undefined behaviour, a panic or an endless loop.
//!
//! * The core ([`Fifo`], [`Producer`], [`Consumer`]) is `no_std`, allocates
//!   nothing and enters no operating system. It works on memory that the
//!   caller provides.
//! * With the feature `std` (the default, Linux) come [`Region`], a sealed
//!   memfd with one FIFO in each direction, the passing of file descriptors,
//!   waiting (learned spinning, then sleeping) and [`Channel`].
//! * With the features `tokio` and `futures-io` a channel is an asynchronous stream: [`aio`].
//! * With the feature `virtual-fd` comes `vfd`, which lets a program use a
//!   channel through an ordinary file descriptor.
//!
//! # Examples
//!
//! Two threads stand for two processes here; [`Region`] shares the memory
//! between real ones.
//!
//! ```
//! use shm_fifo::{Channel, Region};
//! use std::io::{Read, Write};
//! use std::os::unix::net::UnixStream;
//!
//! # fn main() -> std::io::Result<()> {
//! let created = Region::create(64 * 1024)?;
//! let attached = Region::attach(created.fd()?)?;
//! let (here, there) = UnixStream::pair()?;
//! let mut server = Channel::new(created.into_endpoint(), here.into());
//! let mut client = Channel::new(attached.into_endpoint(), there.into());
//!
//! let echo = std::thread::spawn(move || -> std::io::Result<()> {
//!     let mut buffer = [0; 32];
//!     let length = server.read(&mut buffer)?;
//!     server.write_all(&buffer[..length])
//! });
//!
//! client.write_all(b"hello")?;
//! let mut reply = [0; 5];
//! client.read_exact(&mut reply)?;
//! assert_eq!(&reply, b"hello");
//! echo.join().expect("the echo thread ended")?;
//! # Ok(())
//! # }
//! ```
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
mod fifo;
mod layout;
mod memory;
mod park;
mod position;
mod producer;
mod sync;
mod watch;

pub use consumer::Consumer;
pub use error::{CapacityError, Corrupt, SharedWord};
pub use fifo::Fifo;
pub use layout::{FIFO_HEADER_BYTES, FifoHeader, INLINE_BYTES};
pub use park::{DataWatch, PublishFence, SpaceWatch};
pub use producer::{Producer, WriteGrant};
pub use watch::{Interest, Positions, Watch};

// loom checks the core: what lies in mapped memory it cannot see.
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
mod os;
#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub use os::{
    channel::{Channel, ChannelStats},
    doorbell,
    duplex::Duplex,
    endpoint::Endpoint,
    fd_passing,
    notifier::EventDoorbells,
    region::{AttachError, RING_BYTES_RANGE, Region, TOKEN_BYTES, UnmappedRegion},
    wait::{SpinEnd, SpinPolicy, WaitMode},
};

#[cfg(all(feature = "std", target_os = "linux", not(loom)))]
pub mod aio;

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
