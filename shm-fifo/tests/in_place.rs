//! Bytes that are used where they lie, and what goes between rings and file descriptors: files,
//! pipes, sockets and devices, at every place of a ring, also when they are full, empty, closed
//! or interrupted.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use rustix::event::{PollFd, PollFlags, poll};
use rustix::fs::{MemfdFlags, OFlags, fcntl_setfl, memfd_create};
use rustix::pipe::{fcntl_setpipe_size, pipe};
use shm_fifo::testing::{HeapFifo, Word, is_pattern, pattern};
use shm_fifo::{Channel, Interest, SpinPolicy, WaitMode};
use std::fs::File;
use std::io::{self, ErrorKind, Read, Seek, SeekFrom, Write};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::os::unix::thread::JoinHandleExt;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};
use support::Watchdog;
use support::process::{OtherProcess, channel_over, channel_to_process, roles};

roles! { send_a_file, die_amid_a_stream }

const RING_BYTES: usize = 4096;

/// A file without a name that holds these bytes, to be read from the first.
fn file_of(bytes: &[u8]) -> File {
    let mut file = File::from(memfd_create("in_place", MemfdFlags::CLOEXEC).unwrap());
    file.write_all(bytes).unwrap();
    file.seek(SeekFrom::Start(0)).unwrap();
    file
}

fn empty_file() -> File {
    file_of(&[])
}

fn content(mut file: &File) -> Vec<u8> {
    let mut bytes = Vec::new();
    file.seek(SeekFrom::Start(0)).unwrap();
    file.read_to_end(&mut bytes).unwrap();
    bytes
}

fn set_nonblocking(fd: impl AsFd) {
    fcntl_setfl(fd, OFlags::NONBLOCK).unwrap();
}

/// A pipe and a socket pair, first the end to read from.
fn streams() -> [(OwnedFd, OwnedFd); 2] {
    let (one, other) = UnixStream::pair().unwrap();
    [pipe().unwrap(), (one.into(), other.into())]
}

fn kind<T>(result: io::Result<T>) -> ErrorKind {
    result.map(drop).unwrap_err().kind()
}

// Grants and descriptors.

#[test]
#[cfg_attr(miri, ignore = "Miri has no vectored input and output of descriptors")]
fn every_part_of_every_grant_goes_to_a_file_and_nothing_beside_it() {
    const CAPACITY: usize = 64;
    for start in (0..CAPACITY as u64).map(|below| u64::MAX - below) {
        for length in [1, 2, 31, 48, 49, 63, 64] {
            let memory = HeapFifo::new(CAPACITY, start);
            let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
            producer.write(&pattern(start, length)).unwrap();
            for range in [0..length, 0..0, 1..length, length / 3..length - length / 3] {
                let file = empty_file();
                let grant = consumer.grant().unwrap();
                assert_eq!(grant.write_to(range.clone(), &file).unwrap(), range.len());
                assert_eq!(content(&file), pattern(start, length)[range]);
            }
            assert_eq!(consumer.available_bytes(), Ok(length), "nothing is consumed by it");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn every_part_of_every_grant_is_filled_from_a_file_and_nothing_beside_it() {
    const CAPACITY: usize = 64;
    for start in (0..CAPACITY as u64).map(|below| u64::MAX - below) {
        for length in [1, 2, 31, 48, 49, 63, 64] {
            let memory = HeapFifo::new(CAPACITY, start);
            let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
            let (front, back) = (length / 3, length - length / 3);
            let mut grant = producer.grant(length).unwrap().unwrap();
            grant.write_at(0, &vec![0xEE; length]);
            // The file has more than there is room for.
            let file = file_of(&pattern(start, 2 * CAPACITY));
            assert_eq!(grant.read_from(front..back, &file).unwrap(), back - front);
            assert_eq!(grant.read_from(0..0, &file).unwrap(), 0);
            assert_eq!((&file).stream_position().unwrap(), (back - front) as u64);
            grant.commit(length);

            let mut target = vec![0; length];
            assert_eq!(consumer.read(&mut target), Ok(length));
            let mut expected = vec![0xEE; length];
            expected[front..back].copy_from_slice(&pattern(start, back - front));
            assert_eq!(target, expected, "{start} {length}");
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn what_the_kernel_says_of_a_descriptor_is_told_and_nothing_is_lost() {
    let memory = HeapFifo::new(64, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(b"kept").unwrap();
    let (reader, writer) = pipe().unwrap();
    set_nonblocking(&reader);

    let grant = consumer.grant().unwrap();
    assert_eq!(grant.write_to(0..4, &reader).unwrap_err().raw_os_error(), Some(libc::EBADF));
    assert_eq!(
        grant.write_to(0..4, File::open("/dev/full").unwrap()).unwrap_err().raw_os_error(),
        Some(libc::EBADF)
    );
    let full = File::options().write(true).open("/dev/full").unwrap();
    assert_eq!(kind(grant.write_to(0..4, &full)), ErrorKind::StorageFull);
    assert_eq!(
        grant.write_to(0..4, File::options().write(true).open("/dev/null").unwrap()).unwrap(),
        4
    );
    drop(grant);
    let mut space = producer.grant(8).unwrap().unwrap();
    assert_eq!(kind(space.read_from(0..8, &reader)), ErrorKind::WouldBlock);
    drop(writer);
    assert_eq!(space.read_from(0..8, &reader).unwrap(), 0, "the end");
    assert_eq!(space.read_from(0..8, File::open("/dev/zero").unwrap()).unwrap(), 8);
    space.commit(1);

    let mut target = [0xEE; 8];
    assert_eq!(consumer.read(&mut target), Ok(5));
    assert_eq!(&target[..5], b"kept\0");
}

#[test]
#[should_panic(expected = "3 bytes at 2 leave a grant of 4")]
fn a_range_that_leaves_its_grant_is_not_written() {
    let memory = HeapFifo::new(64, 0);
    let (mut producer, mut consumer) = (memory.producer(), memory.consumer());
    producer.write(b"four").unwrap();
    let grant = consumer.grant().unwrap();
    producer.write(b"more").unwrap();
    drop(grant.write_to(2..5, empty_file()));
}

#[test]
#[should_panic(expected = "3 bytes at 2 leave a grant of 4")]
fn a_range_that_leaves_its_grant_is_not_filled() {
    let memory = HeapFifo::new(64, 0);
    let mut producer = memory.producer();
    let mut grant = producer.grant(4).unwrap().unwrap();
    drop(grant.read_from(2..5, empty_file()));
}

#[test]
#[cfg_attr(miri, ignore = "Miri has neither memfd_create nor shared mappings")]
fn what_a_peer_changes_under_a_grant_is_written_as_it_was_or_as_it_is() {
    let _watchdog = Watchdog::start();
    let memory = HeapFifo::new(RING_BYTES, 0);
    let mut consumer = memory.consumer();
    memory.scribble(Word::Tail, RING_BYTES as u64);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            // As a hostile peer: it writes where it must not, all the time.
            for byte in [0x00, 0xFF].into_iter().cycle() {
                let mut producer = memory.producer();
                producer.write(&[byte; RING_BYTES]).unwrap();
                if is_over.load(Relaxed) {
                    return;
                }
            }
        });
        for _ in 0..200 {
            let grant = consumer.grant().unwrap();
            assert_eq!(grant.length(), RING_BYTES);
            let file = empty_file();
            assert_eq!(grant.write_to(0..RING_BYTES, &file).unwrap(), RING_BYTES);
            let mut copy = vec![0x55; RING_BYTES];
            grant.read_at(0, &mut copy);
            let bytes = content(&file).into_iter().chain(copy);
            assert!(bytes.into_iter().all(|byte| byte == 0 || byte == 0xFF));
        }
        is_over.store(true, Relaxed);
    });
}

// Channels.

fn pair() -> (Channel, Channel) {
    Channel::pair(RING_BYTES).unwrap()
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn what_is_left_at_the_end_of_the_stream_is_shown_though_it_is_less_than_was_wanted() {
    let (mut here, mut there) = pair();
    here.write_all(b"seven b").unwrap();
    assert_eq!(kind(there.read_in_place(RING_BYTES + 1, |_| ())), ErrorKind::InvalidInput);
    assert_eq!(kind(there.try_read_in_place(8, |_| ())), ErrorKind::WouldBlock);
    assert!(!there.is_ready(Interest::READABLE), "not for less than what is wanted");
    assert_eq!(there.try_read_in_place(7, |grant| grant.length()).unwrap(), Some(7));
    assert!(there.is_ready(Interest::READABLE), "nothing of it was consumed");
    assert_eq!(there.stats().reads, 0);
    drop(here);

    assert_eq!(there.read_in_place(8, |grant| grant.length()).unwrap(), Some(7));
    let shown = there.read_in_place(8, |grant| {
        let length = grant.length();
        grant.consume(5);
        length
    });
    assert_eq!(shown.unwrap(), Some(7));
    assert_eq!(there.read_in_place(8, |grant| grant.consume(2)).unwrap(), Some(()));
    assert_eq!(there.read_in_place(1, |_| ()).unwrap(), None);
    assert_eq!(there.read_in_place(8, |_| ()).unwrap(), None);
    assert_eq!((there.stats().reads, there.stats().bytes_received), (2, 7));
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn space_is_granted_whole_or_not_and_what_is_not_committed_is_not_sent() {
    let (mut here, mut there) = pair();
    here.write_all(&[1; RING_BYTES - 10]).unwrap();
    assert_eq!(kind(here.try_write_in_place(11, |_| ())), ErrorKind::WouldBlock);
    assert!(!here.is_ready(Interest::WRITABLE), "not for less than what is wanted");
    assert_eq!(kind(here.write_in_place(RING_BYTES + 1, |_| ())), ErrorKind::InvalidInput);
    let before = here.stats();
    here.write_in_place(10, |_| ()).unwrap();
    assert_eq!(here.stats(), before);
    let committed = here.write_in_place(10, |mut grant| {
        grant.write_at(0, b"0123456789");
        grant.commit(4);
        "anything"
    });
    assert_eq!(committed.unwrap(), "anything");
    assert_eq!(here.stats().bytes_sent - before.bytes_sent, 4);

    let mut target = [0; RING_BYTES];
    assert_eq!(there.read(&mut target).unwrap(), RING_BYTES - 6);
    assert_eq!(&target[RING_BYTES - 10..RING_BYTES - 6], b"0123");
    drop(there);
    assert_eq!(kind(here.write_in_place(1, |_| ())), ErrorKind::BrokenPipe);
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn who_waits_for_bytes_or_space_in_place_sleeps_and_is_woken() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = pair();
    for channel in [&mut here, &mut there] {
        channel.set_policy(SpinPolicy::new(WaitMode::Park, 0));
    }
    let writing = thread::spawn(move || {
        for message in 0..500_u64 {
            let length = 1 + usize::try_from(message * 37 % 2000).unwrap();
            here.write_in_place(length, |mut grant| {
                grant.write_at(0, &pattern(message, length));
                grant.commit(length);
            })
            .unwrap();
        }
        here.stats().parks
    });
    for message in 0..500_u64 {
        let length = 1 + usize::try_from(message * 37 % 2000).unwrap();
        let mut copy = vec![0; length];
        let shown = there.read_in_place(length, |grant| {
            grant.read_at(0, &mut copy);
            grant.consume(length);
        });
        assert_eq!(shown.unwrap(), Some(()));
        assert!(is_pattern(message, &copy), "{message}");
    }
    let parks = writing.join().unwrap() + there.stats().parks;
    assert!(parks > 0, "nobody has waited: this shows nothing");
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn waiting_in_place_ends_at_the_timeout() {
    let (mut here, mut there) = pair();
    here.set_timeout(Some(Duration::from_millis(1)));
    there.set_timeout(Some(Duration::from_millis(1)));
    here.write_all(&[1; RING_BYTES]).unwrap();
    assert_eq!(kind(here.write_in_place(1, |_| ())), ErrorKind::TimedOut);
    there.read_exact(&mut [0; RING_BYTES - 9]).unwrap();
    assert_eq!(kind(there.read_in_place(10, |_| ())), ErrorKind::TimedOut);
}

// Whole streams.

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_file_arrives_as_it_was_from_every_place_of_a_ring() {
    let _watchdog = Watchdog::start();
    let bytes = pattern(7, 2 * RING_BYTES + 13);
    for skipped in (0..RING_BYTES).step_by(61) {
        let (mut here, mut there) = pair();
        here.write_all(&pattern(0, skipped)).unwrap();
        there.read_exact(&mut vec![0; skipped]).unwrap();
        let source = file_of(&bytes);
        let sending = thread::spawn(move || here.splice_from(&source, u64::MAX).unwrap());
        let copy = empty_file();
        assert_eq!(there.splice_to(&copy, u64::MAX).unwrap(), bytes.len() as u64);
        assert_eq!(sending.join().unwrap(), bytes.len() as u64);
        assert!(content(&copy) == bytes, "skipped {skipped}");
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn no_more_than_was_asked_for_is_taken_or_sent() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = pair();
    let source = file_of(&pattern(0, 3000));
    assert_eq!(here.splice_from(&source, 0).unwrap(), 0);
    assert_eq!(here.splice_from(&source, 2000).unwrap(), 2000);
    assert_eq!((&source).stream_position().unwrap(), 2000);
    let copy = empty_file();
    assert_eq!(there.splice_to(&copy, 0).unwrap(), 0);
    assert_eq!(there.splice_to(&copy, 1999).unwrap(), 1999);
    assert!(content(&copy) == pattern(0, 1999));
    assert_eq!(there.stats().bytes_received, 1999);
    drop(here);
    assert_eq!(there.splice_to(&copy, 100).unwrap(), 1, "the rest, and the end");
    assert_eq!(there.splice_to(&copy, 100).unwrap(), 0);
}

/// Passes more than everything on the way can hold, by splices at both of its ends.
fn pour_through(fds: (OwnedFd, OwnedFd), nonblocking: bool) {
    let bytes = pattern(1, 1 << 20);
    let (reader, writer) = fds;
    if nonblocking {
        set_nonblocking(&reader);
        set_nonblocking(&writer);
    }
    let ((mut first, mut second), (mut third, mut fourth)) = (pair(), pair());
    let source = file_of(&bytes);
    let into_ring = thread::spawn(move || first.splice_from(&source, u64::MAX).unwrap());
    let out_of_ring = thread::spawn(move || second.splice_to(&writer, u64::MAX).unwrap());
    let into_next = thread::spawn(move || third.splice_from(&reader, u64::MAX).unwrap());
    let copy = empty_file();
    assert_eq!(fourth.splice_to(&copy, u64::MAX).unwrap(), bytes.len() as u64);
    for thread in [into_ring, out_of_ring, into_next] {
        assert_eq!(thread.join().unwrap(), bytes.len() as u64);
    }
    assert!(content(&copy) == bytes);
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn pipes_and_sockets_are_waited_for_in_either_mode() {
    let _watchdog = Watchdog::start();
    for nonblocking in [false, true] {
        for fds in streams() {
            pour_through(fds, nonblocking);
        }
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_descriptor_that_nobody_reads_any_more_is_a_broken_pipe_and_what_was_unwritten_stays() {
    let _watchdog = Watchdog::start();
    for (reader, writer) in streams() {
        let (mut here, mut there) = pair();
        here.write_all(&pattern(0, 1000)).unwrap();
        drop(reader);
        assert_eq!(kind(there.splice_to(&writer, u64::MAX)), ErrorKind::BrokenPipe);
        let mut target = [0; 1000];
        there.read_exact(&mut target).unwrap();
        assert!(is_pattern(0, &target));
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_peer_that_ends_is_a_broken_pipe_and_nothing_is_taken_for_it() {
    let (mut here, there) = pair();
    drop(there);
    let source = file_of(&pattern(0, 100));
    assert_eq!(kind(here.splice_from(&source, u64::MAX)), ErrorKind::BrokenPipe);
    assert_eq!((&source).stream_position().unwrap(), 0);
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn an_error_of_the_descriptor_is_told_and_the_channel_goes_on() {
    let (mut here, mut there) = pair();
    here.write_all(b"kept").unwrap();
    let full = File::options().read(true).write(true).open("/dev/full").unwrap();
    assert_eq!(kind(there.splice_to(&full, u64::MAX)), ErrorKind::StorageFull);
    assert_eq!(here.splice_from(&full, 3).unwrap(), 3, "it reads as zeros");
    let copy = empty_file();
    assert_eq!(there.splice_to(&copy, 7).unwrap(), 7);
    assert_eq!(content(&copy), b"kept\0\0\0");
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_full_or_silent_descriptor_is_waited_for_until_the_timeout_or_the_deadline() {
    let _watchdog = Watchdog::start();
    for (reader, writer) in streams() {
        set_nonblocking(&reader);
        set_nonblocking(&writer);
        let (mut here, mut there) = pair();
        here.set_timeout(Some(Duration::from_millis(1)));
        assert_eq!(kind(here.splice_from(&reader, 1)), ErrorKind::TimedOut);
        here.set_timeout(None);
        here.set_deadline(Some(Instant::now() + Duration::from_millis(1)));
        assert_eq!(kind(here.splice_from(&reader, 1)), ErrorKind::TimedOut);

        here.set_deadline(None);
        here.write_all(b"x").unwrap();
        while rustix::io::write(&writer, &[0; 4096]).is_ok() {}
        there.set_timeout(Some(Duration::from_millis(1)));
        assert_eq!(kind(there.splice_to(&writer, 1)), ErrorKind::TimedOut);
        assert_eq!(there.read(&mut [0; 8]).unwrap(), 1, "it stays");
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_stream_without_end_ends_at_the_deadline() {
    let _watchdog = Watchdog::start();
    let (mut here, mut there) = pair();
    let sending =
        thread::spawn(move || kind(here.splice_from(File::open("/dev/zero").unwrap(), u64::MAX)));
    there.set_deadline(Some(Instant::now() + Duration::from_millis(5)));
    let null = File::options().write(true).open("/dev/null").unwrap();
    assert_eq!(kind(there.splice_to(&null, u64::MAX)), ErrorKind::TimedOut);
    drop(there);
    assert_eq!(sending.join().unwrap(), ErrorKind::BrokenPipe);
}

static SIGNALS: AtomicU32 = AtomicU32::new(0);

extern "C" fn count_signal(_: libc::c_int) {
    SIGNALS.fetch_add(1, Relaxed);
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_splice_that_is_interrupted_goes_on() {
    let _watchdog = Watchdog::start();
    // SAFETY: all zeros are an action without flags: calls that it interrupts fail.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    action.sa_sigaction = count_signal as extern "C" fn(libc::c_int) as libc::sighandler_t;
    // SAFETY: a live action, whose handler does nothing but count.
    let set = unsafe { libc::sigaction(libc::SIGUSR1, &raw const action, std::ptr::null_mut()) };
    assert_eq!(set, 0);
    for (reader, writer) in streams() {
        let (mut here, there) = pair();
        let before = SIGNALS.load(Relaxed);
        let sending = thread::spawn(move || here.splice_from(&reader, 3).unwrap());
        while SIGNALS.load(Relaxed) < before + 20 {
            // SAFETY: the thread is not joined: it waits for what is written below.
            unsafe { libc::pthread_kill(sending.as_pthread_t(), libc::SIGUSR1) };
            thread::yield_now();
        }
        rustix::io::write(&writer, b"all").unwrap();
        assert_eq!(sending.join().unwrap(), 3);
        drop(there);
    }
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn a_peer_that_waits_for_space_is_rung_before_the_descriptor_is_waited_for() {
    let _watchdog = Watchdog::start();
    // A pipe of two pages takes one more: the quarter of a ring for which a peer sleeps, less
    // than the half after which a reader looks for it.
    let (reader, writer) = pipe().unwrap();
    let page_bytes = rustix::param::page_size();
    let ring_bytes = 4 * page_bytes;
    fcntl_setpipe_size(&writer, 2 * page_bytes).unwrap();
    set_nonblocking(&writer);
    rustix::io::write(&writer, &vec![0; page_bytes]).unwrap();
    let (mut here, mut there) = Channel::pair(ring_bytes).unwrap();
    here.write_all(&vec![1; ring_bytes]).unwrap();
    // As an event loop sleeps, so that it is known to sleep before the other reads.
    assert!(here.park(Interest::WRITABLE));
    let splicing = thread::spawn(move || there.splice_to(&writer, u64::MAX).unwrap());

    // It is rung once there is space, perhaps before that too, although nobody reads the pipe.
    let mut is_parked = true;
    while is_parked {
        poll(&mut [PollFd::new(&here, PollFlags::IN)], None).unwrap();
        here.unpark(Interest::WRITABLE);
        here.listen();
        is_parked = here.park(Interest::WRITABLE);
    }
    assert_eq!(here.try_write(&[2; 100]).unwrap(), 100);
    drop(here);
    let mut rest = Vec::new();
    File::from(reader).read_to_end(&mut rest).unwrap();
    assert_eq!(splicing.join().unwrap(), (ring_bytes + 100) as u64);
    assert_eq!(rest.len(), page_bytes + ring_bytes + 100);
}

// Processes.

const FILE_BYTES: usize = 1 << 20;

fn send_a_file(socket: UnixStream) {
    let mut channel = channel_over(socket);
    let source = file_of(&pattern(3, FILE_BYTES));
    assert_eq!(channel.splice_from(&source, u64::MAX).unwrap(), FILE_BYTES as u64);
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn proc_a_file_goes_from_process_to_process() {
    let _watchdog = Watchdog::start();
    let (mut channel, process) = channel_to_process(RING_BYTES, "send_a_file");
    let copy = empty_file();
    assert_eq!(channel.splice_to(&copy, u64::MAX).unwrap(), FILE_BYTES as u64);
    assert!(content(&copy) == pattern(3, FILE_BYTES));
    process.assert_success();
}

fn die_amid_a_stream(socket: UnixStream) {
    let mut channel = channel_over(socket);
    let source = file_of(&pattern(3, 3000));
    channel.splice_from(&source, u64::MAX).unwrap();
    channel.read_exact(&mut [0]).unwrap();
}

#[test]
#[cfg_attr(miri, ignore = "as above")]
fn proc_all_that_a_killed_process_has_sent_arrives_and_then_the_end() {
    let _watchdog = Watchdog::start();
    let (mut channel, mut process): (Channel, OtherProcess) =
        channel_to_process(RING_BYTES, "die_amid_a_stream");
    let copy = empty_file();
    assert_eq!(channel.splice_to(&copy, 1000).unwrap(), 1000);
    channel.read_in_place(2000, |grant| assert_eq!(grant.length(), 2000)).unwrap();
    process.kill();
    assert_eq!(channel.splice_to(&copy, u64::MAX).unwrap(), 2000);
    assert!(content(&copy) == pattern(3, 3000));
}
