use super::*;
use proptest::prelude::*;
use shm_fifo::{Channel, fd_passing};
use std::io::Read;
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::net::{UnixDatagram, UnixStream};

const RING_BYTES: usize = 4096;
const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n$3\r\n\0a\0\r\n";
const RESP2_PUSH: &[u8] = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nb\r\n";

fn begin(kind: SocketKind, replies: u64) -> Handshake {
    Handshake::begin(kind, replies, ReplyScanner::default()).unwrap().0
}

fn region() -> Region {
    Region::create(RING_BYTES).unwrap()
}

/// What came of some bytes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Seen {
    program: Vec<u8>,
    /// The other events, by their names.
    events: Vec<String>,
}

impl Seen {
    fn of(program: impl AsRef<[u8]>, events: &[&str]) -> Self {
        let events = events.iter().map(|&event| event.to_owned()).collect();
        Self { program: program.as_ref().to_owned(), events }
    }

    fn note(&mut self, event: Event<'_>) {
        match event {
            Event::Program(part) => self.program.extend(part),
            Event::Offered => self.events.push("offered".to_owned()),
            Event::Moved(_) => self.events.push("moved".to_owned()),
            Event::Refused(reason) => self.events.push(format!("{reason:?}")),
        }
    }
}

/// What a handshake makes of `bytes` that arrive in portions of this length.
fn in_portions(handshake: &mut Handshake, bytes: &[u8], length: usize) -> Result<Seen, Violation> {
    let mut seen = Seen::default();
    for mut portion in bytes.chunks(length) {
        while let Some(event) = handshake.next(&mut portion)? {
            seen.note(event);
        }
    }
    Ok(seen)
}

fn receive(handshake: &mut Handshake, bytes: &[u8]) -> Result<Seen, Violation> {
    in_portions(handshake, bytes, usize::MAX)
}

/// A handshake whose offer has come.
fn offered() -> (Handshake, Region) {
    let (mut handshake, region) = (begin(SocketKind::Unix, 0), region());
    handshake.receive_fd(region.fd().unwrap());
    assert_eq!(receive(&mut handshake, OK), Ok(Seen::of("", &["offered"])));
    (handshake, region)
}

/// A handshake that waits for the answer to `SHM.START`.
fn starting() -> Handshake {
    let (mut handshake, _) = offered();
    assert!(handshake.start().is_some());
    handshake
}

#[test]
fn a_connection_moves() {
    let (mut handshake, created) = offered();
    let token: String = created.token().iter().map(|byte| format!("{byte:02x}")).collect();
    let (command, endpoint) = handshake.start().unwrap();
    assert!(String::from_utf8_lossy(&command).contains(&token));

    let (here, there) = UnixStream::pair().unwrap();
    let mut server = Channel::new(created.into_endpoint(), there.into());
    server.try_write(b"+OK\r\nmore").unwrap();
    let mut rest = &b"\0\0"[..];
    let Ok(Some(Event::Moved(mut answer))) = handshake.next(&mut rest) else { panic!() };
    assert!(rest.is_empty());

    let mut client = Channel::new(endpoint, here.into());
    let mut bytes = vec![0; answer.left_bytes()];
    client.read_exact(&mut bytes).unwrap();
    assert_eq!(answer.receive(&bytes), Ok(()));
    assert_eq!(answer.left_bytes(), 0);
    let mut more = [0; 4];
    client.read_exact(&mut more).unwrap();
    assert_eq!(more, *b"more");
}

#[test]
fn over_tcp_the_descriptor_comes_on_a_socket_of_its_own() {
    let mut handshake = begin(SocketKind::Tcp, 0);
    let name = handshake.fd_socket.as_ref().unwrap().name().to_owned();
    let address = fd_passing::AbstractAddress::from_digits(name.as_bytes()).unwrap();
    let (socket, region) = (UnixDatagram::unbound().unwrap(), region());
    let fd = region.fd().unwrap();
    fd_passing::send_with_fd_to(socket.as_raw_fd(), address, &[0], fd.as_fd()).unwrap();
    assert_eq!(receive(&mut handshake, OK), Ok(Seen::of("", &["offered"])));
    assert!(handshake.fd_socket.is_none(), "it is of no use any more");
}

#[test]
fn replies_before_the_answer_are_the_programs_and_pushes_are_not_counted() {
    let mut handshake = begin(SocketKind::Unix, 3);
    let before = [OK, PUSH, b"|1\r\n+ttl\r\n:3\r\n", b"*2\r\n:1\r\n:2\r\n", PUSH, b"-ERR x\r\n"];
    let before = before.concat();
    let all = [&before, RESP2_PUSH, b"-ERR SHM.OPEN: not now\r\n", b"+PONG\r\n"].concat();
    let expected = Seen::of([&before, RESP2_PUSH, b"+PONG\r\n"].concat(), &["OpenRefused"]);
    assert_eq!(receive(&mut handshake, &all), Ok(expected));
    assert_eq!(handshake.answer(), b"-ERR SHM.OPEN: not now\r\n");
}

#[test]
fn replies_behind_the_answer_are_the_programs_until_it_starts() {
    let (mut handshake, _region) = offered();
    let behind = [OK, b"-ERR no\r\n", PUSH, b"$-1\r\n"].concat();
    assert_eq!(receive(&mut handshake, &behind), Ok(Seen::of(&behind, &[])));
    assert!(handshake.start().is_some());
    assert_eq!(receive(&mut handshake, PUSH), Ok(Seen::of(PUSH, &[])));
    assert_eq!(receive(&mut handshake, b"\0"), Ok(Seen::of("", &["moved"])));
}

#[test]
fn what_was_half_received_before_is_the_programs() {
    let (seen_before, rest) = PUSH.split_at(12);
    let mut scanner = ReplyScanner::default();
    scanner.next(seen_before).unwrap();
    let mut handshake = Handshake::begin(SocketKind::Unix, 0, scanner).unwrap().0;
    let bytes = [rest, b"-ERR unknown command 'SHM.OPEN'\r\n"].concat();
    assert_eq!(receive(&mut handshake, &bytes), Ok(Seen::of(rest, &["NoModule"])));
}

#[test]
fn a_refusal_has_its_reason() {
    let table: [(&[u8], &str); 8] = [
        (b"-ERR unknown command 'SHM.OPEN', with args\r\n", "NoModule"),
        (b"-err Unknown Command\r\n", "NoModule"),
        (b"-NOAUTH Authentication required.\r\n", "NotAllowed"),
        (b"-NOPERM this user has no permissions\r\n", "NotAllowed"),
        (b"-ERR SHM.OPEN: too many sessions\r\n", "OpenRefused"),
        (b"-LOADING Redis is loading\r\n", "OpenRefused"),
        (b"+QUEUED\r\n", "OpenRefused"),
        (b"+OK\r\n", "NoDescriptor"),
    ];
    for (answer, reason) in table {
        let mut handshake = begin(SocketKind::Unix, 0);
        assert_eq!(receive(&mut handshake, answer), Ok(Seen::of("", &[reason])));
        assert_eq!(handshake.answer(), answer);
        assert!(handshake.start().is_none());
    }
}

#[test]
fn what_is_no_region_is_refused() {
    let mut handshake = begin(SocketKind::Unix, 0);
    handshake.receive_fd(io::pipe().unwrap().0.into());
    let mut answer = OK;
    let event = handshake.next(&mut answer);
    assert!(matches!(event, Ok(Some(Event::Refused(Reason::Attach(_))))), "{event:?}");
}

/// A descriptor, and what sees whether it was closed.
fn watched_fd() -> (OwnedFd, impl FnMut() -> bool) {
    let (mut watcher, watched) = UnixStream::pair().unwrap();
    watcher.set_nonblocking(true).unwrap();
    (watched.into(), move || watcher.read(&mut [0]).is_ok())
}

#[test]
fn of_descriptors_the_last_counts_and_others_are_closed() {
    let mut handshake = begin(SocketKind::Unix, 1);
    let (first, mut is_closed) = watched_fd();
    handshake.receive_fd(first);
    receive(&mut handshake, b"+PONG\r\n").unwrap();
    assert!(!is_closed());
    handshake.receive_fd(region().fd().unwrap());
    assert!(is_closed());
    assert_eq!(receive(&mut handshake, OK), Ok(Seen::of("", &["offered"])));

    let (late, mut is_closed) = watched_fd();
    handshake.receive_fd(late);
    assert!(is_closed());
}

#[test]
fn after_a_refusal_everything_is_the_programs() {
    let anything = [&b"\0\0garbage\r\n"[..], PUSH, b"+OK\r\n"].concat();
    let mut opening = begin(SocketKind::Unix, 0);
    let bytes = [b"-NOPERM no\r\n", &anything[..]].concat();
    assert_eq!(receive(&mut opening, &bytes), Ok(Seen::of(&anything, &["NotAllowed"])));

    let mut starting = starting();
    let bytes = [PUSH, b"-ERR SHM.START: expired\r\n", &anything].concat();
    let expected = Seen::of([PUSH, &anything].concat(), &["StartRefused"]);
    assert_eq!(receive(&mut starting, &bytes), Ok(expected));
    assert_eq!(starting.answer(), b"-ERR SHM.START: expired\r\n");
}

#[test]
fn an_offer_is_accepted_once_and_not_before_it_comes() {
    let (mut handshake, region) = (begin(SocketKind::Unix, 0), region());
    assert!(handshake.start().is_none());
    handshake.receive_fd(region.fd().unwrap());
    assert_eq!(receive(&mut handshake, OK), Ok(Seen::of("", &["offered"])));
    assert!(handshake.start().is_some());
    assert!(handshake.start().is_none());
    assert_eq!(receive(&mut handshake, b"\0"), Ok(Seen::of("", &["moved"])));
    assert!(handshake.start().is_none());
}

#[test]
fn a_doorbell_is_one_only_between_values_and_after_start() {
    let early = Err(Violation::Unexpected("a doorbell before SHM.START"));
    assert_eq!(receive(&mut begin(SocketKind::Unix, 0), b"\0"), early);
    assert_eq!(receive(&mut begin(SocketKind::Unix, 1), b"+OK\r\n\0"), early);
    assert_eq!(receive(&mut offered().0, b"\0"), early);
    assert_eq!(receive(&mut starting(), PUSH), Ok(Seen::of(PUSH, &[])));
}

#[test]
fn nothing_but_doorbells_follows_a_doorbell() {
    let violation = Err(Violation::Unexpected("other bytes behind a doorbell"));
    assert_eq!(receive(&mut starting(), b"\0\0+OK\r\n"), violation);
    assert_eq!(in_portions(&mut starting(), b"\0\0+OK\r\n", 1), violation);
    assert_eq!(in_portions(&mut starting(), b"\0\0\0", 1), Ok(Seen::of("", &["moved"])));
}

#[test]
fn answers_that_cannot_be_are_violations() {
    let ok = Err(Violation::Unexpected("+OK on the socket in answer to SHM.START"));
    assert_eq!(receive(&mut starting(), OK), ok);
    let endless = [b"-".to_vec(), vec![b'x'; MAX_ANSWER_BYTES]].concat();
    let violation = Err(Violation::Unexpected("an answer that does not end"));
    for length in [1000, usize::MAX] {
        let mut handshake = begin(SocketKind::Unix, 0);
        assert_eq!(in_portions(&mut handshake, &endless, length), violation);
    }
    let no_reply = Err(Violation::Reply(ReplyError::UnknownType(b'H')));
    assert_eq!(receive(&mut begin(SocketKind::Unix, 0), b"HTTP/1.1 400\r\n"), no_reply);
}

#[test]
fn the_beginning_of_a_long_answer_is_kept() {
    let long = [b"-", &[b'x'; 5000][..], b"\r\n"].concat();
    let mut handshake = begin(SocketKind::Unix, 0);
    let seen = in_portions(&mut handshake, &long, 300);
    assert_eq!(seen, Ok(Seen::of("", &["OpenRefused"])));
    assert_eq!(*handshake.answer(), long[..KEPT_ANSWER_BYTES]);
}

#[test]
fn a_value_of_any_size_is_passed_on_piece_by_piece() {
    let mut handshake = begin(SocketKind::Unix, 1);
    let mut beginning = &b"$99999999999\r\n"[..];
    let mut passed = 0;
    while let Some(Event::Program(part)) = handshake.next(&mut beginning).unwrap() {
        passed += part.len();
    }
    assert_eq!(passed, 14);
    let chunk = [b'x'; 100_000];
    for _ in 0..100 {
        let mut bytes = &chunk[..];
        let Ok(Some(Event::Program(part))) = handshake.next(&mut bytes) else { panic!() };
        assert_eq!(part.len(), chunk.len());
    }
}

#[test]
fn the_answer_in_the_ring_is_ok_in_any_portions() {
    for length in 1..=OK.len() {
        let mut answer = RingAnswer::default();
        for portion in OK.chunks(length) {
            assert!(answer.left_bytes() >= portion.len());
            assert_eq!(answer.receive(portion), Ok(()));
        }
        assert_eq!(answer.left_bytes(), 0);
    }
    assert!(RingAnswer::default().receive(b"-ERR ").is_err());
    assert!(RingAnswer::default().receive(b"+OK\r\n+").is_err());
}

/// What servers say, more or less.
const PHRASES: [&[u8]; 10] = [
    OK,
    PUSH,
    RESP2_PUSH,
    b"-ERR no\r\n",
    b"$3\r\n\0\r\n\r\n",
    b"%1\r\n+a\r\n*1\r\n_\r\n",
    b"|1\r\n+a\r\n:1\r\n",
    b"\0",
    b"?",
    b"*9",
];

proptest! {
    #[test]
    fn portions_make_no_difference(
        phrases in prop::collection::vec(0..PHRASES.len(), 0..12),
        replies in 0..4_u64,
        with_fd: bool,
        length in 1..40_usize,
    ) {
        let bytes: Vec<u8> = phrases.iter().flat_map(|&index| PHRASES[index]).copied().collect();
        let created = region();
        let run = |length| {
            let mut handshake = begin(SocketKind::Unix, replies);
            if with_fd {
                handshake.receive_fd(created.fd().unwrap());
            }
            in_portions(&mut handshake, &bytes, length)
        };
        prop_assert_eq!(run(length), run(usize::MAX));
    }
}
