//! A server of one connection, played by a closure.

use shm_fifo::fd_passing::{self, AbstractAddress};
use shm_fifo::{Channel, Region, region::Token};
use std::io::{self, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixDatagram, UnixListener, UnixStream};
use std::thread::JoinHandle;
use tempfile::TempDir;

pub(crate) const RING_BYTES: usize = 4096;

/// Words of a command.
pub(crate) type Words = Vec<Vec<u8>>;

/// A listening server. Dropping it waits for its end and passes its panic on.
pub(crate) struct FakeServer {
    /// Host and port, or path.
    pub(crate) place: String,
    thread: Option<JoinHandle<()>>,
    _directory: Option<TempDir>,
}

impl FakeServer {
    /// A server on a unix socket that serves one connection with `play`.
    pub(crate) fn unix(play: impl FnOnce(Peer) + Send + 'static) -> Self {
        let directory = TempDir::new().unwrap();
        let path = directory.path().join("fake.sock");
        let listener = UnixListener::bind(&path).unwrap();
        let serve = move || play(Peer::Unix(listener.accept().unwrap().0));
        let place = path.to_str().unwrap().to_owned();
        Self { place, thread: Some(std::thread::spawn(serve)), _directory: Some(directory) }
    }

    /// The same on loopback TCP.
    pub(crate) fn tcp(play: impl FnOnce(Peer) + Send + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let place = listener.local_addr().unwrap().to_string();
        let serve = move || play(Peer::Tcp(listener.accept().unwrap().0));
        Self { place, thread: Some(std::thread::spawn(serve)), _directory: None }
    }

    /// A server that greets, moves the connection, and answers each command.
    pub(crate) fn sharing(answer: impl FnMut(&Words) -> Vec<u8> + Send + 'static) -> Self {
        Self::unix(move |peer| serve(peer.share(), answer))
    }

    pub(crate) fn shm_address(&self) -> String {
        format!("redis+shm+unix://{}", self.place)
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        let outcome = self.thread.take().unwrap().join();
        if let Err(panic) = outcome
            && !std::thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

/// The server's end of a socket.
pub(crate) enum Peer {
    Unix(UnixStream),
    Tcp(TcpStream),
}

impl Peer {
    pub(crate) fn say(&mut self, bytes: &[u8]) {
        match self {
            Self::Unix(socket) => socket.write_all(bytes).unwrap(),
            Self::Tcp(socket) => socket.write_all(bytes).unwrap(),
        }
    }

    /// Sends bytes and a descriptor in one message.
    pub(crate) fn say_with_fd(&mut self, bytes: &[u8], fd: impl AsFd) {
        let sent = fd_passing::send_with_fd(self.fd(), bytes, fd.as_fd()).unwrap();
        assert_eq!(sent, bytes.len());
    }

    pub(crate) fn expect(&mut self, name: &str) -> Words {
        let words = read_command(self).unwrap().expect("a command");
        assert_eq!(String::from_utf8_lossy(&words[0]), name);
        words
    }

    /// Answers what a connection begins with.
    pub(crate) fn greet(&mut self) {
        for _ in 0..2 {
            self.expect("CLIENT");
            self.say(b"+OK\r\n");
        }
    }

    /// Answers `SHM.OPEN` as the protocol says.
    pub(crate) fn offer(&mut self) -> Region {
        let words = self.expect("SHM.OPEN");
        self.offer_to(&words)
    }

    /// Answers a `SHM.OPEN` of these words.
    pub(crate) fn offer_to(&mut self, words: &Words) -> Region {
        let region = Region::create(RING_BYTES).unwrap();
        region.park_both_ends();
        let fd = region.fd().unwrap();
        self.deliver(words, fd.as_fd());
        region
    }

    /// Sends `+OK` and the descriptor, each on its way.
    pub(crate) fn deliver(&mut self, open: &Words, fd: impl AsFd) {
        assert_eq!(open[1], b"2");
        match open.get(2) {
            None => self.say_with_fd(b"+OK\r\n", fd),
            Some(option) => {
                assert_eq!(option, b"FDSOCKET");
                let region = Region::attach(fd.as_fd().try_clone_to_owned().unwrap());
                send_letter(&open[3], &[0], fd);
                let token = region.map_or(Token::from_bytes([0; 16]), |region| region.token());
                self.say(format!("+OK {token}\r\n").as_bytes());
            }
        }
    }

    /// Answers `SHM.START`: everything goes on in the ring.
    pub(crate) fn start(mut self, region: Region) -> Channel {
        self.expect_start(&region);
        let mut channel = Channel::new(region.into_endpoint(), self.into());
        channel.write_all(b"+OK\r\n").unwrap();
        channel
    }

    pub(crate) fn expect_start(&mut self, region: &Region) {
        let token = region.token().to_string();
        assert_eq!(self.expect("SHM.START")[1], token.as_bytes());
    }

    /// All of a client's way into shared memory.
    pub(crate) fn share(mut self) -> Channel {
        self.greet();
        let region = self.offer();
        self.start(region)
    }

    /// Waits until the client is gone.
    pub(crate) fn wait_for_end(&mut self) {
        drop(io::copy(self, &mut io::sink()));
    }

    fn fd(&self) -> BorrowedFd<'_> {
        match self {
            Self::Unix(socket) => socket.as_fd(),
            Self::Tcp(socket) => socket.as_fd(),
        }
    }
}

impl From<Peer> for OwnedFd {
    fn from(peer: Peer) -> Self {
        match peer {
            Peer::Unix(socket) => socket.into(),
            Peer::Tcp(socket) => socket.into(),
        }
    }
}

impl Read for Peer {
    fn read(&mut self, target: &mut [u8]) -> io::Result<usize> {
        match self {
            Self::Unix(socket) => socket.read(target),
            Self::Tcp(socket) => socket.read(target),
        }
    }
}

/// Sends a datagram with a descriptor to the socket a client named.
pub(crate) fn send_letter(name: &[u8], bytes: &[u8], fd: impl AsFd) {
    let address = AbstractAddress::from_digits(name).unwrap();
    let socket = UnixDatagram::unbound().unwrap();
    fd_passing::send_with_fd_to(&socket, address, bytes, fd.as_fd()).unwrap();
}

/// Answers commands, one at a time, until the client is gone.
pub(crate) fn serve(channel: Channel, mut answer: impl FnMut(&Words) -> Vec<u8>) {
    let mut commands = BufReader::new(channel);
    while let Ok(Some(words)) = read_command(&mut commands) {
        let reply = answer(&words);
        if commands.get_mut().write_all(&reply).is_err() {
            return;
        }
    }
}

pub(crate) fn bulk(bytes: &[u8]) -> Vec<u8> {
    [format!("${}\r\n", bytes.len()).as_bytes(), bytes, b"\r\n"].concat()
}

/// The next command, an array of bulks; `None` at the end.
pub(crate) fn read_command(from: &mut impl Read) -> io::Result<Option<Words>> {
    let Some(count) = read_number(from, b'*')? else { return Ok(None) };
    let mut words = Words::new();
    for _ in 0..count {
        let length = read_number(from, b'$')?.ok_or(io::ErrorKind::UnexpectedEof)?;
        let mut word = vec![0; length + 2];
        from.read_exact(&mut word)?;
        word.truncate(length);
        words.push(word);
    }
    Ok(Some(words))
}

fn read_number(from: &mut impl Read, kind: u8) -> io::Result<Option<usize>> {
    let mut line = Vec::new();
    let mut byte = [0];
    while from.read(&mut byte)? > 0 {
        line.extend(byte);
        if let Some(line) = line.strip_suffix(b"\r\n") {
            assert_eq!(line[0], kind, "{}", String::from_utf8_lossy(line));
            return Ok(Some(String::from_utf8_lossy(&line[1..]).parse().unwrap()));
        }
    }
    Ok(None)
}
