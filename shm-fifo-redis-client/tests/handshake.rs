//! Moving to shared memory, with every way a server can behave meanwhile.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo_redis_client::move_to_shared_memory;
use shm_fifo_redis_client::{Attempt, MoveError, Refusal, Stream, Transport};
use std::io::{Read, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};
use support::fake::{FakeServer, Peer, RING_BYTES, send_letter};
use support::watchdog::watched;

/// A deadline that only a hanging test reaches.
fn far() -> Option<Instant> {
    Some(Instant::now() + Duration::from_secs(30))
}

fn connect(server: &FakeServer) -> Stream {
    match server.place.rsplit_once(':') {
        Some((host, port)) => Stream::connect_tcp(host, port.parse().unwrap(), None).unwrap(),
        None => Stream::connect_unix(&server.place, None).unwrap(),
    }
}

fn attempt(server: &FakeServer) -> Result<Attempt, MoveError> {
    move_to_shared_memory(connect(server), far())
}

fn moved(server: &FakeServer) -> Stream {
    match attempt(server).unwrap() {
        Attempt::Moved(stream) => stream,
        Attempt::Stayed(_, refusal) => panic!("{refusal}"),
    }
}

/// The refusal, once the stream was found to be as good as before.
fn stayed(server: &FakeServer) -> Refusal {
    match attempt(server).unwrap() {
        Attempt::Moved(stream) => panic!("{stream:?}"),
        Attempt::Stayed(mut stream, refusal) => {
            assert_ne!(stream.transport(), Transport::SharedMemory);
            stream.write_all(b"*1\r\n$4\r\nPING\r\n").unwrap();
            assert_eq!(&read_exact(&mut stream, 7), b"+PONG\r\n");
            refusal
        }
    }
}

fn read_exact(stream: &mut Stream, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

/// The server's side of [`stayed`].
fn answer_ping(mut peer: Peer) {
    peer.expect("PING");
    peer.say(b"+PONG\r\n");
    peer.wait_for_end();
}

fn echo_one_byte(mut channel: impl Read + Write) {
    let mut byte = [0];
    channel.read_exact(&mut byte).unwrap();
    channel.write_all(&byte).unwrap();
}

fn assert_echoes(mut stream: Stream) {
    assert_eq!(stream.transport(), Transport::SharedMemory);
    stream.write_all(b"x").unwrap();
    assert_eq!(&read_exact(&mut stream, 1), b"x");
}

fn share_and_echo(mut peer: Peer) {
    let region = peer.offer();
    echo_one_byte(peer.start(region));
}

#[test]
fn a_unix_socket_connection_moves() {
    watched(|| assert_echoes(moved(&FakeServer::unix(share_and_echo))));
}

#[test]
fn a_loopback_tcp_connection_moves() {
    watched(|| assert_echoes(moved(&FakeServer::tcp(share_and_echo))));
}

#[test]
fn a_moved_connection_is_left_where_it_is() {
    watched(|| {
        let server = FakeServer::unix(share_and_echo);
        let again = move_to_shared_memory(moved(&server), far());
        let Ok(Attempt::Moved(stream)) = again else { panic!("{again:?}") };
        assert_echoes(stream);
    });
}

#[test]
fn a_server_without_the_module_is_recognised() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            peer.expect("SHM.OPEN");
            peer.say(b"-ERR unknown command 'SHM.OPEN', with args beginning with: '2' \r\n");
            answer_ping(peer);
        });
        assert!(matches!(stayed(&server), Refusal::NoModule));
    });
}

#[test]
fn a_refused_open_says_why() {
    watched(|| {
        let server = FakeServer::tcp(|mut peer| {
            peer.expect("SHM.OPEN");
            peer.say(b"-ERR SHM.OPEN: too many sessions; raise shm.max-sessions\r\n");
            answer_ping(peer);
        });
        let refusal = stayed(&server);
        assert!(refusal.to_string().contains("raise shm.max-sessions"), "{refusal}");
    });
}

#[test]
fn a_lost_descriptor_leaves_the_connection_on_its_socket() {
    watched(|| {
        let lose_it = |mut peer: Peer| {
            peer.expect("SHM.OPEN");
            peer.say(b"+OK\r\n");
            answer_ping(peer);
        };
        for server in [FakeServer::unix(lose_it), FakeServer::tcp(lose_it)] {
            assert!(matches!(stayed(&server), Refusal::NoDescriptor));
        }
    });
}

/// A server that delivers whatever `make_fd` makes as its region.
fn delivering(make_fd: impl FnOnce() -> OwnedFd + Send + 'static) -> FakeServer {
    FakeServer::unix(move |mut peer| {
        let open = peer.expect("SHM.OPEN");
        peer.deliver(&open, make_fd());
        answer_ping(peer);
    })
}

#[test]
fn a_pipe_is_no_region() {
    watched(|| {
        let server = delivering(|| std::io::pipe().unwrap().0.into());
        assert!(matches!(stayed(&server), Refusal::Attach(_)));
    });
}

#[test]
fn a_socket_is_no_region() {
    watched(|| {
        let server = delivering(|| UnixStream::pair().unwrap().0.into());
        assert!(matches!(stayed(&server), Refusal::Attach(_)));
    });
}

#[test]
fn a_file_that_could_shrink_is_no_region() {
    watched(|| {
        let server = delivering(|| {
            let file = tempfile::tempfile_in("/dev/shm").unwrap();
            file.set_len(1 << 20).unwrap();
            file.into()
        });
        assert!(stayed(&server).to_string().contains("not sealed"));
    });
}

#[test]
fn of_descriptors_the_last_is_the_offers() {
    const PUSH: &[u8] = b">1\r\n+invalidate\r\n";
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            let words = peer.expect("SHM.OPEN");
            peer.say_with_fd(PUSH, std::io::pipe().unwrap().0);
            let region = peer.offer_to(&words);
            echo_one_byte(peer.start(region));
        });
        let mut stream = moved(&server);
        assert_eq!(read_exact(&mut stream, PUSH.len()), PUSH);
        assert_echoes(stream);
    });
}

#[test]
fn a_datagram_of_a_stranger_is_passed_over() {
    watched(|| {
        let server = FakeServer::tcp(|mut peer| {
            let open = peer.expect("SHM.OPEN");
            let stranger = std::io::pipe().unwrap().0;
            send_letter(&open[3], b"not the one byte", stranger.as_fd());
            let region = shm_fifo::Region::create(RING_BYTES).unwrap();
            region.park_both_ends();
            peer.deliver(&open, region.fd().unwrap());
            echo_one_byte(peer.start(region));
        });
        assert_echoes(moved(&server));
    });
}

/// Whoever is there first with memory of its own does not know the token.
#[test]
fn memory_of_a_stranger_leaves_the_connection_on_its_socket() {
    watched(|| {
        let server = FakeServer::tcp(|mut peer| {
            let open = peer.expect("SHM.OPEN");
            let strangers = shm_fifo::Region::create(RING_BYTES).unwrap();
            send_letter(&open[3], &[0], strangers.fd().unwrap());
            let region = shm_fifo::Region::create(RING_BYTES).unwrap();
            peer.deliver(&open, region.fd().unwrap());
            answer_ping(peer);
        });
        assert!(matches!(stayed(&server), Refusal::NotTheServers));
    });
}

#[test]
fn a_refused_start_leaves_the_connection_on_its_socket() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(b"-ERR SHM.START: the offer has expired; send SHM.OPEN again\r\n");
            answer_ping(peer);
        });
        assert!(matches!(stayed(&server), Refusal::Refused(text) if text.contains("expired")));
    });
}

/// A push whose payload has the byte that is a doorbell between messages.
const PUSH: &[u8] = b">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$3\r\n\0a\0\r\n";
const RESP2_PUSH: &[u8] = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nb\r\n";

#[test]
fn pushes_on_the_way_come_first_and_in_order() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            peer.say(PUSH);
            let region = peer.offer();
            peer.say(RESP2_PUSH);
            peer.say(PUSH);
            echo_one_byte(peer.start(region));
        });
        let mut stream = moved(&server);
        let pushes = [PUSH, RESP2_PUSH, PUSH].concat();
        assert_eq!(read_exact(&mut stream, pushes.len()), pushes);
        assert_echoes(stream);
    });
}

#[test]
fn pushes_around_a_refusal_are_kept_too() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            peer.expect("SHM.OPEN");
            peer.say(&[PUSH, b"-NOPERM no\r\n", PUSH].concat());
            peer.wait_for_end();
        });
        let Ok(Attempt::Stayed(mut stream, _)) = attempt(&server) else { panic!() };
        assert_eq!(read_exact(&mut stream, 2 * PUSH.len()), [PUSH, PUSH].concat());
    });
}

#[test]
fn a_server_that_dies_meanwhile_is_an_error() {
    watched(|| {
        let before_the_answer = FakeServer::unix(|mut peer| drop(peer.expect("SHM.OPEN")));
        let inside_the_answer = FakeServer::unix(|mut peer| {
            peer.expect("SHM.OPEN");
            peer.say(b"-ERR SHM.OP");
        });
        let after_the_offer = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
        });
        let after_the_doorbell = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(&[0]);
        });
        for server in [before_the_answer, inside_the_answer, after_the_offer, after_the_doorbell] {
            let result = attempt(&server);
            assert!(matches!(result, Err(MoveError::Ended | MoveError::Io(_))), "{result:?}");
        }
    });
}

#[test]
fn a_server_that_never_answers_meets_the_deadline() {
    watched(|| {
        let silent_at_open = FakeServer::unix(|mut peer| peer.wait_for_end());
        let silent_at_start = FakeServer::unix(|mut peer| {
            let _region = peer.offer();
            peer.wait_for_end();
        });
        let silent_in_the_ring = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(&[0]);
            peer.wait_for_end();
        });
        for server in [silent_at_open, silent_at_start, silent_in_the_ring] {
            let soon = Some(Instant::now() + Duration::from_millis(50));
            let result = move_to_shared_memory(connect(&server), soon);
            assert!(matches!(result, Err(MoveError::TimedOut)), "{result:?}");
        }
    });
}

#[test]
fn an_endless_answer_is_cut_off() {
    watched(|| {
        let endless: [(&[u8], &[u8]); 5] = [
            (b"-ERR", b" and so on"),
            (b"+", b"x"),
            (b">9999999\r\n", b":1\r\n"),
            (b"$99999999\r\n", b"x"),
            (PUSH, PUSH),
        ];
        for (beginning, filler) in endless {
            let server = FakeServer::unix(move |mut peer| {
                peer.expect("SHM.OPEN");
                peer.say(beginning);
                let Peer::Unix(mut socket) = peer else { unreachable!() };
                let filler = filler.repeat(1000);
                while socket.write_all(&filler).is_ok() {}
            });
            let result = attempt(&server);
            assert!(matches!(result, Err(MoveError::Violation(_))), "{result:?}");
        }
    });
}

#[test]
fn answers_that_the_protocol_does_not_know_are_errors() {
    watched(|| {
        let garbage: [&[u8]; 3] = [b"\0", b"HTTP/1.1 400\r\n", b"?\r\n"];
        for answer in garbage {
            let server = FakeServer::unix(move |mut peer| {
                peer.expect("SHM.OPEN");
                peer.say(answer);
                peer.wait_for_end();
            });
            let result = attempt(&server);
            assert!(matches!(result, Err(MoveError::Violation(_) | MoveError::Reply(_))));
        }
    });
}

#[test]
fn something_else_first_in_the_ring_is_an_error() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
            let mut channel = shm_fifo::Channel::new(region.into_endpoint(), peer.into());
            channel.write_all(b"+NO\r\n").unwrap();
        });
        assert!(matches!(attempt(&server), Err(MoveError::Violation(_))));
    });
}

#[test]
fn bytes_behind_a_doorbell_are_an_error() {
    watched(|| {
        let server = FakeServer::unix(|mut peer| {
            let region = peer.offer();
            peer.expect_start(&region);
            peer.say(b"\0\0+OK\r\n");
            peer.wait_for_end();
        });
        assert!(matches!(attempt(&server), Err(MoveError::Violation(_))));
    });
}
