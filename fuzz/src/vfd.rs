//! Virtual file descriptors under epoll, against what level-triggered means.

use crate::input::Input;
use shm_fifo::doorbell::{DOORBELL, LEAVE};
use shm_fifo::testing::{is_pattern, pattern};
use shm_fifo::vfd::{self, Errno};
use shm_fifo::{Channel, Region};
use std::collections::BTreeMap;
use std::io::{self, ErrorKind, IoSlice, Read as _, Write as _};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

const RING_BYTES: usize = 4096;
const IN: u32 = libc::EPOLLIN.cast_unsigned();
const OUT: u32 = libc::EPOLLOUT.cast_unsigned();
const EPOLLS: usize = 2;
const CONNECTIONS: usize = 3;

/// Makes the calls of a program with a few connections and epoll instances that
/// `data` spells.
///
/// # Panics
/// If a call says anything but what it would of sockets that behave as the model
/// below does.
pub fn run(data: &[u8]) {
    vfd::prepare().expect("a page");
    let mut input = Input::new(data);
    let mut program = Program {
        epolls: std::array::from_fn(|_| Epoll::new()),
        connections: std::array::from_fn(|_| Connection::new(true)),
    };
    while !input.is_empty() {
        program.step(&mut input);
    }
    for epoll in 0..EPOLLS {
        program.wait(epoll, 8);
    }
}

/// An epoll instance, closed as an interposed program closes it.
struct Epoll {
    fd: OwnedFd,
    /// What is registered: the mask of each connection, by its number.
    watched: BTreeMap<usize, u32>,
}

impl Epoll {
    fn new() -> Self {
        // SAFETY: takes no pointer.
        let fd = unsafe { libc::epoll_create1(libc::EPOLL_CLOEXEC) };
        assert!(fd >= 0, "an epoll instance");
        // SAFETY: just made, nobody else has it.
        Self { fd: unsafe { OwnedFd::from_raw_fd(fd) }, watched: BTreeMap::new() }
    }

    fn control(&self, operation: i32, fd: RawFd, mask: u32, data: u64) -> Result<(), Errno> {
        let event = libc::epoll_event { events: mask, u64: data };
        vfd::epoll_ctl(self.fd.as_raw_fd(), operation, fd, Some(event))
    }

    /// As an interposer's `epoll_wait` with a timeout of 0.
    fn poll(&self, room: usize) -> Vec<(u32, u64)> {
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; room];
        let epfd = self.fd.as_raw_fd();
        let found = match vfd::epoll_wait(epfd, &mut events, 0) {
            Some(result) => result.expect("no signal comes"),
            None => {
                let room = i32::try_from(room).expect("a small number");
                // SAFETY: room for that many events.
                let found = unsafe { libc::epoll_wait(epfd, events.as_mut_ptr(), room, 0) };
                vfd::filter_events(epfd, &mut events, usize::try_from(found).expect("no error"))
            }
        };
        events[..found].iter().map(|event| (event.events, event.u64)).collect()
    }
}

impl Drop for Epoll {
    fn drop(&mut self) {
        vfd::before_close(self.fd.as_raw_fd());
    }
}

/// A connection, and what must be true of it.
struct Connection {
    socket: UnixStream,
    /// The peer; `None` once it has ended.
    client: Option<Channel>,
    moved: bool,
    /// The endpoint of a connection that has not moved yet.
    region: Option<Region>,
    sent: u64,
    received: u64,
    client_sent: u64,
    client_received: u64,
    /// The peer has sent something that is no doorbell: from now on the
    /// connection may be over at any time.
    insulted: bool,
    /// The peer goes back to the socket: what is ready is the kernel's to tell, and when. The
    /// bytes are still those.
    left: bool,
    /// It was told that it may.
    is_back: bool,
}

impl Connection {
    fn new(at_once: bool) -> Self {
        let (here, there) = UnixStream::pair().expect("a socket pair");
        here.set_nonblocking(true).expect("a socket");
        let region = Region::create(RING_BYTES).expect("a region");
        region.park_both_ends();
        let attached = Region::attach(region.fd().expect("a descriptor")).expect("sound");
        let client = Channel::new(attached.into_endpoint(), there.into());
        let mut connection = Self {
            socket: here,
            client: Some(client),
            moved: false,
            region: Some(region),
            sent: 0,
            received: 0,
            client_sent: 0,
            client_received: 0,
            insulted: false,
            left: false,
            is_back: false,
        };
        if at_once {
            connection.start();
        }
        connection
    }

    fn fd(&self) -> RawFd {
        self.socket.as_raw_fd()
    }

    fn start(&mut self) {
        if self.left {
            return;
        }
        if let Some(region) = self.region.take() {
            vfd::start(self.fd(), region.into_endpoint(), 1, b"").expect("it has not moved before");
            self.moved = true;
        } else {
            let spare = Region::create(RING_BYTES).expect("a region");
            let again = vfd::start(self.fd(), spare.into_endpoint(), 1, b"");
            assert_eq!(again.map_err(|error| error.kind()), Err(ErrorKind::AlreadyExists));
        }
        assert!(vfd::is_virtual(self.fd()));
    }

    /// What epoll must report of it to somebody who watches `mask`.
    fn ready(&self, mask: u32) -> u32 {
        if self.left {
            return 0;
        }
        let ended = self.client.is_none();
        let mut ready = 0;
        if ended || self.client_sent != self.received {
            ready |= IN;
        }
        if ended || RING_BYTES - bytes(self.sent - self.client_received) >= RING_BYTES / 4 {
            ready |= OUT;
        }
        ready & mask
    }

    fn read(&mut self, length: usize) {
        let mut target = vec![0xEE; length];
        let result = vfd::read(self.fd(), &mut target);
        if self.left {
            let read = result.unwrap_or_else(|| (&self.socket).read(&mut target).map_err(errno));
            let count = read.unwrap_or(0);
            assert!(is_pattern(self.received, &target[..count]));
            self.received += count as u64;
            return;
        }
        assert_eq!(result.is_some(), self.moved);
        let Some(result) = result else { return };
        let expected = match bytes(self.client_sent - self.received).min(length) {
            0 if length > 0 && self.client.is_some() => Err(Errno(libc::EAGAIN)),
            count => Ok(count),
        };
        assert!(result == expected || self.insulted && result == Ok(0), "{result:?}");
        let count = result.unwrap_or(0);
        assert!(is_pattern(self.received, &target[..count]));
        self.received += count as u64;
    }

    fn write(&mut self, lengths: [usize; 2]) {
        let [first, second] = lengths;
        let source = pattern(self.sent, first + second);
        let (front, back) = source.split_at(first);
        let result = vfd::write(self.fd(), &[IoSlice::new(front), IoSlice::new(back)]);
        if self.left {
            let written = result.unwrap_or_else(|| (&self.socket).write(&source).map_err(errno));
            self.sent += written.unwrap_or(0) as u64;
            return;
        }
        assert_eq!(result.is_some(), self.moved);
        let Some(result) = result else { return };
        let free = RING_BYTES - bytes(self.sent - self.client_received);
        let broken = Err(Errno(libc::EPIPE));
        // As with a socket, its end need not have been heard of yet.
        let may_be_broken = self.insulted || self.client.is_none();
        let expected = match free.min(source.len()) {
            0 if !source.is_empty() && self.client.is_none() => broken,
            0 if !source.is_empty() => Err(Errno(libc::EAGAIN)),
            count => Ok(count),
        };
        assert!(result == expected || may_be_broken && result == broken, "{result:?}");
        self.sent += result.unwrap_or(0) as u64;
    }

    fn client_read(&mut self, length: usize) {
        if self.left {
            return self.left_client_read(length);
        }
        let Some(client) = &mut self.client else { return };
        let mut target = vec![0xEE; length];
        let result = client.try_read(&mut target).map_err(|error| error.kind());
        let expected = match bytes(self.sent - self.client_received).min(length) {
            0 if length > 0 => Err(ErrorKind::WouldBlock),
            count => Ok(count),
        };
        assert_eq!(result, expected);
        let count = result.unwrap_or(0);
        assert!(is_pattern(self.client_received, &target[..count]));
        self.client_received += count as u64;
    }

    fn client_write(&mut self, length: usize) {
        if self.left {
            return self.left_client_write(length);
        }
        let Some(client) = &mut self.client else { return };
        let result = client.try_write(&pattern(self.client_sent, length));
        let free = RING_BYTES - bytes(self.client_sent - self.received);
        let expected = match free.min(length) {
            0 if length > 0 => Err(ErrorKind::WouldBlock),
            count => Ok(count),
        };
        let result = result.map_err(|error| error.kind());
        assert_eq!(result, expected);
        self.client_sent += result.unwrap_or(0) as u64;
    }

    /// The client leaves the rings.
    fn leave(&mut self) {
        if self.moved && !self.left && !self.insulted {
            self.left = self.say(&[LEAVE]) == 1;
        }
    }

    fn left_client_read(&mut self, length: usize) {
        let mut target = vec![0xEE; if self.is_back { length } else { 1 }];
        let Some(client) = &self.client else { return };
        let flags = libc::MSG_DONTWAIT;
        // SAFETY: a live slice and a live socket.
        let received = unsafe {
            libc::recv(client.as_raw_fd(), target.as_mut_ptr().cast(), target.len(), flags)
        };
        let count = usize::try_from(received).unwrap_or(0);
        if !self.is_back {
            assert!(count == 0 || matches!(target[0], DOORBELL | LEAVE), "{}", target[0]);
            self.is_back = target[0] == LEAVE && count == 1;
            return;
        }
        assert!(is_pattern(self.client_received, &target[..count]));
        self.client_received += count as u64;
    }

    fn left_client_write(&mut self, length: usize) {
        if self.is_back {
            let sent = self.say(&pattern(self.client_sent, length));
            self.client_sent += u64::try_from(sent).unwrap_or(0);
        }
    }

    /// Writes to the socket in the client's name, what is no request.
    fn speak(&mut self, bytes: &[u8]) {
        if !self.left {
            let sent = self.say(bytes);
            self.insulted |= sent > 0 && bytes.iter().any(|&byte| byte != DOORBELL);
        }
    }

    fn say(&mut self, bytes: &[u8]) -> isize {
        let Some(client) = &self.client else { return -1 };
        let flags = libc::MSG_DONTWAIT | libc::MSG_NOSIGNAL;
        // SAFETY: a live slice and a live socket.
        unsafe { libc::send(client.as_raw_fd(), bytes.as_ptr().cast(), bytes.len(), flags) }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        vfd::before_close(self.fd());
        assert!(!vfd::is_virtual(self.fd()));
    }
}

struct Program {
    epolls: [Epoll; EPOLLS],
    connections: [Connection; CONNECTIONS],
}

impl Program {
    fn step(&mut self, input: &mut Input<'_>) {
        let number = input.below(CONNECTIONS);
        let epoll = input.below(EPOLLS);
        let connection = &mut self.connections[number];
        match input.below(20) {
            0 | 1 => connection.read(input.length(RING_BYTES)),
            2 | 3 => connection.write([input.length(RING_BYTES), input.length(RING_BYTES)]),
            4 | 5 => connection.client_read(input.length(RING_BYTES)),
            6 | 7 => connection.client_write(input.length(RING_BYTES)),
            8..=10 => self.control(input, epoll, number),
            11..=13 => self.wait(epoll, 1 + input.below(8)),
            14 => connection.speak(&[0; 300][..input.below(300)]),
            15 if input.byte() >= 192 => connection.speak(&[input.byte() | 2]),
            15 if input.byte() >= 128 => connection.leave(),
            16 if input.byte() >= 128 => connection.client = None,
            17 if input.byte() >= 128 => self.reopen(number, input.byte() >= 128),
            18 if input.byte() >= 128 => self.epolls[epoll] = Epoll::new(),
            19 => connection.start(),
            _ => {}
        }
    }

    /// `epoll_ctl`, and what the kernel says of it.
    fn control(&mut self, input: &mut Input<'_>, epoll: usize, number: usize) {
        let mask = input.choose(&[IN, OUT, IN | OUT, 0]);
        let operation =
            input.choose(&[libc::EPOLL_CTL_ADD, libc::EPOLL_CTL_MOD, libc::EPOLL_CTL_DEL]);
        let elsewhere = (0..EPOLLS)
            .any(|other| other != epoll && self.epolls[other].watched.contains_key(&number));
        if operation == libc::EPOLL_CTL_ADD && elsewhere {
            // One epoll instance at a time: that is a documented limit.
            return;
        }
        let fd = self.connections[number].fd();
        let epoll = &mut self.epolls[epoll];
        let watched = epoll.watched.contains_key(&number);
        let expected = match operation {
            libc::EPOLL_CTL_ADD if watched => Err(Errno(libc::EEXIST)),
            libc::EPOLL_CTL_ADD => Ok(()),
            _ if watched => Ok(()),
            _ => Err(Errno(libc::ENOENT)),
        };
        assert_eq!(epoll.control(operation, fd, mask, number as u64), expected);
        if expected.is_ok() {
            match operation {
                libc::EPOLL_CTL_DEL => epoll.watched.remove(&number),
                _ => epoll.watched.insert(number, mask),
            };
        }
    }

    /// Polls until everything that is ready has been reported, and asserts that
    /// nothing else is.
    fn wait(&mut self, epoll: usize, room: usize) {
        let epoll = &self.epolls[epoll];
        let mut missing: BTreeMap<u64, u32> = BTreeMap::new();
        for (&number, &mask) in &epoll.watched {
            let connection = &self.connections[number];
            let ready = connection.ready(mask);
            if connection.moved && ready != 0 {
                missing.insert(number as u64, ready);
            }
        }
        // Nobody hears of a doorbell at once; soon is what counts.
        let late = Instant::now() + Duration::from_secs(2);
        loop {
            for (ready, data) in epoll.poll(room) {
                let number = usize::try_from(data).expect("64 bits");
                let mask = epoll.watched.get(&number).copied();
                let connection = self.connections.get(number).expect("the program's own data");
                let mask = mask.expect("it is watched here");
                if connection.moved && !connection.left {
                    let expected = connection.ready(mask);
                    let gone = connection.insulted && ready == mask;
                    assert!(ready == expected || gone, "{ready} instead of {expected}");
                }
                missing.remove(&data);
            }
            if missing.is_empty() {
                return;
            }
            assert!(Instant::now() < late, "not reported: {missing:?}");
        }
    }

    /// Closes a connection and makes a new one, likely with its number.
    fn reopen(&mut self, number: usize, at_once: bool) {
        for epoll in &mut self.epolls {
            epoll.watched.remove(&number);
        }
        let fresh = Connection::new(at_once);
        self.connections[number] = fresh;
    }
}

fn errno(error: io::Error) -> Errno {
    Errno(error.raw_os_error().expect("of a system call"))
}

fn bytes(distance: u64) -> usize {
    usize::try_from(distance).expect("64 bits")
}
