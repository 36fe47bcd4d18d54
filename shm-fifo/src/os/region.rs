//! The memory that two processes share: a sealed memfd with a FIFO each way.
//!
//! Invariants: the file is as long as its geometry says and sealed against
//! shrinking before anybody maps it, and its memory is allocated by then where the
//! system could refuse a page later, so no access ever traps; the mapping lives
//! as long as the [`Endpoint`] that uses it; the geometry is read from the
//! shared header once, validated, and kept in private memory.
#![allow(unsafe_code)]

use super::endpoint::Endpoint;
use super::fork::{self, Generation};
use super::{overcommit, sys};
#[cfg(feature = "virtual-fd")]
use crate::Producer;
use crate::fifo::Fifo;
use crate::layout::{FIFO_HEADER_BYTES, FifoHeader};
use memmap2::{Advice, MmapOptions, MmapRaw};
use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::{Range, RangeInclusive};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
#[cfg(feature = "virtual-fd")]
use std::os::unix::fs::FileExt as _;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// The sizes, in bytes, that each of a region's two rings may have: powers of
/// two in this range.
pub const RING_BYTES_RANGE: RangeInclusive<usize> = 4096..=1 << 30;

/// Bytes of a region's random token.
pub const TOKEN_BYTES: usize = 16;

/// Where both rings' positions begin.
pub(crate) const FIRST_POSITION: u64 = 0;

const MAGIC: u64 = u64::from_le_bytes(*b"SHMFIFO\0");
const LAYOUT_VERSION: u64 = 2;
const HEADER_BYTES: usize = 4096;
/// Rings begin at a page of this size, the smallest there is, and have a whole number of them.
#[cfg(feature = "virtual-fd")]
const PAGE_BYTES: usize = 4096;
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

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Side {
    Creator,
    Attacher,
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
            return Err(invalid_input(format!(
                "a ring has a power of two between {} and {} bytes, not {ring_bytes}",
                range.start(),
                range.end()
            )));
        }
        Self::make(ring_bytes, !overcommit::pages_may_come_when_used())
    }

    fn make(ring_bytes: usize, is_allocated: bool) -> io::Result<Self> {
        let length = region_bytes(ring_bytes);
        let file = create_sealed_memfd(length, if is_allocated { length } else { HEADER_BYTES })?;
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
        if seals(&file)? & libc::F_SEAL_SHRINK == 0 {
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
        ring_bytes.saturating_mul(2).saturating_add(HEADER_BYTES)
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
    pub fn token(&self) -> [u8; TOKEN_BYTES] {
        let mut token = [0; TOKEN_BYTES];
        let (chunks, _) = token.as_chunks_mut::<8>();
        for (chunk, word) in chunks.iter_mut().zip(&self.header().token) {
            *chunk = word.load(Relaxed).to_le_bytes();
        }
        token
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

/// The mapped memory of an endpoint; unmapped when dropped.
#[derive(Debug)]
pub(crate) struct Mapping {
    mapping: ManuallyDrop<MmapRaw>,
    ring_bytes: usize,
    side: Side,
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
    fn new(file: &OwnedFd, ring_bytes: usize, side: Side) -> io::Result<Self> {
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
    fn own(&self) -> &MmapRaw {
        assert!(!self.is_inherited(), "a region is not inherited over fork");
        &self.mapping
    }

    /// Bytes of memory the region takes.
    pub(crate) fn total_bytes(&self) -> usize {
        region_bytes(self.ring_bytes)
    }

    /// Where the rings are: the one that this side reads, and the one that it writes.
    fn ring_offsets(&self) -> [usize; 2] {
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

fn region_bytes(ring_bytes: usize) -> usize {
    Region::bytes_with_rings_of(ring_bytes)
}

fn invalid_input(message: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, message)
}

/// A memfd of `length` bytes whose size can never change again, the first `allocated` of which
/// have their memory.
fn create_sealed_memfd(length: usize, allocated: usize) -> io::Result<OwnedFd> {
    refuse_above_file_size_limit(length)?;
    let file = memfd_create(libc::MFD_NOEXEC_SEAL).or_else(|error| match error.raw_os_error() {
        // Before Linux 6.3 the flag is unknown; what it asks for was not there.
        Some(libc::EINVAL) => memfd_create(0),
        _ => Err(error),
    })?;
    let offset = |bytes| libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    // SAFETY: takes no pointer.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), offset(length)?) })?;
    // SAFETY: takes no pointer.
    check(unsafe { libc::fallocate(file.as_raw_fd(), 0, 0, offset(allocated)?) })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

fn memfd_create(extra_flags: libc::c_uint) -> io::Result<OwnedFd> {
    let flags = libc::MFD_CLOEXEC | libc::MFD_ALLOW_SEALING | extra_flags;
    // SAFETY: the name is a C string.
    let fd = check(unsafe { libc::memfd_create(c"shm-fifo".as_ptr(), flags) })?;
    // SAFETY: the kernel just gave us this descriptor; nobody else has it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// Exceeding the limit would raise SIGXFSZ, which kills by default.
fn refuse_above_file_size_limit(length: usize) -> io::Result<()> {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: writes one rlimit.
    check(unsafe { libc::getrlimit(libc::RLIMIT_FSIZE, &raw mut limit) })?;
    if (length as u64) > limit.rlim_cur {
        let message = format!("a region of {length} bytes exceeds the file size limit (ulimit -f)");
        return Err(invalid_input(message));
    }
    Ok(())
}

fn seals(file: &impl AsFd) -> io::Result<libc::c_int> {
    // SAFETY: takes no pointer.
    match check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GET_SEALS) }) {
        // A file that can have no seals.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(0),
        other => other,
    }
}

fn random_u64() -> io::Result<u64> {
    let mut bytes = [0_u8; 8];
    // SAFETY: the kernel writes at most eight bytes into the array; so few come
    // whole or not at all.
    let got = unsafe { libc::getrandom(bytes.as_mut_ptr().cast(), bytes.len(), 0) };
    if got < 0 { Err(io::Error::last_os_error()) } else { Ok(u64::from_ne_bytes(bytes)) }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
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

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn elsewhere_the_page_is_that_everybody_needs() {
        let unmapped = UnmappedRegion::make(RING_BYTES, false).expect("memory");

        assert!(!unmapped.is_allocated());
        assert_eq!(allocated_bytes(&unmapped), HEADER_BYTES);
    }
}
