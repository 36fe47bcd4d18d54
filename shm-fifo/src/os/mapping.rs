//! The mapped memory of a region, and giving its pages back.
//!
//! Invariants: the mapping lives as long as the [`Endpoint`] that uses it, and nothing but the
//! process that made it reaches into it.
#![allow(unsafe_code)]

use super::endpoint::Endpoint;
use super::fork::{self, Generation};
use super::sys;
#[cfg(feature = "virtual-fd")]
use crate::Producer;
use memmap2::{Advice, MmapOptions, MmapRaw};
#[cfg(feature = "virtual-fd")]
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
#[cfg(feature = "virtual-fd")]
use std::os::unix::fs::FileExt as _;

/// What lies before the rings.
pub(super) const HEADER_BYTES: usize = 4096;
/// Rings begin at a page of this size, the smallest there is, and have a whole number of them.
#[cfg(feature = "virtual-fd")]
const PAGE_BYTES: usize = 4096;

/// Who mapped a region: which ring is whose follows from it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Side {
    Creator,
    Attacher,
}

/// The length of a region whose rings hold `ring_bytes` each.
pub(super) const fn region_bytes(ring_bytes: usize) -> usize {
    ring_bytes.saturating_mul(2).saturating_add(HEADER_BYTES)
}

/// The mapped memory of an endpoint; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    mapping: ManuallyDrop<MmapRaw>,
    pub(super) ring_bytes: usize,
    pub(super) side: Side,
    mapped_by: Generation,
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // In a forked child something else may be mapped there.
        if !self.is_inherited() {
            // SAFETY: dropped here only, and not used afterwards.
            unsafe { ManuallyDrop::drop(&mut self.mapping) };
        }
    }
}

impl Mapping {
    /// Maps the whole file. Its pages come when they are first used: all at once they
    /// take twice as long, and a short-lived connection needs few of them.
    pub(super) fn new(file: &OwnedFd, ring_bytes: usize, side: Side) -> io::Result<Self> {
        let mapped_by = fork::prepare()?;
        let mapping = MmapOptions::new().len(region_bytes(ring_bytes)).map_raw(file.as_raw_fd())?;
        mapping.advise(Advice::DontFork)?;
        mapping.advise(Advice::DontDump)?;
        Ok(Self { mapping: ManuallyDrop::new(mapping), ring_bytes, side, mapped_by })
    }

    /// The process that mapped it. In its forked children there is nothing mapped here.
    pub(crate) fn mapped_by(&self) -> Generation {
        self.mapped_by
    }

    fn is_inherited(&self) -> bool {
        self.mapped_by != fork::generation()
    }

    /// The mapped memory.
    ///
    /// # Panics
    /// If it is not this process's.
    pub(super) fn own(&self) -> &MmapRaw {
        assert!(!self.is_inherited(), "a region is not inherited over fork");
        &self.mapping
    }

    /// Bytes of memory the region takes.
    pub(crate) fn total_bytes(&self) -> usize {
        region_bytes(self.ring_bytes)
    }

    /// Where the rings are: the one that this side reads, and the one that it writes.
    pub(super) fn ring_offsets(&self) -> [usize; 2] {
        let [first, second] = [HEADER_BYTES, HEADER_BYTES + self.ring_bytes];
        match self.side {
            Side::Creator => [first, second],
            Side::Attacher => [second, first],
        }
    }

    /// Gives the memory of the ring that this side writes back.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn discard_outgoing(&self) {
        let [_, outgoing] = self.ring_offsets();
        self.discard(outgoing, self.ring_bytes);
    }

    /// Gives `length` bytes at `offset` back to the system although the peer may still map
    /// them: the whole pages among them. Where pages are larger than 4096 bytes, the first and
    /// the last bytes share theirs with what stays.
    fn discard(&self, offset: usize, length: usize) {
        let pages = whole_pages(offset..offset + length, self.total_bytes(), sys::page_bytes());
        if pages.is_empty() {
            return;
        }
        let advice = memmap2::UncheckedAdvice::Remove;
        // SAFETY: the bytes are reached through atomics and opaque copies only, which see
        // zeros from now on: what a hostile peer could have written as well.
        let result = unsafe { self.own().unchecked_advise_range(advice, pages.start, pages.len()) };
        // A kernel that cannot do it keeps the memory until the peer unmaps it.
        drop(result);
    }
}

/// Giving the memory back.
impl Endpoint {
    /// Gives all memory back to the system although others may keep the file: for a region
    /// that was passed on and not taken into use. It is none any more, for whoever attaches
    /// later.
    pub fn discard(self) {
        self.mapping.discard(0, self.mapping.total_bytes());
    }

    /// Gives the memory of both rings back although others may keep the file. The words that
    /// say that this side has closed stay, for whoever still looks.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn discard_rings(&self) {
        let ring_bytes = self.mapping.ring_bytes;
        self.mapping
            .ring_offsets()
            .into_iter()
            .for_each(|ring| self.mapping.discard(ring, ring_bytes));
    }

    /// Gives the memory back in which there is nothing that the peer may still read, though
    /// the peer keeps the file. Returns how much is left beside the first page, in pages of
    /// 4096 bytes: where they are larger, up to three of those are left besides. To be called
    /// when this side neither reads nor writes any more.
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn discard_all_but_unread(&self) -> usize {
        let [incoming, outgoing] = self.mapping.ring_offsets();
        let ring_bytes = self.mapping.ring_bytes;
        self.mapping.discard(incoming, ring_bytes);
        let unread = pages_around_unread(&self.producer);
        let kept_bytes = unread.len();
        // The rest is one piece, around the ring's end.
        let first = unread.end % ring_bytes;
        let until_end = (ring_bytes - kept_bytes).min(ring_bytes - first);
        self.mapping.discard(outgoing + first, until_end);
        self.mapping.discard(outgoing, ring_bytes - kept_bytes - until_end);
        kept_bytes
    }

    /// Whether another mapping of the region is in use, as far as the process's `pagemap`
    /// tells; `true` if it does not. (`/proc/self/pagemap`, kernel's admin-guide/mm/pagemap)
    #[cfg(feature = "virtual-fd")]
    pub(crate) fn is_mapped_elsewhere(&self, pagemap: &File) -> bool {
        const PRESENT: u64 = 1 << 63;
        const MAPPED_ONCE: u64 = 1 << 56;
        let page_number = self.mapping.own().as_mut_ptr().addr() / sys::page_bytes();
        let mut entry = [0; 8];
        let read = pagemap.read_exact_at(&mut entry, page_number as u64 * 8);
        let entry = u64::from_ne_bytes(entry);
        // The first page, which whoever uses the region looks at.
        read.is_err() || entry & (PRESENT | MAPPED_ONCE) != PRESENT | MAPPED_ONCE
    }
}

/// The pages of the ring, possibly beyond its end, that have what the consumer of the other
/// process has not read.
#[cfg(feature = "virtual-fd")]
fn pages_around_unread(producer: &Producer<'_>) -> Range<usize> {
    let ring_bytes = producer.capacity();
    let unread_bytes = producer.unread_bytes();
    let start = producer.index().wrapping_sub(unread_bytes) & (ring_bytes - 1);
    let first_page = start / PAGE_BYTES * PAGE_BYTES;
    match unread_bytes {
        0 => first_page..first_page,
        _ => {
            let end = (start + unread_bytes).next_multiple_of(PAGE_BYTES);
            first_page..end.min(first_page + ring_bytes)
        }
    }
}

/// The bytes of those pages that have nothing of the file outside of `range`.
fn whole_pages(range: Range<usize>, file_bytes: usize, page_bytes: usize) -> Range<usize> {
    let start = range.start.next_multiple_of(page_bytes);
    // Behind the file's end there is nothing to keep.
    let is_last = range.end == file_bytes;
    start..if is_last { range.end } else { range.end / page_bytes * page_bytes }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_that_is_discarded_in_part_stays() {
        let [first, second] = [4096..36864, 36864..69632];
        let file_bytes = second.end;
        assert_eq!(whole_pages(first.clone(), file_bytes, 4096), first);
        assert_eq!(whole_pages(second.clone(), file_bytes, 4096), second);
        assert_eq!(whole_pages(first.clone(), file_bytes, 16384), 16384..32768);
        assert_eq!(whole_pages(second.clone(), file_bytes, 16384), 49152..file_bytes);
        assert!(whole_pages(first, file_bytes, 65536).is_empty());
        assert_eq!(whole_pages(0..file_bytes, file_bytes, 65536), 0..file_bytes);
        assert!(whole_pages(4096..4096, file_bytes, 4096).is_empty());
    }
}
