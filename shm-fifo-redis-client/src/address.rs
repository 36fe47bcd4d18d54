//! Addresses: redis-rs' own, and `+shm` in the scheme.

use redis::{ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisError};
use std::fmt;
use std::str::FromStr;

/// Whether a connection is to move to shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum Sharing {
    /// It stays on its socket.
    Never,
    /// It moves if it can, else it stays on its socket.
    Preferred,
    /// It moves, or there is no connection.
    Required,
}

/// Where a server is and how to be connected to it.
///
/// | Address | |
/// |---|---|
/// | `redis+shm://[user:pass@]host[:port][/db][?protocol=resp3]` | by TCP, then shared memory |
/// | `redis+shm+unix:///path[?db=1&user=..&pass=..&protocol=resp3]` | by unix socket, then shared memory |
/// | any of these with `shm=require` behind the `?` | shared memory or an error |
/// | `redis://`, `redis+unix://`, `unix://` and the same with `valkey` | as redis-rs, never shared memory |
///
/// # Examples
/// ```
/// use shm_fifo_redis_client::{Address, Sharing};
///
/// let address: Address = "redis+shm+unix:///run/redis.sock?db=1&shm=require".parse()?;
/// assert_eq!(address.sharing(), Sharing::Required);
/// assert_eq!(address.info().redis_settings().db(), 1);
/// # Ok::<(), shm_fifo_redis_client::AddressError>(())
/// ```
#[derive(Clone)]
pub struct Address {
    info: ConnectionInfo,
    sharing: Sharing,
}

/// Why a text is no [`Address`].
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AddressError {
    /// It asks for TLS.
    #[error(
        "shared memory does not go through TLS; use redis+shm:// for a server on this host, and \
         redis-rs itself for TLS"
    )]
    Tls,
    /// The value of `shm=` is unknown.
    #[error("shm={0} is unknown; shm=require and shm=prefer are known")]
    Option(String),
    /// `shm=` belongs to another scheme.
    #[error("shm= needs a scheme with +shm: redis+shm:// or redis+shm+unix://")]
    OptionWithoutScheme,
    /// redis-rs does not accept the rest.
    #[error(
        "{0}; an address is like redis+shm://localhost:6379/0 or redis+shm+unix:///path/to.sock"
    )]
    Invalid(#[from] RedisError),
}

impl Address {
    /// What redis-rs knows of it.
    #[must_use]
    pub fn info(&self) -> &ConnectionInfo {
        &self.info
    }

    /// Whether connections are to move to shared memory.
    #[must_use]
    pub fn sharing(&self) -> Sharing {
        self.sharing
    }

    /// The same address with another wish.
    #[must_use]
    pub fn with_sharing(self, sharing: Sharing) -> Self {
        Self { sharing, ..self }
    }

    fn new(info: ConnectionInfo, sharing: Sharing) -> Result<Self, AddressError> {
        match info.addr() {
            ConnectionAddr::Tcp(..) | ConnectionAddr::Unix(_) => Ok(Self { info, sharing }),
            _ => Err(AddressError::Tls),
        }
    }
}

impl fmt::Display for Address {
    /// Host and port, or path: no password.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.info.addr().fmt(f)
    }
}

impl fmt::Debug for Address {
    /// As [`fmt::Display`], so that no password gets into a log.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Address")
            .field("addr", self.info.addr())
            .field("sharing", &self.sharing)
            .finish_non_exhaustive()
    }
}

impl FromStr for Address {
    type Err = AddressError;

    fn from_str(text: &str) -> Result<Self, AddressError> {
        let (scheme, rest) = text.split_once("://").unwrap_or(("", text));
        let (scheme, asks) = without_shm(scheme);
        if scheme == "rediss" || scheme == "valkeys" {
            return Err(AddressError::Tls);
        }
        let (rest, option) = without_option(rest);
        let sharing = match (asks, option.as_deref()) {
            (false, None) => Sharing::Never,
            (false, Some(_)) => return Err(AddressError::OptionWithoutScheme),
            (true, None | Some("prefer")) => Sharing::Preferred,
            (true, Some("require")) => Sharing::Required,
            (true, Some(unknown)) => return Err(AddressError::Option(unknown.to_owned())),
        };
        Self::new(format!("{scheme}://{rest}").into_connection_info()?, sharing)
    }
}

impl TryFrom<&str> for Address {
    type Error = AddressError;

    fn try_from(text: &str) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<String> for Address {
    type Error = AddressError;

    fn try_from(text: String) -> Result<Self, AddressError> {
        text.parse()
    }
}

impl TryFrom<ConnectionInfo> for Address {
    type Error = AddressError;

    /// Without TLS, this is an address whose connections move if they can.
    fn try_from(info: ConnectionInfo) -> Result<Self, AddressError> {
        Self::new(info, Sharing::Preferred)
    }
}

/// The scheme without `+shm`, and whether that was in it.
fn without_shm(scheme: &str) -> (String, bool) {
    let scheme = scheme.to_ascii_lowercase();
    let rest: Vec<&str> = scheme.split('+').filter(|&part| part != "shm").collect();
    let rest = rest.join("+");
    let asks = rest != scheme;
    (rest, asks)
}

/// What follows `://` without `shm=`, and its value.
fn without_option(text: &str) -> (String, Option<String>) {
    let (text, fragment) = text.split_at(text.find('#').unwrap_or(text.len()));
    let Some((path, query)) = text.split_once('?') else {
        return (format!("{text}{fragment}"), None);
    };
    let is_option = |part: &&str| part.starts_with("shm=");
    let (options, others): (Vec<_>, Vec<_>) = query.split('&').partition(is_option);
    let option = options.last().map(|option| option["shm=".len()..].to_owned());
    (format!("{path}?{}{fragment}", others.join("&")), option)
}

#[cfg(test)]
mod tests {
    use super::*;
    use redis::ProtocolVersion;

    fn parse(text: &str) -> Address {
        text.parse().unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    #[test]
    fn a_scheme_says_where_and_whether_to_share() {
        let table = [
            ("redis://localhost", "localhost:6379", Sharing::Never),
            ("valkey://localhost:7000", "localhost:7000", Sharing::Never),
            ("redis+shm://localhost", "localhost:6379", Sharing::Preferred),
            ("REDIS+SHM://localhost:7", "localhost:7", Sharing::Preferred),
            ("valkey+shm://[::1]:7000/2", "::1:7000", Sharing::Preferred),
            ("redis+shm://127.0.0.1?shm=require", "127.0.0.1:6379", Sharing::Required),
            ("redis+shm://127.0.0.1/?shm=prefer", "127.0.0.1:6379", Sharing::Preferred),
            ("redis+unix:///run/r.sock", "/run/r.sock", Sharing::Never),
            ("unix:///run/r.sock", "/run/r.sock", Sharing::Never),
            ("redis+shm+unix:///run/r.sock", "/run/r.sock", Sharing::Preferred),
            ("redis+unix+shm:///run/r.sock", "/run/r.sock", Sharing::Preferred),
            ("unix+shm:///run/r.sock?shm=require", "/run/r.sock", Sharing::Required),
        ];
        for (text, place, sharing) in table {
            let address = parse(text);
            assert_eq!((address.to_string().as_str(), address.sharing()), (place, sharing));
        }
    }

    #[test]
    fn the_rest_means_what_it_means_to_redis() {
        let tcp = parse("redis+shm://me:p%40ss@localhost/3?shm=require&protocol=resp3");
        let unix = parse("redis+shm+unix:///r.sock?db=3&user=me&shm=require&pass=p@ss&protocol=3");
        for address in [tcp, unix] {
            let settings = address.info().redis_settings();
            assert_eq!(settings.username(), Some("me"));
            assert_eq!(settings.password(), Some("p@ss"));
            assert_eq!(settings.db(), 3);
            assert_eq!(settings.protocol(), ProtocolVersion::RESP3);
        }
    }

    #[test]
    fn what_cannot_be_is_refused_with_its_reason() {
        let table = [
            ("rediss://localhost", "TLS"),
            ("rediss+shm://localhost", "TLS"),
            ("redis://localhost?shm=require", "+shm"),
            ("redis+shm://localhost?shm=maybe", "shm=maybe"),
            ("localhost:6379", "redis+shm://"),
            ("http+shm://localhost", "redis+shm://"),
            ("redis+shm://localhost/first", "database"),
            ("", "redis+shm://"),
        ];
        for (text, reason) in table {
            let error = text.parse::<Address>().unwrap_err().to_string();
            assert!(error.contains(reason), "{text}: {error}");
        }
    }

    #[test]
    fn neither_form_of_print_shows_the_password() {
        let address = parse("redis+shm://me:secret@localhost");
        assert!(!format!("{address} {address:?}").contains("secret"));
    }
}
