//! What is to be moved, and when: two variables of the environment, which
//! `docs/preload.md` explains to those who set them.
#![allow(unsafe_code)]

mod endpoints;

use endpoints::{Endpoints, MalformedEndpoint};
use libc::{sockaddr, sockaddr_un, socklen_t};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

/// The servers: `unix:/run/redis/redis.sock tcp:127.0.0.1:7000-7005`.
const ENDPOINTS: &str = "SHM_FIFO_ENDPOINTS";
/// After how many answered commands a connection moves.
const AFTER_COMMANDS: &str = "SHM_FIFO_AFTER_COMMANDS";
/// A connection that lived so long is worth the move's cost.
const DEFAULT_AFTER_COMMANDS: u64 = 16;

static SETTINGS: OnceLock<Settings> = OnceLock::new();

/// What the environment said when the program started.
#[derive(Debug)]
pub(crate) struct Settings {
    endpoints: Endpoints,
    pub(crate) after_commands: u64,
}

/// The kind of socket by which a connection to an endpoint is made.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Endpoint {
    Unix,
    /// It can carry no file descriptors.
    Tcp,
}

/// One of the servers, by the address that a connection is made to.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Server {
    pub(crate) endpoint: Endpoint,
    /// That of no other address.
    pub(crate) number: u64,
}

/// Why nothing is moved.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Unusable {
    NoEndpoints,
    Endpoint(MalformedEndpoint),
    AfterCommands(OsString),
}

/// Reads the environment.
///
/// # Errors
/// Nothing is moved where it says nothing, or says something that is not understood.
pub(crate) fn read() -> Result<(), Unusable> {
    let settings = Settings::new(env::var_os(ENDPOINTS), env::var_os(AFTER_COMMANDS))?;
    // Read once: whoever was first read the same.
    SETTINGS.set(settings).ok();
    Ok(())
}

/// The settings, if this program's connections are to be moved.
pub(crate) fn get() -> Option<&'static Settings> {
    SETTINGS.get()
}

impl Settings {
    fn new(
        endpoints: Option<OsString>,
        after_commands: Option<OsString>,
    ) -> Result<Self, Unusable> {
        let endpoints = endpoints.as_deref().unwrap_or(OsStr::new(""));
        let endpoints = Endpoints::parse(endpoints.as_bytes()).map_err(Unusable::Endpoint)?;
        if endpoints.is_empty() {
            return Err(Unusable::NoEndpoints);
        }
        let after_commands = match after_commands {
            None => DEFAULT_AFTER_COMMANDS,
            Some(text) => number(&text).ok_or(Unusable::AfterCommands(text))?,
        };
        Ok(Self { endpoints, after_commands })
    }

    /// Which server a connection to this address reaches; `None` if it is none of them.
    ///
    /// Allocates nothing and takes no lock: a signal handler may connect.
    ///
    /// # Safety
    /// `length` readable bytes, as for `connect(2)`.
    pub(crate) unsafe fn server(
        &self,
        address: *const sockaddr,
        length: socklen_t,
    ) -> Option<Server> {
        // No address of the kinds that are looked for is longer.
        let length = usize::try_from(length).ok()?.min(size_of::<sockaddr_un>());
        if address.is_null() {
            return None;
        }
        // SAFETY: the caller's contract.
        let bytes = unsafe { std::slice::from_raw_parts(address.cast::<u8>(), length) };
        self.endpoints.find(bytes)
    }
}

fn number(text: &OsStr) -> Option<u64> {
    text.to_str()?.trim().parse().ok()
}

impl fmt::Display for Unusable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoEndpoints => write!(
                f,
                "{ENDPOINTS} names no server; set it to one, as unix:/run/redis/redis.sock or \
                 tcp:127.0.0.1:6379"
            ),
            Self::Endpoint(malformed) => write!(f, "{ENDPOINTS}: {malformed}"),
            Self::AfterCommands(text) => {
                write!(f, "{AFTER_COMMANDS}: {text:?} is no number of commands")
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn settings(endpoints: &str, after: Option<&str>) -> Result<Settings, Unusable> {
        Settings::new(Some(endpoints.into()), after.map(OsString::from))
    }

    fn find(settings: &Settings, address: &[u8]) -> Option<Endpoint> {
        let length = socklen_t::try_from(address.len()).unwrap();
        // SAFETY: the pointer and the length of a live slice.
        unsafe { settings.server(address.as_ptr().cast(), length) }.map(|server| server.endpoint)
    }

    #[test]
    fn a_program_moves_to_what_is_named_after_so_many_commands() {
        let settings = settings("tcp:127.0.0.1:80 unix:/r.sock", None).unwrap();
        assert_eq!(settings.after_commands, DEFAULT_AFTER_COMMANDS);
        assert_eq!(find(&settings, &[2, 0, 0, 80, 127, 0, 0, 1]), Some(Endpoint::Tcp));
        assert_eq!(find(&settings, b"\x01\0/r.sock"), Some(Endpoint::Unix));
        // SAFETY: null is allowed for.
        assert!(unsafe { settings.server(std::ptr::null(), 16) }.is_none());
    }

    #[test]
    fn an_address_is_no_longer_than_the_longest() {
        let settings = settings("unix:/r.sock", None).unwrap();
        // Of so many bytes, only those of an address may be looked at: no page follows.
        let address = b"\x01\0/r.sock\0";
        let mut page = [0; size_of::<sockaddr_un>()];
        page[..address.len()].copy_from_slice(address);
        // SAFETY: more bytes than an address has are not looked at.
        let found = unsafe { settings.server(page.as_ptr().cast(), socklen_t::MAX) };
        assert_eq!(found.map(|server| server.endpoint), Some(Endpoint::Unix));
    }

    #[test]
    fn after_how_many_is_a_number() {
        let after = |text| settings("tcp:127.0.0.1:80", Some(text));
        assert_eq!(after(" 3 ").unwrap().after_commands, 3);
        for text in ["", "three", "-1", "99999999999999999999"] {
            assert_eq!(after(text).unwrap_err(), Unusable::AfterCommands(text.into()), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_used_says_which_variable_it_is() {
        let reason = |endpoints, after| settings(endpoints, after).unwrap_err().to_string();
        let nothing = reason(" ,", None);
        assert!(nothing.starts_with("SHM_FIFO_ENDPOINTS names no server; "), "{nothing}");
        assert_eq!(Settings::new(None, None).unwrap_err(), Unusable::NoEndpoints);
        let malformed = reason("tcp:127.0.0.1:6379 redis.sock", None);
        assert!(malformed.starts_with("SHM_FIFO_ENDPOINTS: redis.sock "), "{malformed}");
        let after = reason("tcp:127.0.0.1:6379", Some("many"));
        assert_eq!(after, "SHM_FIFO_AFTER_COMMANDS: \"many\" is no number of commands");
    }
}
