//! Whether the pages of a file in memory may come when they are first used.
//!
//! A page that the system cannot give then is missed as any page of a program's heap is: the
//! kernel looks for something to reclaim and, if there is nothing, ends a process. That is so
//! in a full control group as well. But pages of a memfd are *committed* one by one, and one
//! that may not be is a SIGBUS for whoever touches it (`shmem_inode_acct_blocks` in the
//! kernel's `mm/shmem.c`). With `vm.overcommit_memory` 2 that is how a full machine shows;
//! with 0 and 1 a single page may always be committed, since Linux 5.2.
#![allow(unsafe_code)]

use std::fs;

const SETTING: &str = "/proc/sys/vm/overcommit_memory";

/// Whether no access to a page that has not been allocated can be a SIGBUS here.
pub(crate) fn pages_may_come_when_used() -> bool {
    is_linux_5_4() && fs::read(SETTING).is_ok_and(|setting| commits_any_page(&setting))
}

fn commits_any_page(setting: &[u8]) -> bool {
    matches!(setting.trim_ascii_end(), b"0" | b"1")
}

/// By an advice that came with it, about no memory at all: an older kernel does not know it.
fn is_linux_5_4() -> bool {
    // SAFETY: a range without a byte.
    unsafe { libc::madvise(std::ptr::null_mut(), 0, libc::MADV_COLD) == 0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_settings_that_are_known_to_commit_any_page_count() {
        for (setting, commits) in [
            ("0\n", true),
            ("1\n", true),
            ("2\n", false),
            ("3\n", false),
            ("", false),
            ("10\n", false),
        ] {
            assert_eq!(commits_any_page(setting.as_bytes()), commits, "{setting:?}");
        }
    }
}
