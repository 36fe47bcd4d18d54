//! A message from end to end with nothing but `core`.
//!
//! It is built, not run. If std comes in by any crate, its panic handler and the one
//! below are two, which is an error; if `alloc` does, an allocator is missing, which is
//! one too. `make no-std` builds it.
#![no_std]

use core::panic::PanicInfo;
use shm_fifo::{
    Fifo, Interest,
    fifo::FifoHeader,
    watch::{Positions, PublishFence, Watch},
};

#[panic_handler]
fn panic(_: &PanicInfo<'_>) -> ! {
    loop {
        core::hint::spin_loop();
    }
}

/// Passes messages in each way that there is. Returns how many bytes arrived, or -1.
#[unsafe(no_mangle)]
pub extern "C" fn shm_fifo_pass_messages() -> i32 {
    let header = FifoHeader::new();
    let mut ring = [0_u8; 256];
    pass(&header, &mut ring).and_then(|bytes| i32::try_from(bytes).ok()).unwrap_or(-1)
}

fn pass(header: &FifoHeader, ring: &mut [u8]) -> Option<usize> {
    let (data, capacity) = (ring.as_mut_ptr(), ring.len());
    // SAFETY: both ends reach the ring through FIFOs only, while it is borrowed.
    let mut producer =
        unsafe { Fifo::from_raw_parts(header, data, capacity) }.ok()?.into_producer(0);
    // SAFETY: as above.
    let mut consumer =
        unsafe { Fifo::from_raw_parts(header, data, capacity) }.ok()?.into_consumer(0);

    producer.write(b"short").ok()?;
    producer.write_whole(&[1; 100]).ok()?;
    producer.write_vectored(&[&b"in "[..], b"pieces"]).ok()?;
    producer.stage(b"staged").ok()?;
    producer.publish();
    let mut grant = producer.grant(8).ok()??;
    grant.write_at(4, b"back");
    grant.write_at(0, b"to  ");
    grant.commit(8);

    let (mut first, mut second, mut rest) = ([0; 10], [0; 10], [0; 256]);

    let grant = consumer.grant().ok()?;
    let mut onward = [0_u8; 256];
    let (onward_header, onward) = (FifoHeader::new(), onward.as_mut_ptr());
    // SAFETY: the one end of this FIFO alone reaches its ring, which outlives it.
    let fifo = unsafe { Fifo::from_raw_parts(&onward_header, onward, capacity) }.ok()?;
    let mut onward = fifo.into_producer(0);
    let mut space = onward.grant_up_to(grant.length()).ok()?;
    let length = space.length();
    space.copy_from(0, &grant, 0..length);
    space.commit(1);
    grant.read_at(1, &mut first);
    grant.consume(1);

    let mut bytes = 1 + consumer.peek(&mut first).ok()?;
    bytes += consumer.read_vectored(&mut [&mut first[..], &mut second[..]]).ok()?;
    bytes += consumer.read(&mut rest).ok()?;

    let watch = Watch::new(consumer.watch(), producer.watch());
    let at = Positions { head: consumer.position(), tail: producer.position() };
    watch.sleep(Interest::READABLE, at, || ());
    let rings = producer.needs_notify() || producer.watch().needs_notify(&PublishFence::execute());
    producer.close();
    consumer.close();
    (!rings && !consumer.needs_notify_now()).then_some(bytes)
}
