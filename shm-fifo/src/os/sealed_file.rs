//! Memory as a file without a name, whose size nobody can change: whoever maps it is safe from
//! whoever else has it.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};

/// A memfd of `length` bytes whose size can never change again, the first `allocated` of which
/// have their memory.
pub(super) fn create(length: usize, allocated: usize) -> io::Result<OwnedFd> {
    refuse_above_file_size_limit(length)?;
    let file = memfd_create(libc::MFD_NOEXEC_SEAL).or_else(|error| match error.raw_os_error() {
        // Before Linux 6.3 the flag is unknown; what it asks for was not there.
        Some(libc::EINVAL) => memfd_create(0),
        _ => Err(error),
    })?;
    let offset = |bytes| libc::off_t::try_from(bytes).map_err(|_| io::ErrorKind::InvalidInput);
    // SAFETY: takes no pointer.
    check(unsafe { libc::ftruncate(file.as_raw_fd(), offset(length)?) })?;
    in_parts(offset(allocated)?, |start, part| {
        // SAFETY: takes no pointer.
        check(unsafe { libc::fallocate(file.as_raw_fd(), 0, start, part) }).map(drop)
    })?;
    let seals = libc::F_SEAL_SHRINK | libc::F_SEAL_GROW | libc::F_SEAL_SEAL;
    // SAFETY: takes no pointer.
    check(unsafe { libc::fcntl(file.as_raw_fd(), libc::F_ADD_SEALS, seals) })?;
    Ok(file)
}

/// Allocates the first `bytes` by `allocate`, in parts: where a signal interrupts it the kernel takes
/// back the part that it is at, and signals may come faster than a large one is done.
fn in_parts(
    bytes: libc::off_t,
    mut allocate: impl FnMut(libc::off_t, libc::off_t) -> io::Result<()>,
) -> io::Result<()> {
    const PART_BYTES: libc::off_t = 1 << 20;
    let mut start = 0;
    while start < bytes {
        let part = PART_BYTES.min(bytes - start);
        match allocate(start, part) {
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            result => start += result.map(|()| part)?,
        }
    }
    Ok(())
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
        return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
    }
    Ok(())
}

/// Whether nobody can ever make the file shorter.
pub(super) fn cannot_shrink(file: &impl AsFd) -> io::Result<bool> {
    // SAFETY: takes no pointer.
    match check(unsafe { libc::fcntl(file.as_fd().as_raw_fd(), libc::F_GET_SEALS) }) {
        // A file that can have no seals.
        Err(error) if error.raw_os_error() == Some(libc::EINVAL) => Ok(false),
        seals => Ok(seals? & libc::F_SEAL_SHRINK != 0),
    }
}

fn check(result: libc::c_int) -> io::Result<libc::c_int> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signals_do_not_keep_memory_from_being_allocated() {
        const BYTES: libc::off_t = (3 << 20) + 4096;
        let (mut calls, mut allocated) = (0, 0);
        let result = in_parts(BYTES, |start, part| {
            calls += 1;
            if calls % 3 != 0 {
                return Err(io::ErrorKind::Interrupted.into());
            }
            assert_eq!(start, allocated);
            allocated += part;
            Ok(())
        });
        assert!(result.is_ok());
        assert_eq!((calls, allocated), (12, BYTES));

        let result = in_parts(BYTES, |_, _| Err(io::ErrorKind::StorageFull.into()));
        assert_eq!(result.unwrap_err().kind(), io::ErrorKind::StorageFull);
    }
}
