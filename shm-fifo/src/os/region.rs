//! The memory that two processes share: a sealed memfd with a FIFO each way.
//!
//! Invariants: the file is as long as its geometry says and [sealed](super::sealed_file)
//! before anybody maps it, and its memory is allocated by then where the system could refuse
//! a page later, so no access ever traps; the geometry is read from the shared header once,
//! validated, and kept in private memory.
#![allow(unsafe_code)]

use super::endpoint::Endpoint;
use super::mapping::{HEADER_BYTES, Mapping, Side, region_bytes};
use super::token::{TOKEN_BYTES, Token};
use super::{overcommit, sealed_file};
use crate::fifo::Fifo;
use crate::layout::{FIFO_HEADER_BYTES, FifoHeader};
use memmap2::{MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The sizes, in bytes, that each of a region's two rings may have: powers of
/// two in this range.
pub const RING_BYTES_RANGE: RangeInclusive<usize> = 4096..=1 << 30;

/// Where both rings' positions begin.
pub(crate) const FIRST_POSITION: u64 = 0;

const MAGIC: u64 = u64::from_le_bytes(*b"SHMFIFO\0");
const LAYOUT_VERSION: u64 = 2;
const TO_CREATOR_OFFSET: usize = 1024;
const TO_ATTACHER_OFFSET: usize = TO_CREATOR_OFFSET + FIFO_HEADER_BYTES;

/// The first words of a region. Written by the creator before it shares the
/// file, read once by the attacher, never read again.
#[repr(C)]
struct RegionHeader {
    magic: AtomicU64,
    layout_version: AtomicU64,
    ring_bytes: AtomicU64,
    token: [AtomicU64; TOKEN_BYTES / 8],
}

static_assertions::const_assert!(size_of::<RegionHeader>() <= TO_CREATOR_OFFSET);
static_assertions::const_assert!(TO_ATTACHER_OFFSET + FIFO_HEADER_BYTES <= HEADER_BYTES);

/// Why a file descriptor is no region to attach to.
#[derive(Debug)]
#[non_exhaustive]
pub enum AttachError {
    /// It cannot be examined or mapped at all.
    Io(io::Error),
    /// It is not sealed against shrinking: its owner could make us trap.
    NotSealed,
    /// It does not begin as a region does, or has a size that no region has.
    NotARegion,
    /// It has a layout that this version does not know.
    LayoutVersion(u64),
    /// Its size, though a region may have it, is not the one its ring size asks for.
    Geometry {
        /// The ring size the header names, in bytes.
        ring_bytes: u64,
        /// The size of the file, in bytes.
        file_bytes: u64,
    },
}

impl std::fmt::Display for AttachError {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Io(error) => write!(f, "cannot map the shared memory: {error}"),
            Self::NotSealed => f.write_str("the shared memory is not sealed against shrinking"),
            Self::NotARegion => f.write_str("the file descriptor is not an shm-fifo region"),
            Self::LayoutVersion(version) => {
                write!(f, "layout version {version} is not {LAYOUT_VERSION}, the one known here")
            }
            Self::Geometry { ring_bytes, file_bytes } => {
                write!(f, "rings of {ring_bytes} bytes do not make a file of {file_bytes} bytes")
            }
        }
    }
}

impl std::error::Error for AttachError {
    fn source(&self) -> Option<&(dyn std::error::Error + 'static)> {
        match self {
            Self::Io(error) => Some(error),
            _ => None,
        }
    }
}

impl From<io::Error> for AttachError {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl From<AttachError> for io::Error {
    fn from(error: AttachError) -> Self {
        match error {
            AttachError::Io(error) => error,
            other => Self::new(io::ErrorKind::InvalidData, other),
        }
    }
}

/// The memory of a region, sealed, that nobody has mapped yet.
///
/// Where all of it has to be allocated, to make it takes longer the larger it is;
/// [`UnmappedRegion::map`] does not. It may be made ahead, also by a thread that has nothing
/// else to do: it calls the kernel for this file alone, and changes nothing of the process's
/// address space.
#[derive(Debug)]
pub struct UnmappedRegion {
    file: OwnedFd,
    ring_bytes: usize,
    token: [u64; TOKEN_BYTES / 8],
    is_allocated: bool,
}

impl UnmappedRegion {
    /// Makes the memory of a region whose two rings hold `ring_bytes` bytes each.
    ///
    /// Its pages are allocated when they are first written, each for the process that does.
    /// Where such an access could trap, all of them are allocated here: with
    /// `vm.overcommit_memory` 2, and before Linux 5.4.
    ///
    /// # Errors
    /// `InvalidInput` if `ring_bytes` is no power of two in [`RING_BYTES_RANGE`]
    /// or exceeds the limit on file sizes; otherwise what the kernel says: no
    /// memory, no file descriptors.
    pub fn create(ring_bytes: usize) -> io::Result<Self> {
        if !is_ring_size(ring_bytes) {
            let range = RING_BYTES_RANGE;
            let message = format!(
                "a ring has a power of two between {} and {} bytes, not {ring_bytes}",
                range.start(),
                range.end()
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        Self::make(ring_bytes, !overcommit::pages_may_come_when_used())
    }

    fn make(ring_bytes: usize, is_allocated: bool) -> io::Result<Self> {
        let length = region_bytes(ring_bytes);
        let file = sealed_file::create(length, if is_allocated { length } else { HEADER_BYTES })?;
        Ok(Self { file, ring_bytes, token: [random_u64()?, random_u64()?], is_allocated })
    }

    /// Maps it, as its creator.
    ///
    /// # Errors
    /// What the kernel says: too many mappings, no memory for one.
    pub fn map(self) -> io::Result<Region> {
        let Self { file, ring_bytes, token, is_allocated: _ } = self;
        let region = Region::map(file, ring_bytes, Side::Creator)?;
        let header = region.header();
        for (word, random) in header.token.iter().zip(token) {
            word.store(random, Relaxed);
        }
        header.ring_bytes.store(ring_bytes as u64, Relaxed);
        header.layout_version.store(LAYOUT_VERSION, Relaxed);
        header.magic.store(MAGIC, Relaxed);
        Ok(region)
    }

    /// Bytes that each ring holds.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.ring_bytes
    }

    /// Whether all its memory was allocated when it was made. If not, it takes a page, and
    /// making it took no longer than making a small one.
    #[must_use]
    pub fn is_allocated(&self) -> bool {
        self.is_allocated
    }
}

impl AsFd for UnmappedRegion {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

/// A mapped region: two rings, one in each direction, and a token.
///
/// One process creates it and passes [`Region::fd`] to the other, which attaches.
/// The mapping is not part of core dumps, and not inherited over `fork`: in a
/// child the methods that look into it panic, and an [`Endpoint`] is dead.
#[derive(Debug)]
pub struct Region {
    mapping: Mapping,
    file: OwnedFd,
}

impl Region {
    /// Creates a region whose two rings hold `ring_bytes` bytes each.
    ///
    /// When its memory is allocated, [`UnmappedRegion::create`] says.
    ///
    /// # Errors
    /// As [`UnmappedRegion::create`] and [`UnmappedRegion::map`].
    pub fn create(ring_bytes: usize) -> io::Result<Self> {
        UnmappedRegion::create(ring_bytes)?.map()
    }

    /// Attaches to the region behind `file`, made by [`Region::create`] in this
    /// or another process.
    ///
    /// # Errors
    /// Any file that is not a sealed, well-formed region is refused, and nothing
    /// of it is believed.
    pub fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        if !sealed_file::cannot_shrink(&file)? {
            return Err(AttachError::NotSealed);
        }
        let file = File::from(file);
        let file_bytes = file.metadata()?.len();
        // Before anything is mapped: a file of huge pages, whose seals do not keep an
        // access from trapping, cannot have such a size.
        if !is_region_size(file_bytes) {
            return Err(AttachError::NotARegion);
        }
        // The header alone is mapped first: what it says decides the rest.
        let header_mapping = MmapOptions::new().len(HEADER_BYTES).map_raw(&file)?;
        let header = region_header(&header_mapping);
        if header.magic.load(Relaxed) != MAGIC {
            return Err(AttachError::NotARegion);
        }
        let version = header.layout_version.load(Relaxed);
        if version != LAYOUT_VERSION {
            return Err(AttachError::LayoutVersion(version));
        }
        let claimed = header.ring_bytes.load(Relaxed);
        let ring_bytes = usize::try_from(claimed)
            .ok()
            .filter(|&bytes| is_ring_size(bytes) && region_bytes(bytes) as u64 == file_bytes);
        match ring_bytes {
            Some(ring_bytes) => Ok(Self::map(file.into(), ring_bytes, Side::Attacher)?),
            None => Err(AttachError::Geometry { ring_bytes: claimed, file_bytes }),
        }
    }

    fn map(file: OwnedFd, ring_bytes: usize, side: Side) -> io::Result<Self> {
        let mapping = Mapping::new(&file, ring_bytes, side)?;
        Ok(Self { mapping, file })
    }

    /// A duplicate of the file descriptor to pass to the peer, close-on-exec.
    ///
    /// # Errors
    /// If no file descriptor is free.
    pub fn fd(&self) -> io::Result<OwnedFd> {
        self.file.try_clone()
    }

    /// Bytes of memory that a region takes at most whose rings hold `ring_bytes` each; as
    /// many as there are numbers for, if they would be more.
    #[must_use]
    pub const fn bytes_with_rings_of(ring_bytes: usize) -> usize {
        region_bytes(ring_bytes)
    }

    /// Bytes that each ring holds.
    #[must_use]
    pub fn ring_bytes(&self) -> usize {
        self.mapping.ring_bytes
    }

    /// Bytes of memory the region takes at most.
    #[must_use]
    pub fn total_bytes(&self) -> usize {
        self.mapping.total_bytes()
    }

    /// The random bytes that only somebody who maps the region can know.
    #[must_use]
    pub fn token(&self) -> Token {
        let mut bytes = [0; TOKEN_BYTES];
        for (chunk, word) in bytes.chunks_exact_mut(8).zip(&self.header().token) {
            chunk.copy_from_slice(&word.load(Relaxed).to_le_bytes());
        }
        Token::from_bytes(bytes)
    }

    /// Announces both directions' ends as asleep, so that the first byte to
    /// reach either of them rings its doorbell. For regions not yet passed on.
    pub fn park_both_ends(&self) {
        for header in self.fifo_headers() {
            header.consumer_wait.parked.store(1, Relaxed);
        }
    }

    /// Turns the region into the end that this process plays, and closes its
    /// file descriptor.
    #[must_use]
    pub fn into_endpoint(self) -> Endpoint {
        let [incoming_header, outgoing_header] = match self.mapping.side {
            Side::Creator => [TO_CREATOR_OFFSET, TO_ATTACHER_OFFSET],
            Side::Attacher => [TO_ATTACHER_OFFSET, TO_CREATOR_OFFSET],
        };
        let [incoming_ring, outgoing_ring] = self.mapping.ring_offsets();
        // SAFETY: the mapping moves into the endpoint below, whose fields drop
        // before it does; it is unmapped nowhere else.
        let incoming = unsafe { self.fifo(incoming_header, incoming_ring) };
        // SAFETY: as above.
        let outgoing = unsafe { self.fifo(outgoing_header, outgoing_ring) };
        let producer = outgoing.into_producer(FIRST_POSITION);
        let consumer = incoming.into_consumer(FIRST_POSITION);
        Endpoint::new(producer, consumer, self.mapping)
    }

    fn header(&self) -> &RegionHeader {
        region_header(self.mapping.own())
    }

    fn fifo_headers(&self) -> [&FifoHeader; 2] {
        [TO_CREATOR_OFFSET, TO_ATTACHER_OFFSET].map(|offset| self.fifo_header(offset))
    }

    fn fifo_header(&self, offset: usize) -> &FifoHeader {
        // SAFETY: both offsets leave a header's bytes within the first page.
        let address = unsafe { self.mapping.own().as_mut_ptr().add(offset) };
        #[allow(
            clippy::cast_ptr_alignment,
            reason = "pages are aligned, offsets are multiples of 128"
        )]
        let header = address.cast::<FifoHeader>();
        // SAFETY: aligned, mapped as long as `self`, and nothing but atomics, for
        // which any bytes are valid and any concurrent write is defined.
        unsafe { &*header }
    }

    /// # Safety
    /// The mapping must outlive the FIFO.
    unsafe fn fifo(&self, header_offset: usize, data_offset: usize) -> Fifo<'static> {
        let header: *const FifoHeader = self.fifo_header(header_offset);
        // SAFETY: the caller keeps the mapping.
        let header: &'static FifoHeader = unsafe { &*header };
        // SAFETY: `data_offset + ring_bytes` is within the mapping.
        let data = unsafe { self.mapping.own().as_mut_ptr().add(data_offset) };
        // SAFETY: `ring_bytes` mapped bytes that only this FIFO reaches; each
        // region is turned into one endpoint.
        let fifo = unsafe { Fifo::from_raw_parts(header, data, self.ring_bytes()) };
        fifo.unwrap_or_else(|_| unreachable!("a region's ring size is checked when it is made"))
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

fn region_header(mapping: &MmapRaw) -> &RegionHeader {
    let header: *const RegionHeader = mapping.as_mut_ptr().cast();
    // SAFETY: mapped and page-aligned, at least HEADER_BYTES long, and nothing
    // but atomics, for which any bytes are valid.
    unsafe { &*header }
}

fn is_ring_size(bytes: usize) -> bool {
    bytes.is_power_of_two() && RING_BYTES_RANGE.contains(&bytes)
}

/// Whether some ring size makes a file of `bytes` bytes.
fn is_region_size(bytes: u64) -> bool {
    let rings_bytes = bytes.checked_sub(HEADER_BYTES as u64);
    rings_bytes
        .and_then(|bytes| usize::try_from(bytes).ok())
        .is_some_and(|bytes| is_ring_size(bytes / 2) && bytes % 2 == 0)
}

fn random_u64() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes at most eight bytes into the array; so few come
    // whole or not at all.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::from_ne_bytes(bytes)) }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RING_BYTES: usize = 64 << 10;

    fn allocated_bytes(unmapped: &UnmappedRegion) -> usize {
        use std::os::unix::fs::MetadataExt as _;
        let file = File::from(unmapped.file.try_clone().expect("a descriptor"));
        usize::try_from(file.metadata().expect("a file").blocks() * 512).expect("few")
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn all_memory_is_there_before_anybody_maps_it_where_a_page_could_be_refused_later() {
        let unmapped = UnmappedRegion::make(RING_BYTES, true).expect("memory");

        assert!(unmapped.is_allocated());
        assert_eq!(allocated_bytes(&unmapped), region_bytes(RING_BYTES));
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn elsewhere_the_page_is_that_everybody_needs() {
        let unmapped = UnmappedRegion::make(RING_BYTES, false).expect("memory");

        assert!(!unmapped.is_allocated());
        assert_eq!(allocated_bytes(&unmapped), HEADER_BYTES);
    }
}
