//! A client that does everything by hand, and so can do everything wrong: the
//! memory of a region, word by word, as `docs/layout.md` has it.

use super::{PATIENCE, TestServer, request, wait_until};
use memmap2::MmapRaw;
use shm_fifo::fd_passing;
use std::io::{Read as _, Write as _};
use std::os::fd::{AsRawFd as _, OwnedFd};
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU8, AtomicU32, AtomicU64};

/// Where the words are. *Requests* go to the creator, which is the server.
pub(crate) mod words {
    pub(crate) const TOKEN: usize = 24;
    pub(crate) const REQUESTS: usize = 1024;
    pub(crate) const REPLIES: usize = 1536;
    pub(crate) const RINGS: usize = 4096;

    pub(crate) const TAIL: usize = 56;
    pub(crate) const PRODUCER_CLOSED: usize = 64;
    pub(crate) const PRODUCER_LEAVES: usize = 68;
    pub(crate) const HEAD: usize = 128;
    pub(crate) const CONSUMER_CLOSED: usize = 136;
    pub(crate) const CONSUMER_PARKED: usize = 256;
    pub(crate) const PRODUCER_PARKED: usize = 384;
}

/// What came in answer to `SHM.OPEN`.
#[derive(Debug)]
pub(crate) struct Offer {
    pub(crate) socket: UnixStream,
    pub(crate) fd: OwnedFd,
}

impl Offer {
    /// Connects and sends `SHM.OPEN`.
    #[track_caller]
    pub(crate) fn from(server: &TestServer) -> Self {
        Self::on(UnixStream::connect(server.socket()).unwrap())
    }

    /// Sends `SHM.OPEN` on a socket.
    #[track_caller]
    pub(crate) fn on(mut socket: UnixStream) -> Self {
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.write_all(&request(&[b"SHM.OPEN", b"2"])).unwrap();
        let mut reply = [0; 64];
        let (count, fd) = fd_passing::recv_with_fd(&socket, &mut reply, 0).unwrap();
        assert_eq!(String::from_utf8_lossy(&reply[..count]), "+OK\r\n");
        Self { socket, fd: fd.expect("a descriptor comes with +OK") }
    }

    /// As [`Offer::on`], where the server may end meanwhile.
    pub(crate) fn try_on(mut socket: UnixStream) -> std::io::Result<Self> {
        socket.write_all(&request(&[b"SHM.OPEN", b"2"]))?;
        let mut reply = [0; 64];
        let (_, fd) = fd_passing::recv_with_fd(&socket, &mut reply, 0)?;
        let fd = fd.ok_or(std::io::ErrorKind::UnexpectedEof)?;
        Ok(Self { socket, fd })
    }

    /// The offered memory.
    pub(crate) fn map(&self) -> MmapRaw {
        memmap2::MmapOptions::new().map_raw(&self.fd).unwrap()
    }

    /// The bytes of memory that it takes, whoever maps it.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        allocated_bytes(&self.fd)
    }

    /// The token as `SHM.START` wants it.
    pub(crate) fn token(&self) -> String {
        token_in(&self.map())
    }

    /// What the server answers to a command on the socket.
    #[track_caller]
    pub(crate) fn ask(&mut self, command: &str) -> String {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.socket.write_all(&request(&words)).unwrap();
        let mut reply = [0; 1024];
        let count = self.socket.read(&mut reply).unwrap();
        String::from_utf8_lossy(&reply[..count]).into_owned()
    }
}

/// A connection in shared memory, at the mercy of the test.
#[derive(Debug)]
pub(crate) struct HandMade {
    pub(crate) socket: UnixStream,
    pub(crate) fd: OwnedFd,
    memory: MmapRaw,
    tail: u64,
    head: u64,
}

impl HandMade {
    /// Connects and moves to shared memory.
    #[track_caller]
    pub(crate) fn connect(server: &TestServer) -> Self {
        let offer = Offer::from(server);
        let token = offer.token();
        let mut client = Self::start_with(offer, &request(&[b"SHM.START", token.as_bytes()]));
        assert_eq!(client.take("+OK\r\n".len()), b"+OK\r\n");
        client
    }

    /// Sends `bytes`, which begin with `SHM.START`, and moves to shared memory. The
    /// answer is still in the ring.
    #[track_caller]
    pub(crate) fn start_with(offer: Offer, bytes: &[u8]) -> Self {
        let mut client = Self::not_started(offer);
        client.socket.write_all(bytes).unwrap();
        assert_eq!(client.until_the_doorbell(), b"");
        client
    }

    /// Maps what was offered and sends nothing.
    pub(crate) fn not_started(offer: Offer) -> Self {
        let memory = offer.map();
        Self { socket: offer.socket, fd: offer.fd, memory, tail: 0, head: 0 }
    }

    /// Sends `SHM.START`.
    #[track_caller]
    pub(crate) fn send_start(&mut self) {
        let token = token_in(&self.memory);
        self.socket.write_all(&request(&[b"SHM.START", token.as_bytes()])).unwrap();
    }

    /// What comes on the socket before the first doorbell. No value may have a zero byte.
    #[track_caller]
    pub(crate) fn until_the_doorbell(&mut self) -> Vec<u8> {
        let mut received = Vec::new();
        while received.last() != Some(&0) {
            let mut chunk = [1; 64 * 1024];
            let count = self.socket.read(&mut chunk).unwrap();
            assert!(count > 0, "the connection ended");
            received.extend_from_slice(&chunk[..count]);
        }
        received.pop();
        received
    }

    /// The bytes of each ring.
    pub(crate) fn ring_bytes(&self) -> usize {
        (self.memory.len() - words::RINGS) / 2
    }

    pub(crate) fn word(&self, offset: usize) -> &AtomicU64 {
        assert!(offset.is_multiple_of(8) && offset + 8 <= self.memory.len());
        #[allow(clippy::cast_ptr_alignment, reason = "pages are aligned, the offset is checked")]
        // SAFETY: within the mapping, as was just checked.
        let address = unsafe { self.memory.as_mut_ptr().add(offset) }.cast();
        // SAFETY: aligned and mapped as long as `self`; other processes use atomics.
        unsafe { AtomicU64::from_ptr(address) }
    }

    pub(crate) fn flag(&self, offset: usize) -> &AtomicU32 {
        assert!(offset.is_multiple_of(4) && offset + 4 <= self.memory.len());
        #[allow(clippy::cast_ptr_alignment, reason = "pages are aligned, the offset is checked")]
        // SAFETY: within the mapping, as was just checked.
        let address = unsafe { self.memory.as_mut_ptr().add(offset) }.cast();
        // SAFETY: aligned and mapped as long as `self`; other processes use atomics.
        unsafe { AtomicU32::from_ptr(address) }
    }

    fn byte(&self, offset: usize) -> &AtomicU8 {
        byte_at(&self.memory, offset)
    }

    /// Puts bytes into the ring, without a word to the server.
    pub(crate) fn put(&mut self, bytes: &[u8]) {
        let mask = self.ring_bytes() as u64 - 1;
        for &byte in bytes {
            let index = usize::try_from(self.tail & mask).unwrap();
            self.byte(words::RINGS + index).store(byte, SeqCst);
            self.tail = self.tail.wrapping_add(1);
        }
        self.word(words::REQUESTS + words::TAIL).store(self.tail, SeqCst);
    }

    /// Rings the server, asleep or not.
    pub(crate) fn ring(&mut self) {
        // A session that has been ended cannot be rung.
        drop(self.socket.write_all(&[0]));
    }

    /// Leaves the rings. Returns the socket, once the server has, too.
    #[track_caller]
    pub(crate) fn come_back(mut self) -> UnixStream {
        self.flag(words::REQUESTS + words::PRODUCER_LEAVES).store(1, SeqCst);
        self.socket.write_all(&[1]).unwrap();
        let mut byte = [0];
        while byte == [0] {
            self.socket.read_exact(&mut byte).expect("it is answered");
        }
        assert_eq!(byte, [1]);
        self.socket
    }

    /// Sends a command whose words are separated by spaces.
    pub(crate) fn send(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.put(&request(&words));
        self.ring();
    }

    /// As [`HandMade::send`], by a client that does not know whether it was answered.
    pub(crate) fn send_early(&mut self, command: &str) {
        let words: Vec<&[u8]> = command.split(' ').map(str::as_bytes).collect();
        self.put(&request(&words));
        let is_answered = self.word(words::REPLIES + words::TAIL).load(SeqCst) != 0;
        let parked = self.flag(words::REQUESTS + words::CONSUMER_PARKED);
        if is_answered && parked.swap(0, SeqCst) != 0 {
            self.ring();
        }
    }

    /// Takes `count` bytes out of the ring, once they are there.
    #[track_caller]
    pub(crate) fn take(&mut self, count: usize) -> Vec<u8> {
        let wanted = self.head.wrapping_add(count as u64);
        wait_until("the reply is there", || {
            let tail = self.word(words::REPLIES + words::TAIL).load(SeqCst);
            tail.wrapping_sub(self.head) >= count as u64
        });
        let mask = self.ring_bytes() as u64 - 1;
        let first = words::RINGS + self.ring_bytes();
        let bytes = (0..count as u64).map(|step| {
            let index = usize::try_from(self.head.wrapping_add(step) & mask).unwrap();
            self.byte(first + index).load(SeqCst)
        });
        let bytes = bytes.collect();
        self.head = wanted;
        self.word(words::REPLIES + words::HEAD).store(wanted, SeqCst);
        bytes
    }

    /// Waits until there is no space for replies.
    #[track_caller]
    pub(crate) fn wait_until_full(&self) {
        wait_until("the ring is full", || {
            let tail = self.word(words::REPLIES + words::TAIL).load(SeqCst);
            tail.wrapping_sub(self.head) == self.ring_bytes() as u64
        });
    }

    /// Sends PING and takes the reply.
    #[track_caller]
    pub(crate) fn assert_answers(&mut self) {
        self.send("PING");
        assert_eq!(self.take("+PONG\r\n".len()).escape_ascii().to_string(), r"+PONG\r\n");
    }

    /// Tries to change the size of the region's file; the error is an `errno`.
    pub(crate) fn truncate(&self, bytes: usize) -> Result<(), i32> {
        // SAFETY: takes no pointer.
        done(unsafe { libc::ftruncate(self.fd.as_raw_fd(), offset(bytes)) })
    }

    /// Tries to add a seal.
    pub(crate) fn seal(&self, seal: libc::c_int) -> Result<(), i32> {
        // SAFETY: takes no pointer.
        done(unsafe { libc::fcntl(self.fd.as_raw_fd(), libc::F_ADD_SEALS, seal) })
    }

    /// The bytes of memory that its region takes, whoever maps it.
    pub(crate) fn allocated_bytes(&self) -> u64 {
        allocated_bytes(&self.fd)
    }

    /// Gives the memory from `first` on back to the system; it reads as zeros.
    pub(crate) fn punch_hole(&self, first: usize) -> Result<(), i32> {
        let mode = libc::FALLOC_FL_PUNCH_HOLE | libc::FALLOC_FL_KEEP_SIZE;
        let length = offset(self.memory.len() - first);
        // SAFETY: takes no pointer; the memory is accessed by atomics only.
        done(unsafe { libc::fallocate(self.fd.as_raw_fd(), mode, offset(first), length) })
    }

    /// Waits until the server has ended the connection.
    #[track_caller]
    pub(crate) fn assert_ended(&mut self) {
        let mut bytes = [0; 256];
        wait_until("the server ends the connection", || match self.socket.read(&mut bytes) {
            Ok(count) => count == 0,
            Err(error) => error.kind() == std::io::ErrorKind::ConnectionReset,
        });
    }
}

fn token_in(memory: &MmapRaw) -> String {
    (words::TOKEN..words::TOKEN + 16)
        .map(|offset| format!("{:02x}", byte_at(memory, offset).load(SeqCst)))
        .collect()
}

fn allocated_bytes(fd: &OwnedFd) -> u64 {
    let file = std::fs::File::from(fd.try_clone().unwrap());
    file.metadata().unwrap().blocks() * 512
}

fn done(result: libc::c_int) -> Result<(), i32> {
    if result >= 0 {
        return Ok(());
    }
    Err(std::io::Error::last_os_error().raw_os_error().unwrap())
}

fn offset(bytes: usize) -> libc::off_t {
    libc::off_t::try_from(bytes).unwrap()
}

fn byte_at(memory: &MmapRaw, offset: usize) -> &AtomicU8 {
    assert!(offset < memory.len());
    // SAFETY: within the mapping, as was just checked.
    let address = unsafe { memory.as_mut_ptr().add(offset) };
    // SAFETY: mapped as long as `memory`; other processes use atomics.
    unsafe { AtomicU8::from_ptr(address) }
}
