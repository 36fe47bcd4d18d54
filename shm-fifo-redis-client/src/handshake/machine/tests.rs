use super::*;
use proptest::prelude::*;
use shm_fifo::Channel;
use std::io::{self, Read};
use std::os::unix::net::UnixStream;

const RING_BYTES: usize = 4096;
const PUSH: &[u8] = b">2\r\n$10\r\ninvalidate\r\n$3\r\n\0a\0\r\n";
const RESP2_PUSH: &[u8] = b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nb\r\n";

fn begin() -> Handshake {
    Handshake::begin(None, ReplyScanner::default()).0
}

fn region() -> Region {
    Region::create(RING_BYTES).unwrap()
}

/// As it is told of.
const NOT_NOW: &str = "Refused(\"ERR SHM.OPEN: not now\")";

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
            Event::Refused(refusal) => self.events.push(format!("{refusal:?}")),
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
fn offered() -> Handshake {
    let mut handshake = begin();
    assert_eq!(receive(&mut handshake, OK), Ok(Seen::of("", &["offered"])));
    handshake
}

/// A handshake that waits for the answer to `SHM.START`.
fn starting() -> Handshake {
    let mut handshake = offered();
    let (_command, _endpoint) = handshake.start(region());
    handshake
}

#[test]
fn a_connection_moves() {
    let (mut handshake, created) = (offered(), region());
    let token = created.token().to_string();
    let attached = handshake.attach(Some(created.fd().unwrap())).unwrap();
    let (command, endpoint) = handshake.start(attached);
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
fn what_comes_before_the_answer_and_is_no_answer_is_the_programs() {
    let before = [PUSH, b"|1\r\n+ttl\r\n:3\r\n", RESP2_PUSH].concat();
    let all = [&before, &b"-ERR SHM.OPEN: not now\r\n"[..], b"+PONG\r\n"].concat();
    let expected = Seen::of([&before, &b"+PONG\r\n"[..]].concat(), &[NOT_NOW]);
    assert_eq!(receive(&mut begin(), &all), Ok(expected));
}

/// Of bytes that were peeked at, those behind are not to be received.
#[test]
fn nothing_behind_an_answer_is_taken_with_it() {
    for answer in [OK, b"-ERR no\r\n"] {
        let bytes = [PUSH, answer, OK].concat();
        let (mut handshake, mut rest) = (begin(), &bytes[..]);
        let push = handshake.next(&mut rest);
        assert!(matches!(push, Ok(Some(Event::Program(part))) if part == PUSH), "{push:?}");
        assert_eq!(rest, [answer, OK].concat());
        let answered = handshake.next(&mut rest);
        let is_answer = matches!(answered, Ok(Some(Event::Offered | Event::Refused(_))));
        assert!(is_answer, "{answered:?}");
        assert_eq!(rest, OK);
    }
}

#[test]
fn replies_behind_the_answer_are_the_programs_until_it_starts() {
    let mut handshake = offered();
    let behind = [OK, b"-ERR no\r\n", PUSH, b"$-1\r\n"].concat();
    assert_eq!(receive(&mut handshake, &behind), Ok(Seen::of(&behind, &[])));
    let (_command, _endpoint) = handshake.start(region());
    assert_eq!(receive(&mut handshake, PUSH), Ok(Seen::of(PUSH, &[])));
    assert_eq!(receive(&mut handshake, b"\0"), Ok(Seen::of("", &["moved"])));
}

#[test]
fn what_was_half_received_before_is_the_programs() {
    let (seen_before, rest) = PUSH.split_at(12);
    let mut scanner = ReplyScanner::default();
    scanner.next(seen_before).unwrap();
    let mut handshake = Handshake::begin(None, scanner).0;
    let bytes = [rest, b"-ERR unknown command 'SHM.OPEN'\r\n"].concat();
    assert_eq!(receive(&mut handshake, &bytes), Ok(Seen::of(rest, &["NoModule"])));
}

#[test]
fn both_commands_are_refused_by_the_same_words() {
    let table: [(&[u8], &str); 4] = [
        (b"-ERR unknown command 'SHM.OPEN', with args\r\n", "NoModule"),
        (b"-NOPERM this user has no permissions\r\n", "NoPermission"),
        (b"-ERR SHM.OPEN: not now\r\n", NOT_NOW),
        (b"+QUEUED\r\n", "Refused(\"+QUEUED\")"),
    ];
    for (answer, refusal) in table {
        for mut handshake in [begin(), starting()] {
            assert_eq!(receive(&mut handshake, answer), Ok(Seen::of("", &[refusal])));
        }
    }
}

#[test]
fn what_is_no_region_is_refused() {
    let handshake = offered();
    assert!(matches!(handshake.attach(None), Err(Refusal::NoDescriptor)));
    let pipe = handshake.attach(Some(io::pipe().unwrap().0.into()));
    assert!(matches!(pipe, Err(Refusal::Attach(_))));
}

/// Over TCP anybody may send a descriptor: only the one whose token the server names will do.
#[test]
fn memory_that_another_program_sent_is_refused() {
    let (servers, others) = (region(), region());
    let attached_behind = |answer: &str, region: &Region| {
        let fd_socket = FdSocket::bind().unwrap();
        let (mut handshake, _) = Handshake::begin(Some(&fd_socket), ReplyScanner::default());
        let seen = receive(&mut handshake, answer.as_bytes());
        assert_eq!(seen, Ok(Seen::of("", &["offered"])));
        handshake.attach(Some(region.fd().unwrap())).map(drop)
    };

    let answer = format!("+OK {}\r\n", servers.token());
    assert!(attached_behind(&answer, &servers).is_ok());
    let refused = [attached_behind(&answer, &others), attached_behind("+OK\r\n", &servers)];
    assert!(refused.iter().all(|attached| matches!(attached, Err(Refusal::NotTheServers))));
}

#[test]
fn what_is_no_token_is_no_offer() {
    for answer in ["+OK \r\n", "+OK +123456789abcdef0123456789abcdef\r\n", "+OKAY\r\n"] {
        let fd_socket = FdSocket::bind().unwrap();
        let (mut handshake, _) = Handshake::begin(Some(&fd_socket), ReplyScanner::default());
        let seen = receive(&mut handshake, answer.as_bytes()).unwrap();
        assert_ne!(seen, Seen::of("", &["offered"]), "{answer}");
    }
}

#[test]
fn after_a_refusal_everything_is_the_programs() {
    let anything = [&b"\0\0garbage\r\n"[..], PUSH, b"+OK\r\n"].concat();
    let bytes = [b"-NOPERM no\r\n", &anything[..]].concat();
    assert_eq!(receive(&mut begin(), &bytes), Ok(Seen::of(&anything, &["NoPermission"])));

    let bytes = [PUSH, b"-ERR SHM.START: expired\r\n", &anything].concat();
    let refusal = "Refused(\"ERR SHM.START: expired\")";
    let expected = Seen::of([PUSH, &anything].concat(), &[refusal]);
    assert_eq!(receive(&mut starting(), &bytes), Ok(expected));
}

#[test]
fn a_doorbell_is_one_only_between_values_and_after_start() {
    let early = Err(Violation::Unexpected("a doorbell before SHM.START"));
    assert_eq!(receive(&mut begin(), b"\0"), early);
    assert_eq!(receive(&mut begin(), b"+OK\r\n\0"), early);
    assert_eq!(receive(&mut offered(), b"\0"), early);
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
        let mut handshake = begin();
        assert_eq!(in_portions(&mut handshake, &endless, length), violation);
    }
    let no_reply = Err(Violation::Reply(ReplyError::UnknownType(b'H')));
    assert_eq!(receive(&mut begin(), b"HTTP/1.1 400\r\n"), no_reply);
}

#[test]
fn the_beginning_of_a_long_answer_is_kept() {
    let long = [b"-", &[b'x'; 5000][..], b"\r\n"].concat();
    let seen = in_portions(&mut begin(), &long, 300);
    let kept = format!("Refused({:?})", "x".repeat(KEPT_ANSWER_BYTES - 1));
    assert_eq!(seen, Ok(Seen::of("", &[&kept])));
}

#[test]
fn a_value_of_any_size_is_passed_on_piece_by_piece() {
    let mut handshake = begin();
    let mut beginning = &b">1\r\n$99999999999\r\n"[..];
    let mut passed = 0;
    while let Some(Event::Program(part)) = handshake.next(&mut beginning).unwrap() {
        passed += part.len();
    }
    assert_eq!(passed, 18);
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
        length in 1..40_usize,
    ) {
        let bytes: Vec<u8> = phrases.iter().flat_map(|&index| PHRASES[index]).copied().collect();
        let run = |length| in_portions(&mut begin(), &bytes, length);
        prop_assert_eq!(run(length), run(usize::MAX));
    }
}
