//! Descriptors that travel with messages (`SCM_RIGHTS`, unix(7)).
#![allow(unsafe_code)]

use libc::{c_int, cmsghdr, msghdr};

/// Those of a message, in order.
///
/// # Safety
/// A message whose control part is whole headers: of a program that sends it, or from the
/// kernel.
pub(super) unsafe fn descriptors(message: *const msghdr) -> impl Iterator<Item = c_int> {
    // SAFETY: the caller's contract, here and for all that follows.
    let first = unsafe { libc::CMSG_FIRSTHDR(message) };
    let next = move |&header: &*mut cmsghdr| {
        // SAFETY: as above; the header before is not null.
        let next = unsafe { libc::CMSG_NXTHDR(message, header) };
        (!next.is_null()).then_some(next)
    };
    let headers = std::iter::successors((!first.is_null()).then_some(first), next);
    headers.flat_map(|header| {
        // SAFETY: as above.
        let control = unsafe { &*header };
        let is_rights =
            (control.cmsg_level, control.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        // SAFETY: arithmetic only.
        let head = unsafe { libc::CMSG_LEN(0) } as usize;
        let bytes = if is_rights { control.cmsg_len.saturating_sub(head) } else { 0 };
        // SAFETY: the data follows the header.
        let data = unsafe { libc::CMSG_DATA(header) }.cast::<c_int>();
        // SAFETY: so many descriptors are there, in any alignment.
        (0..bytes / size_of::<c_int>())
            .map(move |index| unsafe { data.add(index).read_unaligned() })
    })
}
