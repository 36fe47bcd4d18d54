//! Who takes part, and what is measured of each.

use crate::measure::{RoundTrips, one_core_copy, round_trips, stream};
use crate::transport::Transport;
#[cfg(feature = "iceoryx2")]
use crate::transports::iceoryx::Iceoryx2;
use crate::transports::{
    copied::Copied,
    crossbeam::{CrossbeamArrayQueue, CrossbeamChannel},
    limit::{LinePingPong, TwoCoreCopy},
    photon::PhotonRing,
    rings::{Ringbuf, Rtrb},
    shm::{ShmChannel, ShmFifo, ShmFifoInPlace},
    sockets::{Pipe, UnixSocket},
};
use anyhow::{Result, bail};
use std::time::Duration;

/// Lengths of messages in bytes.
pub const RTT_BYTES: [usize; 3] = [40, 64, 1024];
pub const STREAM_BYTES: [usize; 4] = [8, 64, 1024, 65536];

type RoundTripsOf = fn(usize, [usize; 2], Duration) -> Result<RoundTrips>;
type StreamOf = fn(usize, [usize; 2], u64) -> Result<Duration>;

/// One of those that are compared.
#[derive(Debug, Clone, Copy)]
pub struct Contender {
    pub name: &'static str,
    pub round_trips: Option<RoundTripsOf>,
    pub stream: Option<StreamOf>,
}

/// A transport for messages of every length that is measured.
trait ForAll:
    Transport<8> + Transport<40> + Transport<64> + Transport<1024> + Transport<65536>
{
}

impl<T> ForAll for T where
    T: Transport<8> + Transport<40> + Transport<64> + Transport<1024> + Transport<65536>
{
}

/// All, in the order in which they are reported.
pub fn contenders() -> Vec<Contender> {
    vec![
        Contender { stream: None, ..both::<LinePingPong>("limit-line") },
        Contender { round_trips: None, ..both::<TwoCoreCopy>("limit-two-core-copy") },
        Contender {
            name: "limit-one-core-copy",
            round_trips: None,
            stream: Some(one_core_copy_of),
        },
        both::<ShmFifo<false>>("shm-fifo"),
        each::<ShmFifo<true>>("shm-fifo-each"),
        both::<ShmFifoInPlace>("shm-fifo-in-place"),
        both::<ShmChannel>("shm-fifo-channel"),
        both::<Rtrb<false>>("rtrb"),
        each::<Rtrb<true>>("rtrb-each"),
        both::<Copied<Rtrb<false>>>("rtrb-copied"),
        both::<Ringbuf<false>>("ringbuf"),
        each::<Ringbuf<true>>("ringbuf-each"),
        both::<Copied<Ringbuf<false>>>("ringbuf-copied"),
        both::<CrossbeamChannel>("crossbeam-channel"),
        both::<CrossbeamArrayQueue>("crossbeam-array-queue"),
        both::<PhotonRing>("photon-ring"),
        #[cfg(feature = "iceoryx2")]
        both::<Iceoryx2>("iceoryx2"),
        both::<Pipe>("pipe"),
        both::<UnixSocket>("unix-socket"),
    ]
}

/// What a cache line takes there and back at the moment, in ns.
pub fn line_ns(cpus: [usize; 2], time: Duration) -> Result<f64> {
    Ok(round_trips::<LinePingPong, 40>(cpus, time)?.p50_ns)
}

fn both<T: ForAll>(name: &'static str) -> Contender {
    Contender { name, round_trips: Some(round_trips_of::<T>), stream: Some(stream_of::<T>) }
}

/// A round trip has bursts of one message only: sending each by itself is the same.
fn each<T: ForAll>(name: &'static str) -> Contender {
    Contender { round_trips: None, ..both::<T>(name) }
}

fn round_trips_of<T: ForAll>(
    message_bytes: usize,
    cpus: [usize; 2],
    time: Duration,
) -> Result<RoundTrips> {
    match message_bytes {
        40 => round_trips::<T, 40>(cpus, time),
        64 => round_trips::<T, 64>(cpus, time),
        1024 => round_trips::<T, 1024>(cpus, time),
        _ => bail!("no round trips of {message_bytes} bytes are measured"),
    }
}

fn stream_of<T: ForAll>(message_bytes: usize, cpus: [usize; 2], messages: u64) -> Result<Duration> {
    match message_bytes {
        8 => stream::<T, 8>(cpus, messages),
        64 => stream::<T, 64>(cpus, messages),
        1024 => stream::<T, 1024>(cpus, messages),
        65536 => stream::<T, 65536>(cpus, messages),
        _ => bail!("no streams of {message_bytes} bytes are measured"),
    }
}

fn one_core_copy_of(message_bytes: usize, cpus: [usize; 2], messages: u64) -> Result<Duration> {
    match message_bytes {
        8 => one_core_copy::<8>(cpus[0], messages),
        64 => one_core_copy::<64>(cpus[0], messages),
        1024 => one_core_copy::<1024>(cpus[0], messages),
        65536 => one_core_copy::<65536>(cpus[0], messages),
        _ => bail!("no copies of {message_bytes} bytes are measured"),
    }
}
