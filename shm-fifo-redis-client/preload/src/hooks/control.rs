//! Descriptors that travel with messages (`SCM_RIGHTS`, unix(7)).
#![allow(unsafe_code)]

use crate::c_library::length_in_message;
use libc::{c_int, cmsghdr, msghdr};
use std::iter::from_fn;
use std::ops::Range;

const HEAD: usize = size_of::<cmsghdr>();
const DESCRIPTOR: usize = size_of::<c_int>();

/// Those of a message, in order.
///
/// # Safety
/// A message whose control part is whole headers: of a program that sends it, or from the
/// kernel.
pub(super) unsafe fn descriptors(message: *const msghdr) -> impl Iterator<Item = c_int> {
    // SAFETY: the caller's contract.
    let message = unsafe { &*message };
    let control = message.msg_control.cast_const().cast::<u8>();
    let room = if control.is_null() { 0 } else { length_in_message(message.msg_controllen) };
    let mut from = 0;
    let bodies = from_fn(move || {
        // SAFETY: the caller's contract.
        let (header, end) = unsafe { header(control, from, room) }?;
        let is_rights =
            (header.cmsg_level, header.cmsg_type) == (libc::SOL_SOCKET, libc::SCM_RIGHTS);
        let body = from + HEAD..end;
        from = end.next_multiple_of(size_of::<usize>());
        Some(if is_rights { body } else { Range::default() })
    });
    bodies.flat_map(move |body| {
        (0..body.len() / DESCRIPTOR).map(move |index| {
            // SAFETY: within a part of the caller's, in any alignment.
            unsafe { control.add(body.start).cast::<c_int>().add(index).read_unaligned() }
        })
    })
}

/// The header that stands at `from`, and where its part ends; nothing where none has room, as
/// the kernel sees it.
///
/// # Safety
/// `room` bytes are there.
unsafe fn header(control: *const u8, from: usize, room: usize) -> Option<(cmsghdr, usize)> {
    room.checked_sub(from)?.checked_sub(HEAD)?;
    // SAFETY: it has room.
    let header = unsafe { control.add(from).cast::<cmsghdr>().read_unaligned() };
    let length = length_in_message(header.cmsg_len);
    (HEAD <= length && length <= room - from).then_some((header, from + length))
}
