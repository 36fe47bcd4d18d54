//! The servers whose connections move: how they are written, and whether an address is
//! one of theirs.
//!
//! Entries stand between spaces or commas: `unix:PATH`, with `%` and two hexadecimal
//! digits for a byte that would end it, or `tcp:HOST:PORT`, where ports may be a range.
#![allow(unsafe_code)]

use super::{Endpoint, Server};
use crate::refusals::number_of;
use std::ffi::CStr;
use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;

/// Those that a program's environment names.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Endpoints {
    unix: Vec<SocketFile>,
    tcp: Vec<Ports>,
}

/// An absolute path and the NUL that ends it.
#[derive(Debug, PartialEq, Eq)]
struct SocketFile(Vec<u8>);

#[derive(Debug, PartialEq, Eq)]
struct Ports {
    ip: IpAddr,
    ports: RangeInclusive<u16>,
}

/// An entry that is not understood.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct MalformedEndpoint {
    entry: String,
    reason: &'static str,
}

impl fmt::Display for MalformedEndpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {}", self.entry, self.reason)
    }
}

impl Endpoints {
    pub(super) fn parse(text: &[u8]) -> Result<Self, MalformedEndpoint> {
        let mut endpoints = Self::default();
        let entries = text.split(|&byte| byte == b',' || byte.is_ascii_whitespace());
        for entry in entries.filter(|entry| !entry.is_empty()) {
            endpoints.add(entry).map_err(|reason| MalformedEndpoint {
                entry: String::from_utf8_lossy(entry).into_owned(),
                reason,
            })?;
        }
        Ok(endpoints)
    }

    fn add(&mut self, entry: &[u8]) -> Result<(), &'static str> {
        if let Some(path) = entry.strip_prefix(b"unix:") {
            self.unix.push(SocketFile::parse(path)?);
        } else if let Some(address) = entry.strip_prefix(b"tcp:") {
            self.tcp.extend(Ports::parse(address)?);
        } else {
            return Err("is neither unix:PATH nor tcp:ADDRESS:PORT");
        }
        Ok(())
    }

    pub(super) fn is_empty(&self) -> bool {
        self.unix.is_empty() && self.tcp.is_empty()
    }

    /// Whose address this is, as `connect(2)` takes it.
    pub(super) fn find(&self, address: &[u8]) -> Option<Server> {
        let (family, rest) = address.split_first_chunk()?;
        match i32::from(u16::from_ne_bytes(*family)) {
            libc::AF_UNIX => {
                let path = rest.split(|&byte| byte == 0).next()?;
                let server = Server { endpoint: Endpoint::Unix, number: number_of(path) };
                self.unix.iter().any(|file| file.is(path)).then_some(server)
            }
            family @ (libc::AF_INET | libc::AF_INET6) => {
                let (ip, port) = internet_address(family, rest)?;
                let is_it = |one: &Ports| one.ip == ip && one.ports.contains(&port);
                let server = Server { endpoint: Endpoint::Tcp, number: number_of(&(ip, port)) };
                self.tcp.iter().any(is_it).then_some(server)
            }
            _ => None,
        }
    }
}

impl SocketFile {
    fn parse(text: &[u8]) -> Result<Self, &'static str> {
        let mut path = decoded(text).ok_or("has a % without two hexadecimal digits behind it")?;
        if path.contains(&0) {
            return Err("has a byte that no path has");
        }
        if !path.starts_with(b"/") {
            return Err("is no absolute path");
        }
        path.push(0);
        Ok(Self(path))
    }

    /// Whether this path leads to it, too. The kernel is asked only about files of that
    /// name: a program connects to others than ours, and they cost nothing.
    fn is(&self, path: &[u8]) -> bool {
        let own = &self.0[..self.0.len() - 1];
        own == path || (name(own) == name(path) && self.is_same_file(path))
    }

    fn is_same_file(&self, path: &[u8]) -> bool {
        // A socket's address has no room for a longer one.
        let mut other = [0; size_of::<libc::sockaddr_un>()];
        let Some(place) = other.get_mut(..path.len()) else { return false };
        place.copy_from_slice(path);
        let identities = (identity(&self.0), identity(&other));
        matches!(identities, (Some(one), Some(other)) if one == other)
    }
}

impl Ports {
    /// Of `localhost` there are two.
    fn parse(text: &[u8]) -> Result<Vec<Self>, &'static str> {
        const FORM: &str = "is not tcp:ADDRESS:PORT, as tcp:127.0.0.1:6379 or tcp:[::1]:7000-7005";
        let text = str::from_utf8(text).map_err(|_| FORM)?;
        let (host, ports) = text.rsplit_once(':').ok_or(FORM)?;
        let (first, last) = ports.split_once('-').unwrap_or((ports, ports));
        let port = |text: &str| text.parse().ok().filter(|&port: &u16| port != 0);
        let (first, last) = port(first).zip(port(last)).ok_or("has a port that is none")?;
        if first > last {
            return Err("has ports from a higher one to a lower one");
        }
        let named = |ip| Self { ip: canonical(ip), ports: first..=last };
        Ok(addresses(host)?.into_iter().map(named).collect())
    }
}

/// Nobody can ask a name server before the program has begun.
fn addresses(host: &str) -> Result<Vec<IpAddr>, &'static str> {
    if host.eq_ignore_ascii_case("localhost") {
        return Ok(vec![Ipv4Addr::LOCALHOST.into(), Ipv6Addr::LOCALHOST.into()]);
    }
    let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']'));
    let ip = match bare {
        Some(host) => host.parse().map(|ip: Ipv6Addr| ip.into()),
        None => host.parse().map(|ip: Ipv4Addr| ip.into()),
    };
    ip.map(|ip| vec![ip]).map_err(|_| {
        "names a host, but only localhost and addresses are understood here (IPv6 in brackets); \
         redis-shm exec looks names up"
    })
}

/// What `%` stands in front of, put in its place.
fn decoded(text: &[u8]) -> Option<Vec<u8>> {
    let mut parts = text.split(|&byte| byte == b'%');
    let mut bytes = parts.next().unwrap_or_default().to_vec();
    for part in parts {
        let (digits, rest) = part.split_first_chunk()?;
        let [high, low] = digits.map(|digit: u8| char::from(digit).to_digit(16));
        bytes.push(u8::try_from(high? << 4 | low?).ok()?);
        bytes.extend_from_slice(rest);
    }
    Some(bytes)
}

fn name(path: &[u8]) -> &[u8] {
    path.rsplit(|&byte| byte == b'/').next().unwrap_or_default()
}

/// What tells the file at this path, up to its NUL, from another.
fn identity(path: &[u8]) -> Option<(u64, u64)> {
    let path = CStr::from_bytes_until_nul(path).ok()?;
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut status: libc::stat = unsafe { std::mem::zeroed() };
    // SAFETY: a C string, and a live struct to write.
    let result = unsafe { libc::stat(path.as_ptr(), &raw mut status) };
    (result == 0).then_some((status.st_dev, status.st_ino))
}

/// What follows the family in a `sockaddr_in` or `sockaddr_in6`.
fn internet_address(family: i32, rest: &[u8]) -> Option<(IpAddr, u16)> {
    let (port, rest) = rest.split_first_chunk()?;
    let ip: IpAddr = if family == libc::AF_INET {
        Ipv4Addr::from(*rest.first_chunk::<4>()?).into()
    } else {
        const FLOW_BYTES: usize = 4;
        Ipv6Addr::from(*rest.get(FLOW_BYTES..)?.first_chunk::<16>()?).into()
    };
    Some((canonical(ip), u16::from_be_bytes(*port)))
}

/// An address of IPv4 has two forms, and who connects to "any" gets to this host.
fn canonical(ip: IpAddr) -> IpAddr {
    match ip.to_canonical() {
        IpAddr::V4(Ipv4Addr::UNSPECIFIED) => Ipv4Addr::LOCALHOST.into(),
        IpAddr::V6(Ipv6Addr::UNSPECIFIED) => Ipv6Addr::LOCALHOST.into(),
        other => other,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn found(endpoints: &Endpoints, address: &[u8]) -> Option<Endpoint> {
        endpoints.find(address).map(|server| server.endpoint)
    }
    use std::os::unix::ffi::OsStrExt;
    use std::os::unix::fs::symlink;
    use std::path::Path;
    use std::{env, fs};

    fn parse(text: &str) -> Endpoints {
        Endpoints::parse(text.as_bytes()).unwrap_or_else(|error| panic!("{text}: {error}"))
    }

    fn unix(path: &[u8]) -> Vec<u8> {
        let family = u16::try_from(libc::AF_UNIX).unwrap().to_ne_bytes();
        [&family[..], path].concat()
    }

    fn tcp(ip: &str, port: u16) -> Vec<u8> {
        let (family, address) = match ip.parse().unwrap() {
            IpAddr::V4(ip) => (libc::AF_INET, ip.octets().to_vec()),
            IpAddr::V6(ip) => (libc::AF_INET6, [&[0; 4][..], &ip.octets()].concat()),
        };
        let family = u16::try_from(family).unwrap().to_ne_bytes();
        // The scope, or what fills a sockaddr_in up, follows.
        [&family[..], &port.to_be_bytes(), &address, &[0; 8]].concat()
    }

    fn paths(endpoints: &Endpoints) -> Vec<&[u8]> {
        endpoints.unix.iter().map(|file| file.0.strip_suffix(b"\0").unwrap()).collect()
    }

    #[test]
    fn entries_stand_between_spaces_or_commas() {
        let all = parse(" unix:/a,tcp:10.0.0.1:1 ,\tunix:/b\n tcp:[::1]:7000-7005,");
        assert_eq!(paths(&all), [b"/a", b"/b"]);
        let expected = [("10.0.0.1", 1..=1), ("::1", 7000..=7005)];
        let expected = expected.map(|(ip, ports)| Ports { ip: ip.parse().unwrap(), ports });
        assert_eq!(all.tcp, expected);
        assert!(parse("").is_empty() && parse(" , ").is_empty());
        assert!(!parse("unix:/a").is_empty() && !parse("tcp:127.0.0.1:1").is_empty());
    }

    #[test]
    fn a_path_may_have_any_byte_but_one() {
        let strange = parse("unix:/with%20space%2c%25 unix:/%e2%82%AC unix:/colon:is=fine");
        assert_eq!(paths(&strange), ["/with space,%", "/€", "/colon:is=fine"].map(str::as_bytes));
        let latin = Endpoints::parse(b"unix:/\xe9").unwrap();
        assert_eq!(paths(&latin), [b"/\xe9"]);
    }

    #[test]
    fn the_documented_entries_are_understood() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/preload.md");
        let page = fs::read_to_string(page).unwrap();
        let words = page.split(|c: char| c.is_whitespace() || "`\"',\\=".contains(c));
        let is_entry = |word: &&str| word.starts_with("unix:") || word.starts_with("tcp:");
        let entries: Vec<&str> = words.filter(is_entry).collect();
        assert!(entries.len() > 10, "{entries:?}");
        entries.into_iter().for_each(|entry| assert!(!parse(entry).is_empty(), "{entry}"));
    }

    #[test]
    fn what_is_not_understood_is_named_with_what_is_wrong() {
        let table = [
            ("/run/redis.sock", "neither unix:PATH nor tcp:"),
            ("udp:127.0.0.1:1", "neither unix:PATH nor tcp:"),
            ("UNIX:/run/redis.sock", "neither unix:PATH nor tcp:"),
            ("unix:", "no absolute path"),
            ("unix:redis.sock", "no absolute path"),
            ("unix:/a%2", "% without two hexadecimal digits"),
            ("unix:/a%zz", "% without two hexadecimal digits"),
            ("unix:/a%00", "a byte that no path has"),
            ("tcp:", "is not tcp:ADDRESS:PORT"),
            ("tcp:127.0.0.1", "is not tcp:ADDRESS:PORT"),
            ("tcp:127.0.0.1:", "a port that is none"),
            ("tcp:127.0.0.1:0", "a port that is none"),
            ("tcp:127.0.0.1:65536", "a port that is none"),
            ("tcp:127.0.0.1:7-", "a port that is none"),
            ("tcp:127.0.0.1:7-8-9", "a port that is none"),
            ("tcp:127.0.0.1:8-7", "from a higher one to a lower one"),
            ("tcp:redis:6379", "redis-shm exec looks names up"),
            ("tcp:::1:6379", "IPv6 in brackets"),
            ("tcp:[127.0.0.1]:6379", "IPv6 in brackets"),
        ];
        for (entry, reason) in table {
            let text = format!("unix:/good tcp:127.0.0.1:1 {entry}");
            let error = Endpoints::parse(text.as_bytes()).unwrap_err().to_string();
            assert!(error.starts_with(&format!("{entry} ")), "{entry}: {error}");
            assert!(error.contains(reason), "{entry}: {error}");
        }
    }

    #[test]
    fn an_address_is_the_endpoint_in_whatever_form() {
        let endpoints = parse("tcp:127.0.0.1:7000-7002 tcp:[2001:db8::1]:80 tcp:[::1]:81");
        let table = [
            ("127.0.0.1", 7000, true),
            ("127.0.0.1", 7002, true),
            ("::ffff:127.0.0.1", 7001, true),
            ("0.0.0.0", 7001, true),
            ("127.0.0.1", 6999, false),
            ("127.0.0.1", 7003, false),
            ("127.0.0.2", 7000, false),
            ("2001:db8::1", 80, true),
            ("2001:db8::2", 80, false),
            ("::", 81, true),
            ("::1", 7000, false),
        ];
        for (ip, port, is_one) in table {
            let found = found(&endpoints, &tcp(ip, port));
            assert_eq!(found, is_one.then_some(Endpoint::Tcp), "{ip} {port}");
        }
    }

    #[test]
    fn localhost_is_both_loopback_addresses() {
        let endpoints = parse("tcp:LocalHost:6379");
        for ip in ["127.0.0.1", "::1"] {
            assert_eq!(found(&endpoints, &tcp(ip, 6379)), Some(Endpoint::Tcp), "{ip}");
        }
    }

    #[test]
    fn what_is_cut_off_or_of_another_kind_is_none() {
        let endpoints = parse("unix:/r.sock tcp:127.0.0.1:80 tcp:[::1]:80");
        for (whole, shortest) in [(tcp("127.0.0.1", 80), 8), (tcp("::1", 80), 24)] {
            for length in 0..shortest {
                assert_eq!(found(&endpoints, &whole[..length]), None, "{length}");
            }
            assert_eq!(found(&endpoints, &whole[..shortest]), Some(Endpoint::Tcp));
        }
        for address in
            [&[0; 16][..], &[16, 0, 0, 80, 127, 0, 0, 1], &unix(b""), &unix(b"\0/r.sock")]
        {
            assert_eq!(found(&endpoints, address), None, "{address:?}");
        }
    }

    #[test]
    fn a_path_ends_with_its_address_or_at_its_first_nul() {
        let endpoints = parse("unix:/no/such/r.sock");
        for path in [&b"/no/such/r.sock"[..], b"/no/such/r.sock\0", b"/no/such/r.sock\0rest"] {
            assert_eq!(found(&endpoints, &unix(path)), Some(Endpoint::Unix), "{path:?}");
        }
        for path in [&b"/no/such/r.soc"[..], b"/no/such/r.sock2", b"/other/r.sock", b"r.sock"] {
            assert_eq!(found(&endpoints, &unix(path)), None, "{path:?}");
        }
    }

    #[test]
    fn one_file_has_several_paths() {
        let directory = tempfile::tempdir().unwrap();
        let [real, other] = ["real", "other"].map(|name| directory.path().join(name));
        for place in [&real, &other] {
            fs::create_dir(place).unwrap();
            fs::write(place.join("r.sock"), "").unwrap();
        }
        symlink(&real, directory.path().join("link")).unwrap();
        symlink(real.join("r.sock"), other.join("alias.sock")).unwrap();
        let endpoints = parse(&format!("unix:{}/r.sock", real.display()));
        let find = |path: &Path| found(&endpoints, &unix(path.as_os_str().as_bytes()));

        assert_eq!(find(&directory.path().join("link/r.sock")), Some(Endpoint::Unix));
        assert_eq!(find(&directory.path().join("other/../real//r.sock")), Some(Endpoint::Unix));
        assert_eq!(find(&other.join("r.sock")), None);
        // By another name the kernel is not asked.
        assert_eq!(find(&other.join("alias.sock")), None);
        // What the program's directory is, it says itself.
        let here = env::current_dir().unwrap();
        let ups = "../".repeat(here.components().count());
        let from_here = format!("{ups}{}/r.sock", real.strip_prefix("/").unwrap().display());
        assert_eq!(find(Path::new(&from_here)), Some(Endpoint::Unix));
    }
}
