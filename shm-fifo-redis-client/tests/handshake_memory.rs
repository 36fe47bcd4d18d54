//! The handshake allocates nothing, but for the words of a refusal: it goes on within calls
//! that a program makes to read and write.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use shm_fifo::Region;
use shm_fifo_redis_client::wire::{Event, Handshake, ReplyScanner, Violation};
use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

/// The system's, counted for each thread.
struct Counting;

#[global_allocator]
static ALLOCATOR: Counting = Counting;

// SAFETY: all is left to the system's allocator; counting allocates nothing.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.set(ALLOCATIONS.get() + 1);
        // SAFETY: the caller's contract.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: the caller's contract.
        unsafe { System.dealloc(pointer, layout) }
    }
}

/// How often `work` allocates.
fn allocations_of(work: impl FnOnce()) -> u64 {
    let before = ALLOCATIONS.get();
    work();
    ALLOCATIONS.get() - before
}

/// Takes all of `bytes`.
fn receive(handshake: &mut Handshake, mut bytes: &[u8]) -> Result<(), Violation> {
    while let Some(event) = handshake.next(&mut bytes)? {
        if let Event::Moved(mut answer) = event {
            answer.receive(b"+OK\r\n")?;
        }
    }
    Ok(())
}

#[test]
fn what_allocates_is_counted() {
    assert_eq!(allocations_of(|| drop(std::hint::black_box(Box::new(1)))), 1);
}

#[test]
fn a_move_allocates_nothing() {
    let region = Region::create(4096).unwrap();
    let fd = region.fd().unwrap();
    let allocations = allocations_of(|| {
        let (mut handshake, _command) = Handshake::begin(None, ReplyScanner::default());
        receive(&mut handshake, b"*2\r\n%1\r\n+a\r\n*1\r\n:1\r\n$1\r\nx\r\n+OK\r\n").unwrap();
        let (_command, _endpoint) = handshake.start(handshake.attach(Some(fd)).unwrap());
        receive(&mut handshake, b">2\r\n+invalidate\r\n_\r\n\0\0").unwrap();
    });
    assert_eq!(allocations, 0);
}

#[test]
fn a_refusal_allocates_its_words_at_most() {
    for (answer, words) in [(&b"-NOPERM no\r\n+PONG\r\n"[..], 0), (b"-ERR no\r\n+PONG\r\n", 1)] {
        let allocations = allocations_of(|| {
            let (mut handshake, _command) = Handshake::begin(None, ReplyScanner::default());
            receive(&mut handshake, answer).unwrap();
        });
        assert_eq!(allocations, words);
    }
}
