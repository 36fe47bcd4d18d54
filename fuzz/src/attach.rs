//! Attaching to whatever a peer passed, and using what could be attached.

use crate::input::Input;
use crate::process::open_fds;
use rustix::fs::{FallocateFlags, MemfdFlags, SealFlags};
use shm_fifo::{
    Channel, Region,
    region::{AttachError, RING_BYTES_RANGE},
};
use std::fs::File;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;

const HEADER_BYTES: u64 = 4096;
const MAGIC: [u8; 8] = *b"SHMFIFO\0";

/// Makes the file that `data` spells, attaches to it and uses it while the file
/// changes.
///
/// # Panics
/// If `Region::attach` says anything but what `docs/layout.md` does, if a channel
/// over the region does anything but transfer bytes or fail as documented, or if
/// a file descriptor is leaked.
pub fn run(data: &[u8]) {
    let fds_before = open_fds();
    let mut input = Input::new(data);
    let file = forge(&mut input);
    let expected = verdict(&file);
    let attached = Region::attach(file.try_clone().expect("a descriptor").into());
    match (attached, expected) {
        (Ok(region), Ok(ring_bytes)) => {
            assert_eq!(region.ring_bytes(), ring_bytes);
            let mut token = [0; 16];
            file.read_exact_at(&mut token, 24).expect("within the header");
            assert_eq!(region.token().to_bytes(), token);
            use_it(region, &file, &mut input);
        }
        (Err(error), Err(expected)) => assert_eq!(name(&error), expected),
        (attached, expected) => panic!("{attached:?} instead of {expected:?}"),
    }
    drop(file);
    assert_eq!(open_fds(), fds_before, "a descriptor was leaked");
}

/// A memfd of some size, with some bytes and some seals.
fn forge(input: &mut Input<'_>) -> File {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let file = File::from(rustix::fs::memfd_create("fuzz", flags).expect("a memfd"));
    let length = match input.byte() {
        0..160 => HEADER_BYTES + (8192 << input.below(4)),
        160..200 => input.choose(&[0, 1, 24, 4095, 4096, 4097, 12287, 12289]),
        _ => u64::from(input.u16()),
    };
    file.set_len(length).expect("a small file");
    if input.byte() < 200 {
        let ring_bytes = length.saturating_sub(HEADER_BYTES) / 2;
        drop(file.write_all_at(&MAGIC, 0));
        drop(file.write_all_at(&2_u64.to_ne_bytes(), 8));
        drop(file.write_all_at(&ring_bytes.to_ne_bytes(), 16));
        // What would make the file longer is not written.
        file.set_len(length).expect("as long as before");
    }
    for _ in 0..input.below(8) {
        scribble(&file, input);
    }
    // Mostly those that matter.
    let seals = match input.byte() {
        0..200 => SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL,
        bits => SealFlags::from_bits_retain(u32::from(bits) & 0x1F),
    };
    rustix::fs::fcntl_add_seals(&file, seals).expect("nothing is mapped or sealed yet");
    file
}

/// Writes into the file as a peer that has the descriptor can.
fn scribble(file: &File, input: &mut Input<'_>) {
    let length = file.metadata().map_or(0, |metadata| metadata.len());
    let offset = match input.byte() {
        // The region's header.
        0..64 => u64::from(input.byte() % 48),
        // A word of either FIFO's header.
        64..240 => 1024 + 4 * u64::from(input.byte()),
        _ => u64::from(input.u16()),
    };
    let value = match input.byte() {
        0..128 => u64::from(input.u16()),
        128..192 => u64::from(input.u16()).wrapping_neg(),
        _ => input.u64(),
    };
    if offset + 8 <= length {
        // Some seals forbid it.
        drop(file.write_all_at(&value.to_ne_bytes(), offset));
    }
}

/// The size of the rings, or the name of the error that attaching must end in.
fn verdict(file: &File) -> Result<usize, &'static str> {
    let seals = rustix::fs::fcntl_get_seals(file).expect("a memfd");
    let file_bytes = file.metadata().expect("a memfd").len();
    if !seals.contains(SealFlags::SHRINK) {
        return Err("NotSealed");
    }
    let is_ring_size = |bytes: usize| RING_BYTES_RANGE.contains(&bytes) && bytes.is_power_of_two();
    let has_rings = |bytes: u64| bytes.is_multiple_of(2) && is_ring_size(bytes as usize / 2);
    if !file_bytes.checked_sub(HEADER_BYTES).is_some_and(has_rings) {
        return Err("NotARegion");
    }
    if seals.intersects(SealFlags::WRITE | SealFlags::FUTURE_WRITE) {
        return Err("Io");
    }
    let word = |offset| {
        let mut bytes = [0; 8];
        file.read_exact_at(&mut bytes, offset).expect("within the header");
        bytes
    };
    if word(0) != MAGIC {
        return Err("NotARegion");
    }
    if u64::from_ne_bytes(word(8)) != 2 {
        return Err("LayoutVersion");
    }
    let ring_bytes = usize::try_from(u64::from_ne_bytes(word(16))).expect("64 bits");
    let whole = is_ring_size(ring_bytes) && HEADER_BYTES + 2 * ring_bytes as u64 == file_bytes;
    if whole { Ok(ring_bytes) } else { Err("Geometry") }
}

fn name(error: &AttachError) -> &'static str {
    match error {
        AttachError::Io(_) => "Io",
        AttachError::NotSealed => "NotSealed",
        AttachError::NotARegion => "NotARegion",
        AttachError::LayoutVersion(_) => "LayoutVersion",
        AttachError::Geometry { .. } => "Geometry",
        _ => "an error that is not documented",
    }
}

fn use_it(region: Region, file: &File, input: &mut Input<'_>) {
    let ring_bytes = region.ring_bytes();
    let (here, mut there) = UnixStream::pair().expect("a socket pair");
    there.set_nonblocking(true).expect("a socket");
    let mut channel = Channel::new(region.into_endpoint(), here.into());
    let mut buffer = vec![0xEE; 2 * ring_bytes + 256];
    while !input.is_empty() {
        let length = input.length(ring_bytes);
        let result = match input.below(6) {
            0 | 1 => channel.try_read(&mut buffer[..length]),
            2 | 3 => channel.try_write(&buffer[..length]),
            4 => {
                let holes = FallocateFlags::PUNCH_HOLE | FallocateFlags::KEEP_SIZE;
                let offset = u64::from(input.byte()) * 64;
                let result = rustix::fs::fallocate(file, holes, offset, 1 + length as u64);
                // The writing seals forbid it, but then nothing is attached.
                assert_eq!(result, Ok(()));
                Ok(0)
            }
            _ => {
                drop(there.write(&[input.byte() / 128]));
                Ok(0)
            }
        };
        match result {
            Ok(count) => assert!(count <= length.min(ring_bytes)),
            Err(error) => assert!(is_documented(error.kind()), "{error}"),
        }
        scribble(file, input);
    }
}

fn is_documented(kind: ErrorKind) -> bool {
    matches!(kind, ErrorKind::WouldBlock | ErrorKind::BrokenPipe | ErrorKind::InvalidData)
}
