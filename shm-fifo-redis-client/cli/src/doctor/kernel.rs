//! What the kernel offers to a process in this place.

use super::check::Check;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::process::{PidfdFlags, getpid, pidfd_open};
use std::fs;

const KERNEL: &str = "kernel";
/// The first with `SO_PEERPIDFD`.
const PEER_PIDFD: (u32, u32) = (6, 5);

/// A client needs none of this; a server under the same rules needs the first.
pub(super) fn check() -> Check {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let release = release.trim();
    if let Err(error) = sealed_memfd() {
        return Check::note(
            KERNEL,
            format!("Linux {release}; no sealed memfd can be made here: {error}"),
            "allow memfd_create in the seccomp profile, if the server has the same",
        );
    }
    let pidfd = pidfd_open(getpid(), PidfdFlags::empty()).is_ok();
    let peer_pidfd = version(release).is_some_and(|version| version >= PEER_PIDFD);
    let has = |name: &str, has: bool| if has { name.to_owned() } else { format!("no {name}") };
    Check::ok(
        KERNEL,
        format!(
            "Linux {release}: memfd and seals, {}, {}",
            has("pidfd", pidfd),
            has("SO_PEERPIDFD", peer_pidfd)
        ),
    )
}

fn sealed_memfd() -> rustix::io::Result<()> {
    let file = memfd_create("redis-shm-doctor", MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING)?;
    ftruncate(&file, 4096)?;
    fcntl_add_seals(&file, SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)
}

/// The first two numbers of `6.18.44-generic`.
fn version(release: &str) -> Option<(u32, u32)> {
    let mut numbers = release.split(['.', '-']).map(|number| number.parse().ok());
    Some((numbers.next()??, numbers.next()??))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_compared_as_numbers() {
        assert_eq!(version("6.18.44-generic"), Some((6, 18)));
        assert_eq!(version("6.5-rc1"), Some((6, 5)));
        assert!(version("6.18") > Some(PEER_PIDFD) && version("5.15.0") < Some(PEER_PIDFD));
        assert_eq!(version("unknown"), None);
    }
}
