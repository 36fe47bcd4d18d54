//! Connecting by the runtime's own means.

use super::Stream;
use redis::ConnectionAddr;
use std::io;
use std::net::{Ipv4Addr, Ipv6Addr};
use std::path::Path;
use std::time::Duration;
use tokio::net::{TcpStream, UnixStream};

/// How long is waited for room in a server's queue, at first and at most.
const PAUSES: [Duration; 2] = [Duration::from_millis(1), Duration::from_millis(50)];

/// Connects to `address`, as long as it takes.
pub(super) async fn dial(address: &ConnectionAddr) -> io::Result<Stream> {
    match address {
        ConnectionAddr::Tcp(host, port) => {
            let socket = connect_tcp(host, *port).await?;
            socket.set_nodelay(true)?;
            Ok(Stream::tcp(socket))
        }
        ConnectionAddr::Unix(path) => connect_unix(path).await.map(Stream::unix),
        // `Address` lets no other pass.
        _ => Err(io::ErrorKind::Unsupported.into()),
    }
}

/// The runtime looks names up on a thread of its own. This one is known (RFC 6761).
async fn connect_tcp(host: &str, port: u16) -> io::Result<TcpStream> {
    if !host.eq_ignore_ascii_case("localhost") {
        return TcpStream::connect((host, port)).await;
    }
    match TcpStream::connect((Ipv6Addr::LOCALHOST, port)).await {
        Ok(socket) => Ok(socket),
        Err(_) => TcpStream::connect((Ipv4Addr::LOCALHOST, port)).await,
    }
}

/// Nothing tells when a unix socket's queue has room again, but another attempt.
async fn connect_unix(path: &Path) -> io::Result<UnixStream> {
    let [mut pause, longest] = PAUSES;
    loop {
        match UnixStream::connect(path).await {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            done => return done,
        }
        tokio::time::sleep(pause).await;
        pause = longest.min(pause * 2);
    }
}
