//! The end of every connection that this process has, whoever made it: a read that
//! waits for a server's answer then sees the end of the stream.
#![allow(unsafe_code, reason = "descriptors of others are named by their numbers")]

use std::fs;

/// Ends them.
pub(super) fn end_all() {
    let listed = fs::read_dir("/proc/self/fd").into_iter().flatten().flatten();
    let numbers = listed.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    numbers.filter(|&fd| is_own(fd)).for_each(end);
}

/// What was inherited is not ours to end. It is not close-on-exec, or it would not
/// have come here; what this program opens is.
fn is_own(fd: i32) -> bool {
    // SAFETY: only asks for a number's flags, and fails if it is no descriptor.
    let flags = unsafe { libc::fcntl(fd, libc::F_GETFD) };
    flags >= 0 && flags & libc::FD_CLOEXEC != 0
}

fn end(fd: i32) {
    // SAFETY: touches no memory and closes nothing. If the number was closed since, the
    // call fails, or it ends a connection made since, as if that had been a little older.
    // What is no socket, or no connected one, is left as it is.
    unsafe { libc::shutdown(fd, libc::SHUT_RDWR) };
}

// One by one: other tests have connections of their own.
#[cfg(test)]
mod tests {
    use super::*;
    use rustix::io::{FdFlags, fcntl_setfd};
    use std::io::Read;
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    #[test]
    fn what_waits_for_a_connection_sees_its_end() {
        let (mut ours, _peer) = UnixStream::pair().expect("a pair");
        let fd = ours.as_raw_fd();
        let reader = std::thread::spawn(move || ours.read(&mut [0]));
        end(fd);
        assert_eq!(reader.join().expect("no panic").expect("the end"), 0);
    }

    #[test]
    fn what_was_inherited_is_told_apart() {
        let (socket, _peer) = UnixStream::pair().expect("a pair");
        assert!(is_own(socket.as_raw_fd()));
        fcntl_setfd(&socket, FdFlags::empty()).expect("a flag");
        assert!(!is_own(socket.as_raw_fd()));
        assert!(!is_own(-1));
    }
}
