//! Where reports go.

use crate::sys;
use std::ffi::{CString, OsStr};
use std::os::fd::RawFd;
use std::os::unix::ffi::OsStrExt;

#[derive(Debug)]
pub(super) enum Place {
    /// As it was when the program began: a number may be another file's by now.
    Stderr(Option<(u64, u64)>),
    File(CString),
}

impl Place {
    pub(super) fn stderr() -> Self {
        Self::Stderr(sys::identity(libc::STDERR_FILENO))
    }

    /// `stderr` or an absolute path: the program may change its directory.
    pub(super) fn parse(text: &OsStr) -> Option<Self> {
        if text == "stderr" {
            return Some(Self::stderr());
        }
        let path = text.as_bytes();
        // A variable of the environment has no NUL.
        path.starts_with(b"/").then(|| CString::new(path).ok().map(Self::File)).flatten()
    }

    /// By one system call, so that the reports of processes do not mix. Whoever gives a
    /// place that cannot be written to hears nothing.
    pub(super) fn write(&self, bytes: &[u8]) {
        match self {
            Self::Stderr(as_begun) => {
                if as_begun.is_some() && *as_begun == sys::identity(libc::STDERR_FILENO) {
                    write(libc::STDERR_FILENO, bytes);
                }
            }
            Self::File(path) => {
                let flags = libc::O_WRONLY
                    | libc::O_APPEND
                    | libc::O_CREAT
                    | libc::O_CLOEXEC
                    | libc::O_NOCTTY
                    | libc::O_NONBLOCK;
                let mode: libc::mode_t = 0o644;
                // SAFETY: a C string.
                let fd = unsafe {
                    libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode)
                };
                let Some(fd) = RawFd::try_from(fd).ok().filter(|&fd| fd >= 0) else { return };
                write(fd, bytes);
                // SAFETY: opened above, and nobody else's.
                unsafe { libc::syscall(libc::SYS_close, fd) };
            }
        }
    }
}

/// The system call itself: the C library's function is one of our hooks.
fn write(fd: RawFd, bytes: &[u8]) {
    // SAFETY: the pointer and the length of a live slice.
    unsafe { libc::syscall(libc::SYS_write, fd, bytes.as_ptr(), bytes.len()) };
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use std::fs;

    #[test]
    fn a_file_is_made_and_then_appended_to() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("report");
        let place = Place::parse(path.as_os_str()).unwrap();
        place.write(b"one\n");
        place.write(b"two\n");
        assert_eq!(fs::read(&path).unwrap(), b"one\ntwo\n");
    }

    #[test]
    fn a_place_that_is_not_there_is_not_written_to() {
        let directory = tempfile::tempdir().unwrap();
        for path in [directory.path().join("no/report"), directory.path().to_owned()] {
            Place::parse(path.as_os_str()).unwrap().write(b"lost\n");
        }
        assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
    }

    #[test]
    fn other_texts_are_no_places() {
        for text in ["", "report", "./report", "STDERR", "2"] {
            assert!(Place::parse(OsStr::new(text)).is_none(), "{text}");
        }
    }
}
