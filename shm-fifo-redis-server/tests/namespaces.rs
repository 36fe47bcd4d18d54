//! A client and a server that share a socket and nothing else: other namespaces, and
//! another user. As root only, since that makes them; CI is.
#![allow(unsafe_code)]
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use std::io::{self, Write as _};
use std::thread;
use support::{Random, ServerOptions, TestServer, Wire, bulk, request, wait_until};

const NOBODY: libc::c_long = 65_534;

/// Runs `act` in a thread that is for ever in namespaces of its own.
fn in_namespaces<T: Send>(flags: libc::c_int, act: impl FnOnce() -> T + Send) -> T {
    in_a_thread(|| {
        // SAFETY: takes no pointer; changes the calling thread alone, which ends after it.
        let result = unsafe { libc::unshare(flags) };
        assert_eq!(result, 0, "{}", io::Error::last_os_error());
        act()
    })
}

/// Runs `act` in a thread that is for ever another user. The C library would change all
/// threads; the kernel changes the one that asks.
fn as_nobody<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    in_a_thread(|| {
        for call in [libc::SYS_setresgid, libc::SYS_setresuid] {
            // SAFETY: takes no pointer; changes the calling thread alone, which ends after it.
            let result = unsafe { libc::syscall(call, NOBODY, NOBODY, NOBODY) };
            assert_eq!(result, 0, "{}", io::Error::last_os_error());
        }
        act()
    })
}

fn in_a_thread<T: Send>(act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| scope.spawn(act).join()).unwrap()
}

/// Whether this test may make namespaces; if not, it says so past the capture of its
/// output: a test that was not run must not look passed.
fn may_make_namespaces() -> bool {
    // SAFETY: as above.
    let may = in_a_thread(|| unsafe { libc::unshare(libc::CLONE_NEWNET) } == 0);
    if !may {
        let current = thread::current();
        let line = format!(
            "NOT RUN: {} needs root, to make namespaces\n",
            current.name().unwrap_or("a test")
        );
        io::stderr().write_all(line.as_bytes()).unwrap();
    }
    may
}

/// Everything travels, beyond the length of a ring, and nothing is left.
fn assert_serves(server: &TestServer, mut shm: Wire) {
    let value = Random::seeded(3).bytes(1 << 20);
    assert!(shm.exchange(&request(&[b"ECHO", &value]), 1) == [bulk(&value)]);
    assert_eq!(server.info("shm_sessions"), 1);
    drop(shm);
    wait_until("nothing is left", || {
        server.info("shm_sessions") + server.info("shm_region_bytes") == 0
    });
}

#[test]
fn a_client_in_other_network_mount_and_ipc_namespaces_needs_the_socket_file_only() {
    if !may_make_namespaces() {
        return;
    }
    let server = TestServer::start();
    let apart = libc::CLONE_NEWNET | libc::CLONE_NEWNS | libc::CLONE_NEWIPC | libc::CLONE_NEWUTS;

    let shm = in_namespaces(apart, || server.shm());

    assert_serves(&server, shm);
}

#[test]
fn a_server_in_a_container_of_its_own_serves_clients_outside() {
    if !may_make_namespaces() {
        return;
    }
    let container =
        ["unshare", "--net", "--mount-proc", "--ipc", "--uts", "--pid", "--fork", "--kill-child"];
    // Its network has no loopback that is up.
    let server = ServerOptions::default().within(&container).args(&["--port", "0"]).start();
    assert_eq!(server.info("process_id"), 1);

    let shm = server.shm();

    assert_serves(&server, shm);
}

#[test]
fn a_loopback_client_that_is_another_user_moves() {
    if !may_make_namespaces() {
        return;
    }
    let server = TestServer::start();

    let shm = as_nobody(|| server.tcp().into_shm());

    assert_serves(&server, shm);
}

#[test]
fn a_loopback_server_in_another_pid_namespace_serves_clients_outside() {
    if !may_make_namespaces() {
        return;
    }
    let container = ["unshare", "--mount-proc", "--pid", "--fork", "--kill-child"];
    let server = ServerOptions::default().within(&container).start();
    assert_eq!(server.info("process_id"), 1);

    assert_serves(&server, server.tcp().into_shm());
    assert_serves(&server, as_nobody(|| server.tcp().into_shm()));
}

#[test]
fn a_client_of_another_network_is_refused_over_tcp_and_goes_on() {
    if !may_make_namespaces() {
        return;
    }
    let server = TestServer::start();
    // The connection is of the server's network; the name for the descriptor is not.
    let mut tcp = server.tcp();

    let reply = in_namespaces(libc::CLONE_NEWNET, || {
        let here = std::os::unix::net::UnixDatagram::unbound().unwrap();
        let name = autobind(&here);
        tcp.ask(&format!("SHM.OPEN 2 FDSOCKET {name}"))
    });

    assert!(reply.starts_with("-ERR SHM.OPEN: "), "{reply}");
    tcp.assert_answers();
    assert_eq!(server.info("shm_offers"), 0);
}

/// Gives the socket an abstract name that the kernel chooses, and returns it.
fn autobind(socket: &std::os::unix::net::UnixDatagram) -> String {
    use std::os::fd::AsRawFd as _;
    use std::os::linux::net::SocketAddrExt as _;
    let family = libc::sa_family_t::try_from(libc::AF_UNIX).unwrap();
    // SAFETY: an address of two bytes, its family alone: unix(7), autobind.
    let result = unsafe { libc::bind(socket.as_raw_fd(), (&raw const family).cast(), 2) };
    assert_eq!(result, 0, "{}", io::Error::last_os_error());
    let address = socket.local_addr().unwrap();
    String::from_utf8(address.as_abstract_name().unwrap().to_vec()).unwrap()
}
