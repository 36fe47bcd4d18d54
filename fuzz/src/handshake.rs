//! The handshake's machine against a simple model of it.
//!
//! The model has all bytes before it; the machine gets them in portions, while its
//! caller does what callers do.

use crate::input::Input;
use crate::process::open_fds;
use crate::resp::{Split, split};
use shm_fifo::Region;
use shm_fifo_redis_client::wire::{Event, Handshake, ReplyScanner, RingAnswer, Violation};

/// What servers say, more or less.
const PHRASES: [&[u8]; 20] = [
    b"+OK\r\n",
    b"+OK\r\n",
    b"+OK\r\n",
    b"\0",
    b"\0",
    b"\0\0\0",
    b"-ERR unknown command 'SHM.OPEN'\r\n",
    b"-NOAUTH Authentication required.\r\n",
    b"-ERR SHM.START: no offer\r\n",
    b">3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$3\r\n\0a\0\r\n",
    b"*3\r\n$7\r\nmessage\r\n$2\r\nch\r\n$1\r\nb\r\n",
    b"|1\r\n+ttl\r\n:3\r\n",
    b"%2\r\n+a\r\n~1\r\n#t\r\n+b\r\n|1\r\n_\r\n,1\r\n(5\r\n",
    b"$-1\r\n",
    b"=5\r\ntxt:a\r\n",
    b"*9999999\r\n",
    b":1\r\n",
    b"+O",
    b"K\r\n",
    b"\r\n",
];

/// Lets a handshake go as `data` spells.
///
/// # Panics
/// If the machine says anything but what the model says, keeps or invents a byte of the
/// program's, or leaks a descriptor.
pub fn run(data: &[u8]) {
    let fds_before = open_fds();
    let mut input = Input::new(data);
    let mut trial = Trial::new();
    while !input.is_empty() && trial.violation.is_none() {
        trial.act(&mut input);
    }
    trial.check();
    check_ring_answer(&mut input);
    drop(trial);
    assert_eq!(open_fds(), fds_before, "a descriptor was leaked");
}

/// A handshake, and what is known of it.
struct Trial {
    handshake: Handshake,
    region: Region,
    said: Vec<u8>,
    program: Vec<u8>,
    events: Vec<Told>,
    violation: Option<Violation>,
    /// How many bytes had come when the offer was accepted.
    started_at: Option<usize>,
}

/// An event that is no bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Told {
    Offered,
    Moved,
    Refused,
}

impl Trial {
    fn new() -> Self {
        let (handshake, command) = Handshake::begin(None, ReplyScanner::default());
        assert!(command.starts_with(b"*2\r\n$8\r\nSHM.OPEN\r\n"));
        Self {
            handshake,
            region: Region::create(4096).expect("a region"),
            said: Vec::new(),
            program: Vec::new(),
            events: Vec::new(),
            violation: None,
            started_at: None,
        }
    }

    fn act(&mut self, input: &mut Input<'_>) {
        match input.below(8) {
            0..=2 => self.say(input.choose(&PHRASES), input.below(8)),
            3 => {
                let length = input.below(24);
                let bytes = input.bytes(length);
                self.say(bytes, input.below(8));
            }
            _ => self.start(),
        }
    }

    /// Bytes come in portions of this length; 0 is all of them.
    fn say(&mut self, bytes: &[u8], portion: usize) {
        let portion = if portion == 0 { usize::MAX } else { portion };
        for portion in bytes.chunks(portion) {
            let mut rest = portion;
            while self.violation.is_none() && !rest.is_empty() {
                let before = rest.len();
                match self.handshake.next(&mut rest) {
                    Ok(Some(event)) => self.hear(event),
                    Ok(None) => assert!(rest.is_empty(), "bytes were left"),
                    Err(violation) => self.violation = Some(violation),
                }
                assert!(rest.len() <= before);
            }
            self.said.extend(portion);
        }
    }

    fn hear(&mut self, event: Event<'_>) {
        match event {
            Event::Program(part) => {
                assert!(!part.is_empty());
                self.program.extend(part);
            }
            Event::Offered => self.events.push(Told::Offered),
            Event::Moved(answer) => {
                assert_eq!(answer.left_bytes(), 5);
                self.events.push(Told::Moved);
            }
            Event::Refused(_) => self.events.push(Told::Refused),
        }
    }

    /// Accepts the offer, if there is one.
    fn start(&mut self) {
        if self.events != [Told::Offered] || self.started_at.is_some() {
            return;
        }
        let fd = self.region.fd().expect("a descriptor");
        let region = self.handshake.attach(Some(fd)).expect("a region");
        let (command, _) = self.handshake.start(region);
        let token = self.region.token();
        let expected = format!("*2\r\n$9\r\nSHM.START\r\n$32\r\n{token}\r\n");
        assert_eq!(String::from_utf8_lossy(&command), expected);
        self.started_at = Some(self.said.len());
    }

    /// Compares it with the model.
    fn check(&self) {
        let model = Model::of(self);
        if self.violation.is_some() {
            assert_ne!(model.end, End::Sound, "{:?} of {:?}", self.violation, self.said);
            assert!(model.program.starts_with(&self.program));
            return;
        }
        assert_ne!(model.end, End::Bad, "{:?}", self.said);
        assert_eq!((&self.program, &self.events), (&model.program, &model.events));
    }
}

/// How what was said ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// With a value, or in the middle of what may be anything.
    Sound,
    /// In the middle of a value, or of something that is none.
    Unknown,
    Bad,
}

/// What must come of what was said.
struct Model {
    program: Vec<u8>,
    events: Vec<Told>,
    end: End,
}

impl Model {
    fn of(trial: &Trial) -> Self {
        let mut model = Self { program: Vec::new(), events: Vec::new(), end: End::Sound };
        let mut at = 0;
        while at < trial.said.len() {
            let rest = &trial.said[at..];
            let is_starting = trial.started_at.is_some_and(|start| at >= start);
            let doorbells = rest.iter().take_while(|&&byte| byte == 0).count();
            match model.events.last() {
                Some(Told::Refused) => {
                    model.program.extend(rest);
                    return model;
                }
                Some(Told::Moved) => {
                    return Self { end: End::Bad, ..model };
                }
                Some(Told::Offered) if is_starting && doorbells > 0 => {
                    model.events.push(Told::Moved);
                    at += doorbells;
                    continue;
                }
                _ => {}
            }
            let is_answered = is_starting || model.events.is_empty();
            let own = is_answered && !matches!(rest[0], b'>' | b'|' | b'*');
            let length = match split(rest) {
                Split::Whole(length) => length,
                Split::Partial => {
                    model.program.extend(if own { &[] } else { rest });
                    return Self { end: End::Unknown, ..model };
                }
                Split::Bad => {
                    // Some of it may have been passed on before that was seen.
                    model.program.extend(if own { &[] } else { rest });
                    return Self { end: End::Bad, ..model };
                }
            };
            let value = &rest[..length];
            at += length;
            if !own {
                model.program.extend(value);
            } else if is_starting && value == b"+OK\r\n" {
                return Self { end: End::Bad, ..model };
            } else if !is_starting && value == b"+OK\r\n" {
                model.events.push(Told::Offered);
            } else {
                model.events.push(Told::Refused);
            }
        }
        model
    }
}

/// The answer in the ring is `+OK`, whatever it is read in, and nothing else is.
fn check_ring_answer(input: &mut Input<'_>) {
    let (mut answer, mut read) = (RingAnswer::default(), Vec::new());
    while answer.left_bytes() > 0 {
        let length = 1 + input.below(answer.left_bytes());
        let bytes = match input.byte() {
            0..240 => &b"+OK\r\n"[read.len()..][..length],
            _ => input.bytes(length),
        };
        read.extend(bytes);
        let expected = b"+OK\r\n".starts_with(&read);
        assert_eq!(answer.receive(bytes).is_ok(), expected);
        if !expected || bytes.is_empty() {
            return;
        }
    }
    assert_eq!(read, b"+OK\r\n");
}
