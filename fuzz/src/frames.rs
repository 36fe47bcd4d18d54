//! Frames, and bytes that are none, through a FIFO, against the stream that they make.

use crate::input::Input;
use shm_fifo::frame::{FrameError, FrameReader, FrameWriter, LENGTH_BYTES};
use shm_fifo::testing::{HeapFifo, pattern};
use shm_fifo::{Consumer, Producer};

/// The longest frame that the reader takes.
const MAX_BYTES: usize = 600;

/// Writes and reads as `data` says.
///
/// # Panics
/// If a frame is not what was sent, comes before it is whole or not as soon as it is.
pub fn run(data: &[u8]) {
    let mut input = Input::new(data);
    let memory = HeapFifo::new(64 << input.below(4), input.position());
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    let mut writer = FrameWriter::new(usize::MAX);
    let mut reader = FrameReader::new(MAX_BYTES);
    let mut stream = Stream::default();
    let mut under_way = None;
    while !input.is_empty() {
        match input.below(8) {
            0..=2 => {
                let length = input.length(producer.capacity());
                let next = || pattern(producer.position(), length);
                let frame = under_way.take().unwrap_or_else(next);
                under_way = stream.send(&mut writer, &mut producer, frame);
            }
            3 if under_way.is_none() => {
                let count = input.below(16);
                stream.send_raw(&mut producer, input.bytes(count));
            }
            _ => {
                if !stream.receive(&mut reader, &mut consumer) {
                    // A length that is refused stays.
                    return;
                }
            }
        }
    }
}

/// All that was sent, and where the next frame to receive begins.
#[derive(Default)]
struct Stream {
    sent: Vec<u8>,
    /// So much was sent of the last frame, its length among it.
    part: usize,
    received: usize,
    /// What is in the reader's target of a frame that is not whole.
    kept: Vec<u8>,
}

impl Stream {
    /// Writes a frame, or a part of it; then it is returned.
    fn send(
        &mut self,
        writer: &mut FrameWriter,
        producer: &mut Producer<'_>,
        frame: Vec<u8>,
    ) -> Option<Vec<u8>> {
        let mut encoded = u32::try_from(frame.len()).expect("short").to_le_bytes().to_vec();
        encoded.extend(&frame);
        let before = producer.position();
        let was_inside = writer.is_inside_frame();
        let is_whole = writer.write(producer, &frame).expect("an honest peer");
        let count = bytes(producer.position().wrapping_sub(before));
        let done = if was_inside { self.part } else { 0 };
        self.sent.extend(&encoded[done..done + count]);
        self.part = done + count;
        assert_eq!(is_whole, self.part == encoded.len());
        assert_eq!(writer.is_inside_frame(), !is_whole && self.part > 0);
        (!is_whole && writer.is_inside_frame()).then_some(frame)
    }

    fn send_raw(&mut self, producer: &mut Producer<'_>, raw: &[u8]) {
        let count = producer.write(raw).expect("an honest peer");
        self.sent.extend(&raw[..count]);
    }

    /// Reads a frame, if one is there; `false` if its length is refused.
    fn receive(&mut self, reader: &mut FrameReader, consumer: &mut Consumer<'_>) -> bool {
        let mut target = [0xEE; MAX_BYTES];
        target[..self.kept.len()].copy_from_slice(&self.kept);
        let result = reader.read(consumer, &mut target);
        let rest = &self.sent[self.received..];
        let length = rest.first_chunk::<LENGTH_BYTES>().map(|length| u32::from_le_bytes(*length));
        match length.map(|length| length as usize) {
            Some(length) if length > MAX_BYTES => {
                assert_eq!(result, Err(FrameError::TooLong { length, max: MAX_BYTES }));
                assert_eq!(reader.end(consumer), Err(FrameError::Cut));
                return false;
            }
            Some(length) if rest.len() >= LENGTH_BYTES + length => {
                assert_eq!(result, Ok(Some(length)));
                assert_eq!(target[..length], rest[LENGTH_BYTES..][..length]);
                assert!(target[length..].iter().all(|&byte| byte == 0xEE));
                self.received += LENGTH_BYTES + length;
                self.kept.clear();
            }
            _ => {
                assert_eq!(result, Ok(None));
                assert!(!reader.watch(consumer).is_ready(consumer.position()), "who waits sleeps");
                let count = rest.len().saturating_sub(LENGTH_BYTES).min(MAX_BYTES);
                self.kept = target[..count].to_vec();
            }
        }
        let at_end = self.received == self.sent.len();
        assert_eq!(reader.end(consumer).is_ok(), at_end);
        true
    }
}

fn bytes(distance: u64) -> usize {
    usize::try_from(distance).expect("64 bits")
}
