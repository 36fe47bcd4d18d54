//! What is to be moved, and when: two variables of the environment.
#![allow(unsafe_code)]

use libc::{sockaddr, socklen_t};
use std::ffi::OsString;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;

/// `unix:/path/of.sock`, or `tcp:127.0.0.1:6379,[::1]:6379`.
const ENDPOINT: &str = "SHM_FIFO_ENDPOINT";
/// After how many answered commands a connection moves.
const AFTER_COMMANDS: &str = "SHM_FIFO_AFTER_COMMANDS";
/// A connection that lived so long is worth the move's cost.
const DEFAULT_AFTER_COMMANDS: u64 = 16;

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What the environment said when the program started.
#[derive(Debug)]
pub(crate) struct Settings {
    endpoint: Endpoint,
    pub(crate) after_commands: u64,
}

#[derive(Debug, PartialEq, Eq)]
enum Endpoint {
    Unix(PathBuf),
    Tcp(Vec<SocketAddr>),
}

/// Reads the environment. Nothing is moved where it says nothing.
pub(crate) fn read() {
    let Some(endpoint) = std::env::var_os(ENDPOINT).and_then(Endpoint::parse) else { return };
    let after_commands = std::env::var(AFTER_COMMANDS)
        .ok()
        .and_then(|number| number.parse().ok())
        .unwrap_or(DEFAULT_AFTER_COMMANDS);
    // Read once: whoever was first read the same.
    SETTINGS.set(Settings { endpoint, after_commands }).ok();
}

/// The settings, if this program's connections are to be moved.
pub(crate) fn get() -> Option<&'static Settings> {
    SETTINGS.get()
}

impl Settings {
    /// Whether the endpoint's sockets can carry no file descriptors.
    pub(crate) fn is_tcp(&self) -> bool {
        matches!(self.endpoint, Endpoint::Tcp(_))
    }

    /// Whether connecting to this address is connecting to the endpoint.
    ///
    /// # Safety
    /// `length` readable bytes, as for `connect(2)`.
    pub(crate) unsafe fn is_endpoint(&self, address: *const sockaddr, length: socklen_t) -> bool {
        let length = usize::try_from(length).unwrap_or(0);
        if address.is_null() {
            return false;
        }
        // SAFETY: the caller's contract.
        let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) };
        match &self.endpoint {
            Endpoint::Unix(path) => unix_path(bytes).is_some_and(|other| is_same_file(path, other)),
            Endpoint::Tcp(addresses) => {
                tcp_address(bytes).is_some_and(|address| addresses.contains(&address))
            }
        }
    }
}

impl Endpoint {
    fn parse(text: OsString) -> Option<Self> {
        if let Some(path) = text.as_bytes().strip_prefix(b"unix:") {
            return Some(Self::Unix(OsString::from_vec(path.to_vec()).into()));
        }
        let addresses = text.to_str()?.strip_prefix("tcp:")?.split(',');
        let addresses: Result<Vec<SocketAddr>, _> = addresses.map(str::parse).collect();
        let canonical = |address: SocketAddr| canonical(address.ip(), address.port());
        addresses.ok().map(|all| Self::Tcp(all.into_iter().map(canonical).collect()))
    }
}

/// One socket file may have several names.
fn is_same_file(one: &Path, other: &Path) -> bool {
    let identity = |path| fs::metadata(path).ok().map(|file| (file.dev(), file.ino()));
    one == other || identity(one).is_some_and(|file| identity(other) == Some(file))
}

fn family(bytes: &[u8]) -> Option<i32> {
    Some(i32::from(u16::from_ne_bytes([*bytes.first()?, *bytes.get(1)?])))
}

fn unix_path(bytes: &[u8]) -> Option<&Path> {
    if family(bytes)? != libc::AF_UNIX {
        return None;
    }
    let path = bytes[2..].split(|&byte| byte == 0).next().filter(|path| !path.is_empty())?;
    Some(Path::new(std::ffi::OsStr::from_bytes(path)))
}

fn tcp_address(bytes: &[u8]) -> Option<SocketAddr> {
    let port = u16::from_be_bytes([*bytes.get(2)?, *bytes.get(3)?]);
    match family(bytes)? {
        libc::AF_INET => {
            let ip: [u8; 4] = bytes.get(4..8)?.try_into().ok()?;
            Some(canonical(Ipv4Addr::from(ip).into(), port))
        }
        libc::AF_INET6 => {
            let ip: [u8; 16] = bytes.get(8..24)?.try_into().ok()?;
            Some(canonical(Ipv6Addr::from(ip).into(), port))
        }
        _ => None,
    }
}

/// An IPv4 address has two forms.
fn canonical(ip: IpAddr, port: u16) -> SocketAddr {
    SocketAddr::new(ip.to_canonical(), port)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn parse(text: &str) -> Option<Endpoint> {
        Endpoint::parse(text.into())
    }

    #[test]
    fn an_endpoint_is_a_path_or_addresses() {
        assert_eq!(parse("unix:/run/r,1.sock"), Some(Endpoint::Unix("/run/r,1.sock".into())));
        let two = parse("tcp:127.0.0.1:7,[::ffff:127.0.0.2]:8").unwrap();
        let addresses = ["127.0.0.1:7", "127.0.0.2:8"].map(|text| text.parse().unwrap());
        assert_eq!(two, Endpoint::Tcp(addresses.to_vec()));
        for text in ["", "tcp:", "tcp:localhost", "udp:127.0.0.1:1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }

    #[test]
    fn socket_addresses_are_read_as_the_kernel_does() {
        let mut unix = vec![1, 0];
        unix.extend(b"/r.sock\0rest");
        assert_eq!(unix_path(&unix), Some(Path::new("/r.sock")));
        assert_eq!(unix_path(&[1, 0, 0, b'a']), None);
        assert_eq!(
            tcp_address(&[2, 0, 0, 80, 127, 0, 0, 1]),
            Some("127.0.0.1:80".parse().unwrap())
        );
        assert_eq!(tcp_address(&[2, 0, 0]), None);
    }
}
