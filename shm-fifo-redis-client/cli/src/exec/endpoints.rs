//! The servers whose connections move, as the command line names them and as the
//! preloaded library reads them.

use crate::running::Endpoint;
use anyhow::Context;
use std::ffi::{OsStr, OsString};
use std::fmt::{self, Write};
use std::net::{IpAddr, ToSocketAddrs};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};
use std::str::FromStr;

const DEFAULT_HOST: &str = "127.0.0.1";
const DEFAULT_PORTS: Ports = Ports { first: 6379, last: 6379 };

#[derive(Debug, Default, clap::Args)]
pub(crate) struct Endpoints {
    /// A host, with each of the ports [default: 127.0.0.1].
    #[arg(short = 'h', long = "host", value_name = "HOST", value_hint = clap::ValueHint::Hostname)]
    hosts: Vec<String>,

    /// A port, or some as 7000-7005, on each of the hosts [default: 6379].
    #[arg(short = 'p', long = "port", value_name = "PORT[-PORT]")]
    ports: Vec<Ports>,

    /// A unix socket.
    #[arg(short = 's', long = "socket", value_name = "PATH", value_hint = clap::ValueHint::FilePath)]
    sockets: Vec<PathBuf>,
}

/// From the first to the last.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Ports {
    first: u16,
    last: u16,
}

impl FromStr for Ports {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let port = |text: &str| match text.parse() {
            Ok(0) | Err(_) => Err("not a port, nor two as in 7000-7005"),
            Ok(port) => Ok(port),
        };
        let (first, last) = (port(first)?, port(last)?);
        if first <= last { Ok(Self { first, last }) } else { Err("the last port is the lower one") }
    }
}

impl fmt::Display for Ports {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match *self {
            Self { first, last } if first == last => write!(f, "{first}"),
            Self { first, last } => write!(f, "{first}-{last}"),
        }
    }
}

impl Endpoints {
    /// The one that another command is for.
    pub(crate) fn of(endpoint: &Endpoint) -> Self {
        match &endpoint.socket {
            Some(path) => Self { sockets: vec![path.clone()], ..Self::default() },
            None => {
                let port = endpoint.port();
                let ports = vec![Ports { first: port, last: port }];
                Self { hosts: vec![endpoint.host().to_owned()], ports, sockets: Vec::new() }
            }
        }
    }

    /// What the library is told, which was told `before` of others already. With nothing
    /// named, those are all there are.
    pub(super) fn beside(&self, before: Option<OsString>) -> anyhow::Result<OsString> {
        let before = before.unwrap_or_default();
        let is_separator = |byte: &u8| *byte == b',' || byte.is_ascii_whitespace();
        let known = before.as_bytes().split(is_separator).filter(|entry| !entry.is_empty());
        let mut all: Vec<&[u8]> = known.collect();
        let own = self.entries(all.is_empty())?;
        for entry in &own {
            if !all.contains(&entry.as_bytes()) {
                all.push(entry.as_bytes());
            }
        }
        Ok(OsString::from_vec(all.join(&b' ')))
    }

    fn entries(&self, is_first: bool) -> anyhow::Result<Vec<OsString>> {
        let mut entries = Vec::new();
        for path in &self.sockets {
            entries.push(unix_entry(path)?);
        }
        let names_tcp = !self.hosts.is_empty() || !self.ports.is_empty();
        let names_nothing = entries.is_empty() && is_first;
        if !(names_tcp || names_nothing) {
            return Ok(entries);
        }
        let default_host = [DEFAULT_HOST.to_owned()];
        let hosts = if self.hosts.is_empty() { &default_host } else { self.hosts.as_slice() };
        let ports = if self.ports.is_empty() { &[DEFAULT_PORTS] } else { self.ports.as_slice() };
        for host in hosts {
            for ip in addresses(host)? {
                entries.extend(ports.iter().map(|&ports| tcp_entry(ip, ports)));
            }
        }
        Ok(entries)
    }
}

fn addresses(host: &str) -> anyhow::Result<Vec<IpAddr>> {
    let any_port = 0;
    let found = (host, any_port).to_socket_addrs();
    let found = found.with_context(|| format!("cannot find the host {host}"))?;
    Ok(found.map(|address| address.ip()).collect())
}

fn tcp_entry(ip: IpAddr, ports: Ports) -> OsString {
    match ip {
        IpAddr::V4(ip) => format!("tcp:{ip}:{ports}").into(),
        IpAddr::V6(ip) => format!("tcp:[{ip}]:{ports}").into(),
    }
}

/// The program may change its directory, so the path is whole; what would end the entry
/// is written as `%` and two digits.
fn unix_entry(path: &Path) -> anyhow::Result<OsString> {
    let path = std::path::absolute(path).context("cannot tell the current directory")?;
    let mut entry = OsString::from("unix:");
    for byte in path.as_os_str().as_bytes() {
        match byte {
            b'%' | b',' => write!(entry, "%{byte:02x}")?,
            byte if byte.is_ascii_whitespace() => write!(entry, "%{byte:02x}")?,
            byte => entry.push(OsStr::from_bytes(&[*byte])),
        }
    }
    Ok(entry)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;

    fn named(hosts: &[&str], ports: &[&str], sockets: &[&str]) -> Endpoints {
        Endpoints {
            hosts: hosts.iter().map(|&host| host.to_owned()).collect(),
            ports: ports.iter().map(|ports| ports.parse().unwrap()).collect(),
            sockets: sockets.iter().map(PathBuf::from).collect(),
        }
    }

    fn told(endpoints: &Endpoints, before: &str) -> String {
        let before = Some(before).filter(|text| !text.is_empty()).map(OsString::from);
        endpoints.beside(before).unwrap().into_string().unwrap()
    }

    #[test]
    fn without_a_name_it_is_what_redis_cli_would_connect_to() {
        assert_eq!(told(&named(&[], &[], &[]), ""), "tcp:127.0.0.1:6379");
        assert_eq!(told(&named(&[], &["7"], &[]), ""), "tcp:127.0.0.1:7");
        assert_eq!(told(&named(&["127.0.0.2"], &[], &[]), ""), "tcp:127.0.0.2:6379");
        assert_eq!(told(&named(&[], &[], &["/r.sock"]), ""), "unix:/r.sock");
    }

    #[test]
    fn each_host_has_each_port() {
        let cluster = named(&["127.0.0.1", "::1"], &["7000-7005", "26379"], &["/a", "/b"]);
        let expected = "unix:/a unix:/b tcp:127.0.0.1:7000-7005 tcp:127.0.0.1:26379 \
                        tcp:[::1]:7000-7005 tcp:[::1]:26379";
        assert_eq!(told(&cluster, ""), expected);
    }

    #[test]
    fn what_is_there_stays_and_is_not_named_twice() {
        let more = named(&[], &["7"], &["/a"]);
        assert_eq!(told(&more, "unix:/b,unix:/a"), "unix:/b unix:/a tcp:127.0.0.1:7");
        assert_eq!(told(&named(&[], &[], &[]), "unix:/b"), "unix:/b");
        assert_eq!(told(&named(&[], &[], &[]), " , "), "tcp:127.0.0.1:6379");
    }

    #[test]
    fn a_path_is_whole_and_has_no_separators() {
        let here = std::env::current_dir().unwrap();
        let relative = told(&named(&[], &[], &["r.sock"]), "");
        assert_eq!(relative, format!("unix:{}/r.sock", here.display()));
        let strange = told(&named(&[], &[], &["/a b,c%d\ne"]), "");
        assert_eq!(strange, "unix:/a%20b%2cc%25d%0ae");
    }

    #[test]
    fn ports_are_one_or_from_one_to_another() {
        let parse = |text: &str| text.parse::<Ports>();
        assert_eq!(parse("7000"), Ok(Ports { first: 7000, last: 7000 }));
        assert_eq!(parse("7000-7005"), Ok(Ports { first: 7000, last: 7005 }));
        for text in ["", "-", "7-", "-7", "0", "65536", "0-7", "7-8-9", "8-7", "redis"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_host_that_nobody_knows_is_named() {
        let error = named(&["no-such-host.invalid"], &[], &[]).beside(None).unwrap_err();
        assert!(error.to_string().contains("no-such-host.invalid"), "{error}");
    }
}
