//! Passing one file descriptor with a message (`SCM_RIGHTS`, unix(7)).
#![allow(unsafe_code)]

use std::io;
use std::mem::{size_of, zeroed};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Room for what may come with a message beside a descriptor: who has sent it, when, and
/// its security label, if the socket asks for them (socket(7), unix(7)).
const CONTROL_BYTES: usize = 512;

/// A control buffer, aligned as `cmsghdr` wants.
#[repr(C, align(8))]
struct ControlBuffer([u8; CONTROL_BYTES]);

/// An address of the abstract unix socket namespace, as the kernel's autobind
/// gives them: a zero byte and five hexadecimal digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AbstractAddress([u8; 5]);

impl AbstractAddress {
    /// The address with these five digits, without the leading zero byte.
    ///
    /// `None` if they are not five lower-case hexadecimal digits.
    #[must_use]
    pub fn from_digits(digits: &[u8]) -> Option<Self> {
        let is_digit = |byte: &u8| byte.is_ascii_digit() || (b'a'..=b'f').contains(byte);
        let digits: [u8; 5] = digits.try_into().ok()?;
        digits.iter().all(is_digit).then_some(Self(digits))
    }

    /// The five digits.
    #[must_use]
    pub fn digits(&self) -> &[u8; 5] {
        &self.0
    }

    fn to_sockaddr(self) -> (libc::sockaddr_un, libc::socklen_t) {
        // SAFETY: a plain C struct, for which zeros are valid.
        let mut address: libc::sockaddr_un = unsafe { zeroed() };
        address.sun_family = ADDRESS_FAMILY;
        for (target, digit) in address.sun_path[1..].iter_mut().zip(self.0) {
            *target = libc::c_char::from_ne_bytes([digit]);
        }
        (address, AUTOBIND_LENGTH)
    }
}

/// `AF_UNIX`, of the type that addresses have.
const ADDRESS_FAMILY: libc::sa_family_t = 1;
/// Two bytes of family, the zero byte and the five digits.
const AUTOBIND_LENGTH: libc::socklen_t = 8;

/// Sends `bytes` and `fd` on a connected unix socket in one message, without
/// waiting and without SIGPIPE. Returns how many bytes went; the descriptor goes
/// with the first.
///
/// # Errors
/// What `sendmsg(2)` says; `WouldBlock` if the socket's buffer is full.
pub fn send_with_fd(socket: impl AsFd, bytes: &[u8], fd: BorrowedFd<'_>) -> io::Result<usize> {
    send(socket.as_fd(), None, bytes, fd)
}

/// As [`send_with_fd`], from an unconnected datagram socket to `address`.
///
/// # Errors
/// What `sendmsg(2)` says; `ConnectionRefused` if nobody has that address.
pub fn send_with_fd_to(
    socket: impl AsFd,
    address: AbstractAddress,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
) -> io::Result<usize> {
    send(socket.as_fd(), Some(address), bytes, fd)
}

fn send(
    socket: BorrowedFd<'_>,
    address: Option<AbstractAddress>,
    bytes: &[u8],
    fd: BorrowedFd<'_>,
) -> io::Result<usize> {
    let mut name = address.map(AbstractAddress::to_sockaddr);
    let mut span = libc::iovec { iov_base: bytes.as_ptr().cast_mut().cast(), iov_len: bytes.len() };
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    if let Some((address, length)) = &mut name {
        message.msg_name = (&raw mut *address).cast();
        message.msg_namelen = *length;
    }
    message.msg_iov = &raw mut span;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = control_space(1);
    // SAFETY: the message has a control buffer with room for one header.
    let header = unsafe { libc::CMSG_FIRSTHDR(&raw const message) };
    // SAFETY: that header lies in `control`, which is aligned for it.
    let header = unsafe { &mut *header };
    header.cmsg_level = libc::SOL_SOCKET;
    header.cmsg_type = libc::SCM_RIGHTS;
    header.cmsg_len = control_length(1);
    // SAFETY: the data follows the header, inside the buffer.
    let data = unsafe { libc::CMSG_DATA(&raw const *header) }.cast::<RawFd>();
    // SAFETY: room for one descriptor, by `control_space(1)`.
    unsafe { data.write_unaligned(fd.as_raw_fd()) };
    let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
    // SAFETY: all that the message points to lives until the call returns.
    let sent =
        unsafe { libc::syscall(libc::SYS_sendmsg, socket.as_raw_fd(), &raw const message, flags) };
    usize::try_from(sent).map_err(|_| io::Error::last_os_error())
}

/// Receives bytes and, if one came with them, a file descriptor (close-on-exec).
///
/// `Ok((0, None))` is the end of a stream. Descriptors beyond the first, and all
/// of a message whose control part was cut, are closed: no peer can leak them
/// into this process.
///
/// # Errors
/// What `recvmsg(2)` says.
pub fn recv_with_fd(
    socket: impl AsFd,
    buffer: &mut [u8],
    flags: libc::c_int,
) -> io::Result<(usize, Option<OwnedFd>)> {
    let mut span = libc::iovec { iov_base: buffer.as_mut_ptr().cast(), iov_len: buffer.len() };
    let mut control = ControlBuffer([0; CONTROL_BYTES]);
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut message: libc::msghdr = unsafe { zeroed() };
    message.msg_iov = &raw mut span;
    message.msg_iovlen = 1;
    message.msg_control = (&raw mut control).cast();
    message.msg_controllen = CONTROL_BYTES as ControlLength;
    let flags = flags | libc::MSG_CMSG_CLOEXEC;
    let socket = socket.as_fd().as_raw_fd();
    // SAFETY: all that the message points to lives until the call returns.
    let got = unsafe { libc::syscall(libc::SYS_recvmsg, socket, &raw mut message, flags) };
    let got = usize::try_from(got).map_err(|_| io::Error::last_os_error())?;
    let (first, count) = received_fds(&message);
    let exactly_one = count == 1 && message.msg_flags & libc::MSG_CTRUNC == 0;
    Ok((got, first.filter(|_| exactly_one)))
}

/// Takes ownership of the descriptors in a received message, whatever else comes with it.
/// Returns the first, and how many there were; the others are closed.
fn received_fds(message: &libc::msghdr) -> (Option<OwnedFd>, usize) {
    let mut first = None;
    let mut total = 0;
    // SAFETY: the kernel filled the control buffer and its length.
    let mut next = unsafe { libc::CMSG_FIRSTHDR(&raw const *message) };
    // SAFETY: null, or a header inside the aligned control buffer.
    while let Some(header) = unsafe { next.as_ref() } {
        for fd in fds_behind(header) {
            total += 1;
            first = first.or(Some(fd));
        }
        // SAFETY: a header of this message, as the kernel filled it.
        next = unsafe { libc::CMSG_NXTHDR(&raw const *message, &raw const *header) };
    }
    (first, total)
}

/// The descriptors of one control message, each to be taken once.
fn fds_behind(header: &libc::cmsghdr) -> impl Iterator<Item = OwnedFd> {
    let has_fds = header.cmsg_level == libc::SOL_SOCKET
        && [libc::SCM_RIGHTS, SCM_PIDFD].contains(&header.cmsg_type);
    // SAFETY: the data follows the header.
    let data = unsafe { libc::CMSG_DATA(&raw const *header) }.cast::<RawFd>();
    let count = match has_fds {
        true => fds_in(header.cmsg_len),
        false => 0,
    };
    (0..count).filter_map(move |index| {
        // SAFETY: the kernel wrote `count` descriptors there.
        let fd = unsafe { data.add(index).read_unaligned() };
        // In place of a `SCM_PIDFD` that could not be made there is why, less than 0.
        // SAFETY: the kernel just made it for this process; nobody else owns it.
        (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })
    })
}

/// A descriptor of the sending process itself, which nobody here asks for (`socket.h`).
const SCM_PIDFD: libc::c_int = 4;

fn fds_bytes(fds: usize) -> libc::c_uint {
    libc::c_uint::try_from(fds * size_of::<RawFd>()).unwrap_or(libc::c_uint::MAX)
}

/// Lengths of control messages. To the kernel they are words; musl, which keeps to POSIX,
/// has half of one and padding, which is zero.
#[cfg(target_env = "musl")]
type ControlLength = libc::socklen_t;
#[cfg(not(target_env = "musl"))]
type ControlLength = libc::size_t;

fn control_space(fds: usize) -> ControlLength {
    // SAFETY: arithmetic only.
    unsafe { libc::CMSG_SPACE(fds_bytes(fds)) as ControlLength }
}

fn control_length(fds: usize) -> ControlLength {
    // SAFETY: arithmetic only.
    unsafe { libc::CMSG_LEN(fds_bytes(fds)) as ControlLength }
}

/// How many descriptors a control message of this length has.
fn fds_in(length: ControlLength) -> usize {
    (1..).take_while(|&fds| control_length(fds) <= length).count()
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
    use std::os::fd::IntoRawFd;

    /// How many descriptors a control message of this kind has, if it holds `fd`.
    fn count_behind(kind: libc::c_int, fd: RawFd) -> usize {
        let mut control = ControlBuffer([0; CONTROL_BYTES]);
        // SAFETY: the buffer is aligned for a header, has room for it, and zeros are one.
        let header = unsafe { &mut *(&raw mut control).cast::<libc::cmsghdr>() };
        header.cmsg_level = libc::SOL_SOCKET;
        header.cmsg_type = kind;
        header.cmsg_len = control_length(1);
        // SAFETY: the data follows the header, inside the buffer.
        let data = unsafe { libc::CMSG_DATA(&raw const *header) }.cast::<RawFd>();
        // SAFETY: room for one descriptor.
        unsafe { data.write_unaligned(fd) };
        // SAFETY: as in the first block; nobody writes to it any more.
        fds_behind(unsafe { &*(&raw const control).cast() }).count()
    }

    #[test]
    #[cfg_attr(miri, ignore = "the buffer is more than the header that a reference names")]
    fn what_is_in_place_of_a_descriptor_that_could_not_be_made_is_none() {
        let fd = || File::open("/dev/null").expect("a descriptor").into_raw_fd();
        assert_eq!(count_behind(SCM_PIDFD, fd()), 1);
        assert_eq!(count_behind(libc::SCM_RIGHTS, fd()), 1);
        assert_eq!(count_behind(SCM_PIDFD, -libc::EMFILE), 0);
        assert_eq!(count_behind(libc::SCM_CREDENTIALS, 0), 0);
    }
}
