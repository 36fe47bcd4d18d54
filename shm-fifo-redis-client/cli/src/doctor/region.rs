//! The memory that the server offers: its size and its seals. It is offered to a
//! connection of its own, and closed instead of used.

use super::check::Check;
use crate::running::RunningServer;
use anyhow::{Context, ensure};
use rustix::fs::{SealFlags, fcntl_get_seals};
use shm_fifo::{Region, fd_passing};
use shm_fifo_redis_client::wire::{FdSocket, open_command};
use std::io::Write;

const REGION: &str = "region";

/// What the server seals its regions with.
const EXPECTED: [(SealFlags, &str); 3] = [
    (SealFlags::SHRINK, "shrinking"),
    (SealFlags::GROW, "growing"),
    (SealFlags::SEAL, "other seals"),
];

pub(super) fn check(server: &RunningServer) -> Check {
    match offered(server) {
        Ok((region, seals)) => judge(region.ring_bytes(), seals),
        Err(error) => {
            Check::note(REGION, format!("not looked at: {error:#}"), "run redis-shm doctor again")
        }
    }
}

fn offered(server: &RunningServer) -> anyhow::Result<(Region, SealFlags)> {
    let mut stream = server.connect_to(&server.endpoint.target())?;
    let fd_socket = match server.endpoint.socket {
        Some(_) => None,
        None => Some(FdSocket::bind().context("no socket for the descriptor")?),
    };
    stream.write_all(&open_command(fd_socket.as_ref()))?;
    let mut answer = [0; 256];
    let (count, beside) = fd_passing::recv_with_fd(&stream, &mut answer, 0)?;
    let answer = String::from_utf8_lossy(&answer[..count]);
    ensure!(answer.starts_with("+OK"), "the server answered {answer:?}");
    let fd = fd_socket.as_ref().map_or(beside, FdSocket::take_fd);
    let region = Region::attach(fd.context("no descriptor came")?)?;
    if fd_socket.is_some() {
        let named = answer == format!("+OK {}\r\n", region.token());
        ensure!(named, "a descriptor came that is not the server's");
    }
    let seals = fcntl_get_seals(region.fd()?)?;
    Ok((region, seals))
}

fn judge(ring_bytes: usize, seals: SealFlags) -> Check {
    let rings = format!("two rings of {} KiB", ring_bytes / 1024);
    let name = |sealed: bool| {
        let named = EXPECTED.iter().filter(|(seal, _)| seals.contains(*seal) == sealed);
        named.map(|(_, against)| *against).collect::<Vec<_>>().join(", ")
    };
    if EXPECTED.iter().all(|(seal, _)| seals.contains(*seal)) {
        return Check::ok(REGION, format!("{rings}, sealed against {}", name(true)));
    }
    Check::note(
        REGION,
        format!("{rings}, not sealed against {}", name(false)),
        "use the same version of shm-fifo in server and client",
    )
}

#[cfg(test)]
mod tests {
    use super::super::check::Status;
    use super::*;

    #[test]
    fn a_missing_seal_is_named() {
        let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        let good = judge(65_536, all);
        assert_eq!(good.status, Status::Ok);
        assert_eq!(
            good.detail,
            "two rings of 64 KiB, sealed against shrinking, growing, other seals"
        );
        let weak = judge(65_536, SealFlags::SHRINK);
        assert_eq!(weak.status, Status::Note);
        assert!(
            weak.detail.ends_with("not sealed against growing, other seals"),
            "{}",
            weak.detail
        );
    }
}
