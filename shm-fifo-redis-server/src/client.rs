//! A client of the server, as far as the module API tells.
#![allow(unsafe_code)]

use crate::status::OK;
use redis_module::{Context, ContextFlags, RedisValue, raw};
use std::io;
use std::mem::zeroed;
use std::net::IpAddr;
use std::os::fd::{BorrowedFd, RawFd};

/// How a client is connected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Transport {
    /// Over a unix socket.
    Unix,
    /// Over TCP from this machine.
    LocalTcp,
    /// From somewhere else.
    Remote,
}

/// A client that asks to be moved.
#[derive(Debug)]
pub(crate) struct Client {
    pub(crate) id: u64,
    pub(crate) fd: RawFd,
    pub(crate) transport: Transport,
    /// Bytes and buffers of replies that have not been sent yet.
    unsent: u64,
    is_replica_or_monitor: bool,
}

/// Why a client cannot be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unsuitable {
    #[error("not in a transaction; send it before MULTI")]
    InTransaction,
    #[error("only from a connected client, not from a script, a module or a replication link")]
    NoClient,
    #[error("this connection is encrypted (TLS) and stays so; connect by unix socket or plain TCP")]
    Encrypted,
    #[error(
        "the server does not let modules call its CLIENT LIST (rename-command?); stay on the socket"
    )]
    NoClientList,
    #[error("not from replicas or monitors")]
    ReplicaOrMonitor,
    #[error("earlier replies are still unsent; read them first")]
    UnsentReplies,
    #[error("only from the server's own machine; stay on the socket")]
    Remote,
}

impl Client {
    /// The client with this id, if it is connected.
    pub(crate) fn with_id(context: &Context, id: u64) -> Result<Self, Unsuitable> {
        let info_flags = client_info_flags(id).ok_or(Unsuitable::NoClient)?;
        if info_flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_SSL) != 0 {
            return Err(Unsuitable::Encrypted);
        }
        let line =
            client_list(context, &["ID", &id.to_string()]).ok_or(Unsuitable::NoClientList)?;
        let is_unix = info_flags & u64::from(raw::REDISMODULE_CLIENTINFO_FLAG_UNIXSOCKET) != 0;
        Self::from_list_line(id, is_unix, &line).ok_or(Unsuitable::NoClient)
    }

    /// Its socket.
    pub(crate) fn socket(&self) -> BorrowedFd<'_> {
        // SAFETY: Redis closes it after the command that this value is made for.
        unsafe { BorrowedFd::borrow_raw(self.fd) }
    }

    /// Sends a reply on the socket, where nothing else is unsent.
    ///
    /// # Errors
    /// What `send(2)` says; `WouldBlock` if it does not go whole.
    pub(crate) fn send(&self, reply: &[u8]) -> io::Result<()> {
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: the pointer and the length of a live slice.
        match unsafe { libc::send(self.fd, reply.as_ptr().cast(), reply.len(), flags) } {
            sent if usize::try_from(sent) == Ok(reply.len()) => Ok(()),
            ..0 => Err(io::Error::last_os_error()),
            _ => Err(io::ErrorKind::WouldBlock.into()),
        }
    }

    /// Whether nobody can read any more what is sent to it.
    pub(crate) fn has_hung_up(&self) -> bool {
        let mut entry = libc::pollfd { fd: self.fd, events: libc::POLLRDHUP, revents: 0 };
        // SAFETY: one live entry; it does not wait.
        unsafe { libc::poll(&raw mut entry, 1, 0) > 0 }
    }

    /// Whether earlier replies, or pushes, have not been sent yet, or only in part.
    pub(crate) fn has_unsent_replies(&self) -> bool {
        self.unsent > 0
    }

    /// Refuses clients whose byte stream cannot change its way, or not just now.
    pub(crate) fn check_movable(&self) -> Result<(), Unsuitable> {
        if self.is_replica_or_monitor {
            return Err(Unsuitable::ReplicaOrMonitor);
        }
        if self.transport == Transport::Remote {
            return Err(Unsuitable::Remote);
        }
        // What is sent beside them would overtake those.
        if self.has_unsent_replies() {
            return Err(Unsuitable::UnsentReplies);
        }
        Ok(())
    }

    /// Reads what a line of `CLIENT LIST` says.
    fn from_list_line(id: u64, is_unix: bool, line: &str) -> Option<Self> {
        let fd: RawFd = field(line, "fd")?.parse().ok()?;
        let unsent_bytes: u64 = field(line, "obl")?.parse().ok()?;
        let unsent_buffers: u64 = field(line, "oll")?.parse().ok()?;
        let flags = field(line, "flags")?;
        Some(Self {
            id,
            fd,
            transport: if is_unix { Transport::Unix } else { transport_of_ip(fd)? },
            unsent: unsent_bytes.saturating_add(unsent_buffers),
            is_replica_or_monitor: flags.contains(['S', 'M', 'O']),
        })
    }
}

/// The value of ` name=value` in a line of `CLIENT LIST`.
fn field<'l>(line: &'l str, name: &str) -> Option<&'l str> {
    line.split_ascii_whitespace().find_map(|word| word.strip_prefix(name)?.strip_prefix('='))
}

/// The id of the client that sent the command being executed. All else of it takes the
/// server a few microseconds to tell.
pub(crate) fn calling_id(context: &Context) -> Result<u64, Unsuitable> {
    let flags = context.get_flags();
    if flags.intersects(ContextFlags::LUA | ContextFlags::REPLICATED) {
        return Err(Unsuitable::NoClient);
    }
    if flags.contains(ContextFlags::MULTI) {
        return Err(Unsuitable::InTransaction);
    }
    client_id(context).ok_or(Unsuitable::NoClient)
}

fn client_id(context: &Context) -> Option<u64> {
    // SAFETY: a live context.
    let id = unsafe { raw::RedisModule_GetClientId?(context.ctx) };
    (id != 0).then_some(id)
}

/// The flags of a client that is connected; commands that are run on behalf of
/// nobody have an id as well, but no connection.
fn client_info_flags(id: u64) -> Option<u64> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut info: raw::RedisModuleClientInfoV1 = unsafe { zeroed() };
    info.version = 1;
    // SAFETY: the struct is of the version it says.
    let found = unsafe { raw::RedisModule_GetClientInfoById?((&raw mut info).cast(), id) };
    (found == OK).then_some(info.flags)
}

fn client_list(context: &Context, filter: &[&str]) -> Option<String> {
    let arguments: Vec<&str> = [&["LIST"], filter].concat();
    // A user's name may be any bytes.
    let lossy = |list: Vec<u8>| String::from_utf8_lossy(&list).into_owned();
    match context.call("CLIENT", &arguments[..]) {
        Ok(RedisValue::SimpleString(list)) => Some(list),
        Ok(RedisValue::StringBuffer(list) | RedisValue::VerbatimString((_, list))) => {
            Some(lossy(list))
        }
        _ => None,
    }
}

/// The ids of clients for which the server keeps pointers to commands, perhaps to this
/// module's: the last that a client sent, and those queued in its transaction. They are
/// used after the module was unloaded (redis/redis issues 4826 and 10177).
pub(crate) fn holders_of_commands(context: &Context) -> Option<Vec<String>> {
    let list = client_list(context, &[])?;
    let holds = |line: &&str| {
        let queued = field(line, "multi").and_then(|count| count.parse::<i64>().ok());
        field(line, "cmd").is_some_and(|name| name.starts_with("shm."))
            || queued.is_some_and(|count| count > 0)
    };
    Some(list.lines().filter(holds).filter_map(|line| field(line, "id")).map(Into::into).collect())
}

fn transport_of_ip(fd: RawFd) -> Option<Transport> {
    let peer = address_of(fd, libc::getpeername)?;
    let is_local = peer.is_loopback() || peer == address_of(fd, libc::getsockname)?;
    Some(if is_local { Transport::LocalTcp } else { Transport::Remote })
}

type GetName =
    unsafe extern "C" fn(libc::c_int, *mut libc::sockaddr, *mut libc::socklen_t) -> libc::c_int;

/// The address that `getpeername` or `getsockname` tells of `fd`.
fn address_of(fd: RawFd, get_name: GetName) -> Option<IpAddr> {
    // SAFETY: a plain C struct, for which zeros are valid.
    let mut storage: libc::sockaddr_storage = unsafe { zeroed() };
    let mut length = libc::socklen_t::try_from(size_of_val(&storage)).ok()?;
    // SAFETY: the kernel writes at most `length` bytes into the storage.
    let result = unsafe { get_name(fd, (&raw mut storage).cast(), &raw mut length) };
    if result != 0 {
        return None;
    }
    match libc::c_int::from(storage.ss_family) {
        libc::AF_INET => {
            // SAFETY: the family says that it is this struct, which fits.
            let v4 = unsafe { *(&raw const storage).cast::<libc::sockaddr_in>() };
            Some(IpAddr::from(v4.sin_addr.s_addr.to_ne_bytes()))
        }
        libc::AF_INET6 => {
            // SAFETY: the family says that it is this struct, which fits.
            let v6 = unsafe { *(&raw const storage).cast::<libc::sockaddr_in6>() };
            Some(IpAddr::from(v6.sin6_addr.s6_addr).to_canonical())
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fields_are_found_by_their_whole_name() {
        let line =
            "id=3 addr=/run/x.sock:0 laddr=/run/x.sock:0 fd=8 name= flags=U oll=0 tot-net-fd=9";
        assert_eq!(field(line, "fd"), Some("8"));
        assert_eq!(field(line, "name"), Some(""));
        assert_eq!(field(line, "ddr"), None);
        assert_eq!(field(line, "obl"), None);
    }

    #[test]
    fn a_line_without_a_needed_field_is_no_client() {
        assert!(Client::from_list_line(3, true, "id=3 fd=0 flags=N obl=0").is_none());
        assert!(Client::from_list_line(3, true, "").is_none());
    }
}
