//! Which file this code came from, and whether it is still that one.
//!
//! The library is never unmapped (a thread may be inside a hook), and the dynamic linker
//! knows it by its path: whoever replaces the file and loads the module again gets the old
//! code, and is told that all went well.
#![allow(unsafe_code)]

use std::ffi::{CStr, OsStr};
use std::fs;
use std::mem::zeroed;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// What tells a file from another one at the same path.
#[derive(Debug, PartialEq, Eq)]
struct Identity {
    device: u64,
    inode: u64,
    bytes: u64,
    changed_ns: (i64, i64),
}

/// That of the first load.
static LOADED: OnceLock<Option<Identity>> = OnceLock::new();

/// Whether this code is what is in the file that is being loaded.
///
/// # Errors
/// If not: what to do.
pub(crate) fn check() -> Result<(), String> {
    let Some(path) = path() else { return Ok(()) };
    let now = identity_of(&path);
    if *LOADED.get_or_init(|| identity_of(&path)) == now {
        return Ok(());
    }
    Err(format!(
        "{} is no longer the file that was loaded first, whose code stays in this process; load \
         the new one by a name of its own, as with its version in it, or restart the server",
        path.display()
    ))
}

/// The path by which the dynamic linker knows this library.
fn path() -> Option<PathBuf> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut info: libc::Dl_info = unsafe { zeroed() };
    // SAFETY: an address in this library, and a struct to write to.
    let found = unsafe { libc::dladdr((&raw const LOADED).cast(), &raw mut info) };
    if found == 0 || info.dli_fname.is_null() {
        return None;
    }
    // SAFETY: a C string of the dynamic linker's, for as long as the library is mapped.
    let name = unsafe { CStr::from_ptr(info.dli_fname) };
    Some(Path::new(OsStr::from_bytes(name.to_bytes())).to_owned())
}

fn identity_of(path: &Path) -> Option<Identity> {
    let metadata = fs::metadata(path).ok()?;
    Some(Identity {
        device: metadata.dev(),
        inode: metadata.ino(),
        bytes: metadata.size(),
        changed_ns: (metadata.mtime(), metadata.mtime_nsec()),
    })
}
