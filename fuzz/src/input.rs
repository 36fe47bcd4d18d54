//! Taking decisions from the bytes that the fuzzer provides.
//!
//! Each decision takes few bytes from the front, whatever came before, so that
//! what the fuzzer inserts or removes changes one step and not all that follow.

/// The bytes that are left. An exhausted input answers with zeros.
pub(crate) struct Input<'d>(&'d [u8]);

impl<'d> Input<'d> {
    pub(crate) const fn new(data: &'d [u8]) -> Self {
        Self(data)
    }

    pub(crate) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn byte(&mut self) -> u8 {
        self.array::<1>()[0]
    }

    pub(crate) fn u16(&mut self) -> u16 {
        u16::from_le_bytes(self.array())
    }

    pub(crate) fn u64(&mut self) -> u64 {
        u64::from_le_bytes(self.array())
    }

    /// A number below `limit`.
    pub(crate) fn below(&mut self, limit: usize) -> usize {
        usize::from(self.byte()) % limit
    }

    pub(crate) fn choose<T: Copy>(&mut self, choices: &[T]) -> T {
        choices[self.below(choices.len())]
    }

    /// The next `count` bytes, or as many as there are.
    pub(crate) fn bytes(&mut self, count: usize) -> &'d [u8] {
        let (front, rest) = self.0.split_at(count.min(self.0.len()));
        self.0 = rest;
        front
    }

    /// All that is left.
    pub(crate) const fn rest(&self) -> &'d [u8] {
        self.0
    }

    fn array<const N: usize>(&mut self) -> [u8; N] {
        let mut array = [0; N];
        let front = self.bytes(N);
        array[..front.len()].copy_from_slice(front);
        array
    }

    /// A position: near 0, near the end of the counter, or near another power
    /// of two at which arithmetic could go wrong.
    pub(crate) fn position(&mut self) -> u64 {
        const CENTRES: [u64; 4] = [0, 1 << 31, 1 << 32, 1 << 63];
        let [selector, low, high] = self.array();
        let offset = i16::from_le_bytes([low, high]);
        CENTRES[usize::from(selector) % CENTRES.len()].wrapping_add_signed(offset.into())
    }

    /// A length around those that matter in a ring of `capacity` bytes: any short
    /// one, and all multiples of a sixteenth up to twice the capacity.
    pub(crate) fn length(&mut self, capacity: usize) -> usize {
        match usize::from(self.byte()) {
            short @ 0..128 => short,
            long => (long - 128) * capacity / 64 + long % 3,
        }
    }

    /// As [`Input::length`], with a preference for the exact multiples and their
    /// neighbours, where one comparison or the other could be wrong by one.
    pub(crate) fn exact_length(&mut self, capacity: usize) -> usize {
        match usize::from(self.byte()) {
            short @ 0..64 => short,
            long => (long - 64) / 6 * capacity / 16 + [0, 0, 0, 0, 1, capacity / 16 - 1][long % 6],
        }
    }
}
