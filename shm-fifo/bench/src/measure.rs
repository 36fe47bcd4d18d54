//! The two measurements.

use crate::place::{pin_to, together};
use crate::shared::Messages;
use crate::transport::{End, Message, Transport, spin_until};
use crate::transports::limit::CopyRing;
use anyhow::{Result, ensure};
use std::hint::black_box;
use std::time::{Duration, Instant};

/// Bytes that the ring of every transport holds, unless that is less than four messages.
const RING_BYTES: usize = 64 * 1024;
/// The number of a message that ends the echo.
const LAST: u64 = u64::MAX;

/// Times of round trips.
#[derive(Debug, Clone, Copy)]
pub struct RoundTrips {
    pub p50_ns: f64,
    pub p99_ns: f64,
}

/// Messages that every transport has room for: a power of two.
fn capacity<const N: usize>() -> usize {
    (RING_BYTES / N).next_power_of_two().max(4)
}

/// Times messages that go there and back, one at a time, for `time`.
pub fn round_trips<T: Transport<N>, const N: usize>(
    cpus: [usize; 2],
    time: Duration,
) -> Result<RoundTrips> {
    let (near, far) = T::connect(capacity::<N>())?;
    together(
        T::PLACE,
        cpus,
        |meeting| {
            let mut end = near()?;
            meeting.start();
            // A tenth to warm up.
            ask_for(&mut end, time / 10)?;
            let round_trips = ask_for(&mut end, time)?;
            end.send(&[numbered(LAST)])?;
            meeting.wait_for_finish();
            Ok(round_trips)
        },
        |meeting| {
            let mut end = far()?;
            meeting.start();
            loop {
                let mut message = None;
                spin_until(|| {
                    end.receive(|arrived| message = Some(*arrived))?;
                    Ok(message.is_some())
                })?;
                let Some(message) = message else { unreachable!("it spun until there was one") };
                if number_of(&message) == LAST {
                    meeting.finish();
                    return Ok(());
                }
                end.send(&[message])?;
            }
        },
    )
}

fn ask_for<const N: usize>(end: &mut impl End<N>, time: Duration) -> Result<RoundTrips> {
    let started = Instant::now();
    let first_tick = ticks();
    let mut ticks_at = vec![first_tick];
    while ticks_at.len() % 64 != 0 || started.elapsed() < time {
        let sent = ticks_at.len() as u64;
        end.send(&[numbered(sent)])?;
        let mut answer = None;
        spin_until(|| {
            end.receive(|arrived| answer = Some(number_of(arrived)))?;
            Ok(answer.is_some())
        })?;
        ensure!(answer == Some(sent), "message {sent} came back as {answer:?}");
        ticks_at.push(ticks());
    }
    let ticks_in_all = (ticks() - first_tick) as f64;
    let ns_per_tick = started.elapsed().as_nanos() as f64 / ticks_in_all;
    let mut times: Vec<u64> = ticks_at.windows(2).map(|pair| pair[1] - pair[0]).collect();
    times.sort_unstable();
    let quantile = |of: f64| interpolated_quantile(&times, of) * ns_per_tick;
    Ok(RoundTrips { p50_ns: quantile(0.50), p99_ns: quantile(0.99) })
}

/// The quantile of `sorted` values that come in steps: some CPUs' clocks advance by 10 ns
/// at a time. Each value stands for all times up to the next step's.
fn interpolated_quantile(sorted: &[u64], quantile: f64) -> f64 {
    let rank = sorted.len() as f64 * quantile;
    let value = sorted[(rank as usize).min(sorted.len() - 1)];
    let below = sorted.partition_point(|&time| time < value);
    let up_to = sorted.partition_point(|&time| time <= value);
    let before = below.checked_sub(1).map_or(value, |index| sorted[index]);
    let part = (rank - below as f64) / (up_to - below) as f64;
    before as f64 + (value - before) as f64 * (part + 0.5)
}

/// Copies a burst into a ring and out of it, on one core, until `messages` have passed.
pub fn one_core_copy<const N: usize>(cpu: usize, messages: u64) -> Result<Duration> {
    pin_to(cpu)?;
    let mut into = CopyRing::new(capacity::<N>() * N)?;
    let mut out_of = into.clone();
    let burst = Messages::<N>::burst()?;
    let mut copied = Messages::<N>::burst()?;
    let started = Instant::now();
    for _ in 0..messages / burst.len() as u64 {
        into.push(burst.as_flattened());
        out_of.pop(copied.as_flattened_mut());
    }
    Ok(started.elapsed())
}

/// Sends `messages`, a multiple of a burst, one way and returns how long it took until the last was seen.
pub fn stream<T: Transport<N>, const N: usize>(
    cpus: [usize; 2],
    messages: u64,
) -> Result<Duration> {
    let (near, far) = T::connect(capacity::<N>())?;
    together(
        T::PLACE,
        cpus,
        |meeting| {
            let mut end = near()?;
            let mut burst = Messages::<N>::burst()?;
            meeting.start();
            let started = Instant::now();
            let mut sent = 0;
            while sent < messages {
                for message in burst.iter_mut() {
                    message[..8].copy_from_slice(&sent.to_le_bytes());
                    sent += 1;
                }
                end.send(&burst)?;
            }
            meeting.wait_for_finish();
            Ok(started.elapsed())
        },
        |meeting| {
            let mut end = far()?;
            meeting.start();
            let mut received = 0;
            let mut in_order = true;
            let mut seen = 0;
            spin_until(|| {
                end.receive(|message| {
                    in_order &= number_of(message) == received;
                    received += 1;
                    seen ^= a_byte_of_each_line(message);
                })?;
                Ok(received >= messages)
            })?;
            meeting.finish();
            black_box(seen);
            ensure!(in_order, "messages arrived out of order");
            Ok(())
        },
    )
}

/// A message that nobody looks at has not arrived. (Its number was looked at.)
fn a_byte_of_each_line<const N: usize>(message: &Message<N>) -> u8 {
    message.iter().step_by(64).skip(1).fold(0, |sum, byte| sum ^ byte)
}

fn numbered<const N: usize>(number: u64) -> Message<N> {
    let mut message = [0x2A; N];
    message[..8].copy_from_slice(&number.to_le_bytes());
    message
}

fn number_of<const N: usize>(message: &Message<N>) -> u64 {
    let mut number = [0; 8];
    number.copy_from_slice(&message[..8]);
    u64::from_le_bytes(number)
}

/// The CPU's clock: less than half the cost of asking the kernel's.
fn ticks() -> u64 {
    // SAFETY: every x86-64 CPU has it.
    unsafe { core::arch::x86_64::_rdtsc() }
}
