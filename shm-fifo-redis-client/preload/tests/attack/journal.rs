//! What a driver has done: a file that it maps, so that nothing is lost when it is killed.
//! Its layout is that of `driver/journal.h`.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

const MAX_CONNECTIONS: u64 = 1 << 16;
const HEAD_BYTES: u64 = 64;
const ENTRY_BYTES: u64 = 32;
const TEXT_AT: u64 = HEAD_BYTES + MAX_CONNECTIONS * ENTRY_BYTES;
const TEXT_BYTES: u64 = 8 << 20;

/// The file.
#[derive(Debug)]
pub(crate) struct Journal(File);

/// What a driver has written on a connection, by its calls' success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) id: u64,
    pub(crate) requests: u64,
    /// The server may lose some, for it ended the connection.
    pub(crate) may_be_lost: bool,
}

impl Journal {
    pub(crate) fn create(path: &Path) -> io::Result<Self> {
        let file = File::options().read(true).write(true).create(true).truncate(true).open(path)?;
        file.set_len(TEXT_AT + TEXT_BYTES)?;
        Ok(Self(file))
    }

    fn word(&self, at: u64) -> u64 {
        let mut bytes = [0; 8];
        self.0.read_exact_at(&mut bytes, at).map_or(0, |()| u64::from_le_bytes(bytes))
    }

    pub(crate) fn steps(&self) -> u64 {
        self.word(0)
    }

    /// Whether the driver came to its end.
    pub(crate) fn has_finished(&self) -> bool {
        self.word(8) != 0
    }

    /// Calls of the C library that were made.
    pub(crate) fn calls(&self) -> u64 {
        self.word(16)
    }

    /// Whether the library has seen the program wait for this connection.
    pub(crate) fn was_seen_waiting(&self, id: u64) -> bool {
        id < MAX_CONNECTIONS && self.word(HEAD_BYTES + id * ENTRY_BYTES + 8) != 0
    }

    pub(crate) fn written(&self, id: u64) -> Written {
        let at = HEAD_BYTES + id * ENTRY_BYTES;
        Written { id, requests: self.word(at), may_be_lost: self.word(at + 16) != 0 }
    }

    /// What the driver said of each of its steps, as much of it as there is room for.
    pub(crate) fn text(&self) -> String {
        let used = self.word(24);
        let kept = used.min(TEXT_BYTES);
        let mut text = vec![0; usize::try_from(kept).unwrap_or(0)];
        // It is a ring.
        let from = if used > TEXT_BYTES { used % TEXT_BYTES } else { 0 };
        let (first, second) = text.split_at_mut(usize::try_from(kept - from).unwrap_or(0));
        drop(self.0.read_exact_at(first, TEXT_AT + from));
        drop(self.0.read_exact_at(second, TEXT_AT));
        String::from_utf8_lossy(&text).into_owned()
    }
}
