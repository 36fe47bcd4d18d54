//! Descriptors that come in place of a region, each with one thing wrong with it.

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use shm_fifo::Region;
use shm_fifo::region::RING_BYTES_RANGE;
use std::fs::File;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt as _;

/// How far a file is from a region; all of it 0 and sealed is one.
#[derive(Debug, Clone, Copy)]
pub(super) struct Forged {
    magic_off_by: u64,
    version_off_by: u64,
    /// In the smallest rings there are.
    ring_size: usize,
    /// The ring size that the file's length would be right for.
    file_for: usize,
    is_sealed: bool,
}

const GOOD: Forged =
    Forged { magic_off_by: 0, version_off_by: 0, ring_size: 1, file_for: 1, is_sealed: true };

pub(super) const UNSEALED: Forged = Forged { is_sealed: false, ..GOOD };
pub(super) const WRONG_MAGIC: Forged = Forged { magic_off_by: 1, ..GOOD };
pub(super) const WRONG_VERSION: Forged = Forged { version_off_by: 1, ..GOOD };
pub(super) const WRONG_SIZE: Forged = Forged { file_for: 2, ..GOOD };
pub(super) const UNEVEN_RINGS: Forged = Forged { ring_size: 3, file_for: 3, ..GOOD };

impl Forged {
    pub(super) fn make(self) -> io::Result<OwnedFd> {
        let least = *RING_BYTES_RANGE.start();
        let [magic, version] = first_words_of_a_region(least)?;
        let words = [
            magic + self.magic_off_by,
            version + self.version_off_by,
            (self.ring_size * least) as u64,
        ];
        let file = memfd_create("forged", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
        ftruncate(&file, Region::bytes_with_rings_of(self.file_for * least) as u64)?;
        let file = File::from(file);
        file.write_all_at(&words.map(u64::to_ne_bytes).concat(), 0)?;
        if self.is_sealed {
            fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
        }
        Ok(file.into())
    }
}

/// Its magic and its version.
fn first_words_of_a_region(ring_bytes: usize) -> io::Result<[u64; 2]> {
    let file = File::from(Region::create(ring_bytes)?.fd()?);
    let mut words = [[0; 8]; 2];
    for (word, offset) in words.iter_mut().zip([0, 8]) {
        file.read_exact_at(word, offset)?;
    }
    Ok(words.map(u64::from_ne_bytes))
}

/// Nothing that could be mapped at all.
pub(super) fn pipe() -> io::Result<OwnedFd> {
    io::pipe().map(|(reader, _)| reader.into())
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "it is how a test fails")]
mod tests {
    use super::*;
    use shm_fifo::region::AttachError;

    #[test]
    fn each_is_refused_for_the_one_thing_that_is_wrong_with_it() {
        let refusal = |forged: Forged| Region::attach(forged.make().unwrap()).unwrap_err();

        assert!(Region::attach(GOOD.make().unwrap()).is_ok());
        assert!(matches!(refusal(UNSEALED), AttachError::NotSealed));
        assert!(matches!(refusal(WRONG_MAGIC), AttachError::NotARegion));
        assert!(matches!(refusal(WRONG_VERSION), AttachError::LayoutVersion(3)));
        assert!(matches!(refusal(WRONG_SIZE), AttachError::Geometry { .. }));
        assert!(matches!(refusal(UNEVEN_RINGS), AttachError::NotARegion));
    }
}
