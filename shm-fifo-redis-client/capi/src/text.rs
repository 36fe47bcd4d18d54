//! Texts as C gets them.
#![allow(unsafe_code)]

use libc::c_char;

/// Writes as much of `text` as there is room for, and a zero behind it.
///
/// # Safety
/// `target` is NULL or has room for `room` bytes.
pub(crate) unsafe fn write(text: &str, target: *mut c_char, room: usize) {
    if target.is_null() || room == 0 {
        return;
    }
    let most = text.len().min(room - 1);
    let whole = (0..=most).rev().find(|&length| text.is_char_boundary(length));
    let length = whole.unwrap_or_default();
    // SAFETY: there is room for `length` bytes and one more, as the caller says; the
    // text is Rust's own, elsewhere.
    unsafe {
        target.copy_from_nonoverlapping(text.as_ptr().cast(), length);
        target.add(length).write(0);
    }
}

/// Writes why something failed; nothing, if it did not.
///
/// # Safety
/// As [`write`].
pub(crate) unsafe fn write_reason(
    failure: Option<&impl ToString>,
    target: *mut c_char,
    room: usize,
) {
    let text = failure.map(ToString::to_string).unwrap_or_default();
    // SAFETY: the caller's contract.
    unsafe { write(&text, target, room) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::ffi::CStr;

    fn written(text: &str, room: usize) -> String {
        let mut target = [0x7f_u8; 16];
        // SAFETY: it has at least that much room.
        unsafe { write(text, target.as_mut_ptr().cast(), room) };
        assert!(target[room..].iter().all(|&byte| byte == 0x7f), "written beyond its room");
        CStr::from_bytes_until_nul(&target).unwrap().to_str().unwrap().to_owned()
    }

    #[test]
    fn a_text_is_cut_where_its_room_ends_and_never_within_a_character() {
        assert_eq!(written("reason", 16), "reason");
        assert_eq!(written("reason", 7), "reason");
        assert_eq!(written("reason", 6), "reaso");
        assert_eq!(written("näh", 3), "n");
        assert_eq!(written("reason", 1), "");
    }

    #[test]
    fn no_room_is_fine() {
        // SAFETY: nothing is written.
        unsafe { write("reason", std::ptr::null_mut(), 5) };
    }
}
