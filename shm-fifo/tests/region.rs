//! Regions: made whole, refused unless well-formed, and never the peer's to break.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use rustix::process::{Resource, Rlimit};
use shm_fifo::{
    Channel, Region,
    channel::Endpoint,
    region::{AttachError, RING_BYTES_RANGE, UnmappedRegion},
};
use std::fs::File;
use std::io::{ErrorKind, Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::net::UnixStream;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use support::process::{OtherProcess, roles};
use support::{Watchdog, mappings_of, open_fds};

// What concerns the whole process happens in one of its own.
roles! {
    mappings_are_neither_inherited_nor_dumped,
    a_thousand_regions_leave_no_descriptor_and_no_mapping,
    creating_above_the_file_size_limit_is_refused,
    creating_without_free_descriptors_fails_and_leaks_none,
}

const LAYOUT_VERSION: u64 = 2;
const RING_BYTES: usize = 4096;
const REGION_BYTES: u64 = 3 * 4096;
const EVERY_SEAL_OF_A_REGION: SealFlags =
    SealFlags::SHRINK.union(SealFlags::GROW).union(SealFlags::SEAL);

fn memfd(length: u64) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("test", flags).unwrap());
    file.set_len(length).unwrap();
    file
}

fn seal(file: &impl AsFd) {
    rustix::fs::fcntl_add_seals(file, SealFlags::SHRINK | SealFlags::GROW).unwrap();
}

/// The first words of a region, as its creator writes them.
fn write_header(file: &File, magic: &[u8; 8], version: u64, ring_bytes: u64) {
    file.write_all_at(magic, 0).unwrap();
    file.write_all_at(&version.to_ne_bytes(), 8).unwrap();
    file.write_all_at(&ring_bytes.to_ne_bytes(), 16).unwrap();
}

/// A sealed memfd that could be a region, but for these words.
fn forged(length: u64, magic: &[u8; 8], version: u64, ring_bytes: u64) -> OwnedFd {
    let file = memfd(length);
    write_header(&file, magic, version, ring_bytes);
    seal(&file);
    file.into()
}

fn connect(one: Endpoint, other: Endpoint) -> (Channel, Channel) {
    let (here, there) = UnixStream::pair().unwrap();
    (Channel::new(one, here.into()), Channel::new(other, there.into()))
}

#[test]
fn memory_comes_with_what_is_written_and_never_exceeds_what_was_announced() {
    const RING_BYTES: usize = 1 << 20;
    const PAGE_BYTES: u64 = 4096;
    let unmapped = UnmappedRegion::create(RING_BYTES).unwrap();
    let is_allocated = unmapped.is_allocated();
    let file = File::from(unmapped.as_fd().try_clone_to_owned().unwrap());
    let allocated_bytes = || file.metadata().unwrap().blocks() * 512;
    let total_bytes = Region::bytes_with_rings_of(RING_BYTES) as u64;
    let expected = |pages: u64| if is_allocated { total_bytes } else { pages * PAGE_BYTES };

    assert_eq!(unmapped.ring_bytes(), RING_BYTES);
    assert_eq!(allocated_bytes(), expected(1));
    let created = unmapped.map().unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    assert_eq!(created.token(), attached.token());
    assert_eq!(created.total_bytes() as u64, total_bytes);

    let (mut one, mut other) = connect(created.into_endpoint(), attached.into_endpoint());
    assert_eq!(allocated_bytes(), expected(1));
    for _ in 0..10 {
        one.write_all(&[7; 500]).unwrap();
        other.read_exact(&mut [0; 500]).unwrap();
    }
    assert_eq!(allocated_bytes(), expected(3), "the header, and 5000 bytes");
    for _ in 0..3 {
        one.write_all(&[7; RING_BYTES]).unwrap();
        other.read_exact(&mut [0; RING_BYTES]).unwrap();
        other.write_all(&[8; RING_BYTES]).unwrap();
        one.read_exact(&mut [0; RING_BYTES]).unwrap();
    }
    assert_eq!(allocated_bytes(), total_bytes);
}

#[test]
fn a_writer_without_inline_messages_is_understood() {
    assert_eq!(written_by_hand(&[(b"PING\r\n", false)]), b"PING\r\n");
}

#[test]
fn a_writer_with_an_inline_message_now_and_then_is_understood() {
    for used in [[true, false], [false, true], [true, true]] {
        let messages = [(&b"PING 1\r\n"[..], used[0]), (&b"PING 2\r\n"[..], used[1])];
        assert_eq!(written_by_hand(&messages), b"PING 1\r\nPING 2\r\n", "{used:?}");
    }
}

/// What arrives of messages that are written into the file as docs/layout.md says, each
/// inline as well or not, and are there before any of them is read.
fn written_by_hand(messages: &[(&[u8], bool)]) -> Vec<u8> {
    const HEADER: u64 = 1024;
    const RING: u64 = 4096;
    let _watchdog = Watchdog::start();
    let region = Region::create(RING_BYTES).unwrap();
    let file = File::from(region.fd().unwrap());
    let mut tail = 0;
    for &(message, is_inline) in messages {
        let length = u64::try_from(message.len()).unwrap();
        file.write_all_at(message, RING + tail).unwrap();
        if is_inline {
            file.write_all_at(&(tail << 6 | length).to_ne_bytes(), HEADER).unwrap();
            file.write_all_at(message, HEADER + 8).unwrap();
        }
        tail += length;
    }
    file.write_all_at(&tail.to_ne_bytes(), HEADER + 56).unwrap();
    let (socket, _peer) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(region.into_endpoint(), socket.into());
    let mut read = vec![0; 48];
    let count = channel.read(&mut read).unwrap();
    read.truncate(count);
    read
}

#[test]
fn the_attacher_sees_what_the_creator_made() {
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    assert_eq!(attached.ring_bytes(), RING_BYTES);
    assert_eq!(attached.token(), created.token());
    assert_eq!(attached.total_bytes(), created.total_bytes());
}

#[test]
fn bytes_travel_both_ways_between_creator_and_attacher() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let (mut here, mut there) = connect(created.into_endpoint(), attached.into_endpoint());

    here.write_all(b"to the attacher").unwrap();
    there.write_all(b"to the creator").unwrap();

    let mut buffer = [0; 32];
    let length = there.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"to the attacher");
    let length = here.read(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"to the creator");
}

#[test]
fn no_two_regions_have_the_same_token() {
    let one = Region::create(RING_BYTES).unwrap();
    let other = Region::create(RING_BYTES).unwrap();
    assert_ne!(one.token(), other.token());
    assert_ne!(one.token().to_bytes(), [0; 16]);
}

#[test]
fn ring_sizes_that_are_no_power_of_two_in_range_are_refused() {
    let too_large = RING_BYTES_RANGE.end() * 2;
    for ring_bytes in [0, 1, 64, 2048, 4095, 4097, 6000, too_large, usize::MAX] {
        let error = Region::create(ring_bytes).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::InvalidInput, "{ring_bytes}");
    }
}

#[test]
fn files_that_cannot_be_sealed_are_refused() {
    let (pipe, _other_end) = rustix::pipe::pipe().unwrap();
    let (socket, _other_end) = UnixStream::pair().unwrap();
    let strangers: [OwnedFd; 5] = [
        pipe,
        socket.into(),
        File::open("/dev/null").unwrap().into(),
        File::open("/proc/self/exe").unwrap().into(),
        File::open("/").unwrap().into(),
    ];
    for stranger in strangers {
        let error = Region::attach(stranger).unwrap_err();
        assert!(matches!(error, AttachError::NotSealed), "{error:?}");
    }
}

#[test]
fn a_perfect_region_without_seals_is_refused() {
    let file = memfd(REGION_BYTES);
    write_header(&file, b"SHMFIFO\0", LAYOUT_VERSION, RING_BYTES as u64);
    let error = Region::attach(file.into()).unwrap_err();
    assert!(matches!(error, AttachError::NotSealed), "{error:?}");
}

#[test]
fn a_region_sealed_against_growing_only_is_refused() {
    let file = memfd(REGION_BYTES);
    write_header(&file, b"SHMFIFO\0", LAYOUT_VERSION, RING_BYTES as u64);
    rustix::fs::fcntl_add_seals(&file, SealFlags::GROW).unwrap();
    let error = Region::attach(file.into()).unwrap_err();
    assert!(matches!(error, AttachError::NotSealed), "{error:?}");
}

#[test]
fn a_well_forged_region_is_accepted_so_that_the_refusals_below_mean_something() {
    let region = Region::attach(forged(REGION_BYTES, b"SHMFIFO\0", LAYOUT_VERSION, 4096)).unwrap();
    assert_eq!(region.ring_bytes(), 4096);
}

#[test]
fn attaching_allocates_no_memory_that_the_creator_left_to_us() {
    let ring_bytes = *RING_BYTES_RANGE.end() as u64;
    let file = File::from(forged(4096 + 2 * ring_bytes, b"SHMFIFO\0", LAYOUT_VERSION, ring_bytes));

    let region = Region::attach(file.try_clone().unwrap().into()).unwrap();

    assert_eq!(region.ring_bytes() as u64, ring_bytes);
    // The page of the header, which was written to; it may be a huge one.
    assert!(file.metadata().unwrap().blocks() * 512 <= 2 << 20);
}

#[test]
fn a_file_with_another_magic_is_refused() {
    let error =
        Region::attach(forged(REGION_BYTES, b"SHMFIFO1", LAYOUT_VERSION, 4096)).unwrap_err();
    assert!(matches!(error, AttachError::NotARegion), "{error:?}");
}

#[test]
fn a_file_of_huge_pages_is_refused_before_it_is_mapped() {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING | MemfdFlags::HUGETLB;
    let huge = File::from(rustix::fs::memfd_create("test", flags | MemfdFlags::HUGE_2MB).unwrap());
    huge.set_len(2 << 20).unwrap();
    seal(&huge);

    // Where no huge page is free, mapping it would be an error of its own.
    let error = Region::attach(huge.into()).unwrap_err();

    assert!(matches!(error, AttachError::NotARegion), "{error:?}");
}

#[test]
fn a_file_of_a_size_that_no_region_has_is_refused() {
    for length in [4096, 4097, 8192, 4096 + 8191, 4096 + 8193, 2 << 20, 4096 + (4 << 30)] {
        let error = Region::attach(forged(length, b"SHMFIFO\0", LAYOUT_VERSION, 4096)).unwrap_err();
        assert!(matches!(error, AttachError::NotARegion), "{length}: {error:?}");
    }
}

#[test]
fn a_file_smaller_than_a_header_is_refused() {
    for length in [0, 1, 24, 4095] {
        let file = memfd(length);
        seal(&file);
        let error = Region::attach(file.into()).unwrap_err();
        assert!(matches!(error, AttachError::NotARegion), "{length}: {error:?}");
    }
}

#[test]
fn another_layout_version_is_refused_by_its_number() {
    for version in [0, 1, 3, u64::MAX] {
        let error = Region::attach(forged(REGION_BYTES, b"SHMFIFO\0", version, 4096)).unwrap_err();
        assert!(matches!(error, AttachError::LayoutVersion(v) if v == version), "{error:?}");
    }
}

#[test]
fn a_ring_size_that_does_not_make_the_file_is_refused() {
    let claims = [0, 1, 64, 2048, 4095, 8192, 1 << 30, 1 << 31, 1 << 63, u64::MAX, u64::MAX - 4095];
    for claim in claims {
        let error =
            Region::attach(forged(REGION_BYTES, b"SHMFIFO\0", LAYOUT_VERSION, claim)).unwrap_err();
        let AttachError::Geometry { ring_bytes, file_bytes } = error else {
            panic!("{claim}: {error:?}")
        };
        assert_eq!((ring_bytes, file_bytes), (claim, REGION_BYTES));
    }
}

#[test]
fn a_region_that_cannot_be_written_is_refused() {
    let file = memfd(REGION_BYTES);
    write_header(&file, b"SHMFIFO\0", LAYOUT_VERSION, RING_BYTES as u64);
    seal(&file);
    rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).unwrap();
    let error = Region::attach(file.into()).unwrap_err();
    assert!(matches!(error, AttachError::Io(_)), "{error:?}");
}

#[test]
fn the_peer_can_neither_resize_nor_reseal_a_region() {
    let region = Region::create(RING_BYTES).unwrap();
    let file = File::from(region.fd().unwrap());

    let seals = rustix::fs::fcntl_get_seals(&file).unwrap();
    let results = [
        file.set_len(0),
        file.set_len(REGION_BYTES - 1),
        file.set_len(REGION_BYTES + 1),
        file.write_all_at(b"x", REGION_BYTES),
        rustix::fs::fcntl_add_seals(&file, SealFlags::WRITE).map_err(Into::into),
        rustix::fs::fcntl_add_seals(&file, SealFlags::FUTURE_WRITE).map_err(Into::into),
    ];

    assert!(seals.contains(EVERY_SEAL_OF_A_REGION));
    for result in results {
        assert_eq!(result.unwrap_err().kind(), ErrorKind::PermissionDenied);
    }
    assert_eq!(file.metadata().unwrap().len(), REGION_BYTES);
}

#[test]
fn hostile_punched_holes_read_as_zeros_and_do_not_kill() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let (mut here, mut there) = connect(created.into_endpoint(), attached.into_endpoint());
    there.write_all(&[0xAA; 100]).unwrap();

    // The rings, but not the positions: those would only say "corrupt".
    let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, holes, 4096, 2 * RING_BYTES as u64).unwrap();
    let mut buffer = [0xFF; 100];
    here.read_exact(&mut buffer).unwrap();

    assert_eq!(buffer, [0; 100]);
}

#[test]
fn hostile_holes_through_the_whole_file_make_errors_at_most() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let (mut here, mut there) = connect(created.into_endpoint(), attached.into_endpoint());
    there.write_all(&[0xAA; 100]).unwrap();
    here.read_exact(&mut [0; 100]).unwrap();

    let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
    rustix::fs::fallocate(&file, holes, 0, REGION_BYTES).unwrap();

    // The tail fell back from 100 to 0.
    assert_eq!(here.try_read(&mut [0; 1]).unwrap_err().kind(), ErrorKind::InvalidData);
}

#[test]
fn hostile_holes_and_truncations_during_traffic_change_bytes_and_nothing_else() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    let file = File::from(created.fd().unwrap());
    let (mut here, mut there) = connect(created.into_endpoint(), attached.into_endpoint());
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        let attacks = scope.spawn(|| {
            let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
            let mut attacks = 0_u64;
            while !over.load(Relaxed) || attacks < 1000 {
                let offset = 4096 + attacks % 16 * 512;
                rustix::fs::fallocate(&file, holes, offset, 512).unwrap();
                assert!(file.set_len(attacks % REGION_BYTES).is_err());
                attacks += 1;
            }
            attacks
        });
        let mut buffer = [0; RING_BYTES];
        for length in (1..=RING_BYTES).cycle().step_by(37).take(20_000) {
            here.write_all(&vec![0xAA; length]).unwrap();
            there.read_exact(&mut buffer[..length]).unwrap();
            // What lies in a hole is zero; no message is inline.
            assert!(buffer[..length].iter().all(|byte| [0, 0xAA].contains(byte)));
        }
        over.store(true, Relaxed);
        assert!(attacks.join().unwrap() >= 1000);
    });
}

#[test]
fn every_descriptor_of_a_region_is_close_on_exec() {
    let created = Region::create(RING_BYTES).unwrap();
    let duplicate = created.fd().unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    for fd in [duplicate, attached.fd().unwrap()] {
        let flags = rustix::io::fcntl_getfd(&fd).unwrap();
        assert!(flags.contains(rustix::io::FdFlags::CLOEXEC));
    }
    assert_eq!(inheritable_memfds(), 0);
}

/// How many of this process's shm-fifo descriptors would survive an `exec`.
fn inheritable_memfds() -> usize {
    std::fs::read_dir("/proc/self/fd")
        .unwrap()
        .filter_map(|entry| {
            let path = entry.unwrap().path();
            let target = std::fs::read_link(&path).ok()?;
            let info = std::fs::read_to_string(path.to_str()?.replace("/fd/", "/fdinfo/")).ok()?;
            // The flags are octal; O_CLOEXEC is 0o2000000.
            let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
            let flags = u32::from_str_radix(flags.trim(), 8).ok()?;
            (target.to_str()?.contains("shm-fifo") && flags & 0o2_000_000 == 0).then_some(())
        })
        .count()
}

fn mappings_are_neither_inherited_nor_dumped(_: UnixStream) {
    let created = Region::create(RING_BYTES).unwrap();
    let _attached = Region::attach(created.fd().unwrap()).unwrap();

    let smaps = std::fs::read_to_string("/proc/self/smaps").unwrap();
    let flags: Vec<_> = smaps
        .split_inclusive("VmFlags:")
        .zip(smaps.split("VmFlags:").skip(1))
        .filter(|(mapping, _)| mapping.contains("memfd:shm-fifo"))
        .map(|(_, behind)| behind.lines().next().unwrap())
        .collect();

    assert_eq!(flags.len(), 2, "both sides are mapped: {flags:?}");
    for flags in flags {
        let has = |flag| flags.split_whitespace().any(|word| word == flag);
        assert!(has("dc") && has("dd"), "dontfork and dontdump: {flags}");
    }
}

#[test]
fn no_process_inherits_or_dumps_a_mapping() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("mappings_are_neither_inherited_nor_dumped");
}

fn a_thousand_regions_leave_no_descriptor_and_no_mapping(_: UnixStream) {
    let make_and_drop = || {
        let created = Region::create(RING_BYTES).unwrap();
        let attached = Region::attach(created.fd().unwrap()).unwrap();
        let refused = Region::attach(forged(REGION_BYTES, b"SHMFIFO\0", 1, 4096));
        assert!(refused.is_err());
        drop(connect(created.into_endpoint(), attached.into_endpoint()));
    };
    make_and_drop();
    let before = (open_fds(), mappings_of(""));
    for _ in 0..1000 {
        make_and_drop();
    }
    assert_eq!((open_fds(), mappings_of("")), before);
    assert_eq!(mappings_of("memfd"), 0);
}

#[test]
fn nothing_leaks_in_a_process_of_its_own() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("a_thousand_regions_leave_no_descriptor_and_no_mapping");
}

/// Sets this process's soft limit.
fn limit(resource: Resource, current: u64) {
    let maximum = rustix::process::getrlimit(resource).maximum;
    rustix::process::setrlimit(resource, Rlimit { current: Some(current), maximum }).unwrap();
}

fn creating_above_the_file_size_limit_is_refused(_: UnixStream) {
    limit(Resource::Fsize, REGION_BYTES);

    let error = Region::create(2 * RING_BYTES).unwrap_err();

    assert_eq!(error.kind(), ErrorKind::InvalidInput);
    assert!(error.to_string().contains("ulimit"), "{error}");
    Region::create(RING_BYTES).expect("a region of exactly the limit fits");
}

#[test]
fn a_low_file_size_limit_is_an_error_not_a_signal() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("creating_above_the_file_size_limit_is_refused");
}

fn creating_without_free_descriptors_fails_and_leaks_none(_: UnixStream) {
    let before = open_fds();
    // New descriptors would have numbers from 3: those below are the standard ones.
    limit(Resource::Nofile, 3);

    assert!(Region::create(RING_BYTES).is_err());

    limit(Resource::Nofile, 256);
    assert_eq!(open_fds(), before);
}

#[test]
fn running_out_of_descriptors_is_an_error() {
    let _watchdog = Watchdog::start();
    OtherProcess::assert_plays("creating_without_free_descriptors_fails_and_leaks_none");
}
