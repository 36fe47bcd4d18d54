//! The handshake allocates nothing: it goes on inside calls that a signal handler makes.

#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

use shm_fifo::Region;
use shm_fifo_redis_client::wire::{Event, Handshake, ReplyScanner, SocketKind, Violation};
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
        let begun = Handshake::begin(SocketKind::Unix, 1, ReplyScanner::default());
        let mut handshake = begun.unwrap().0;
        handshake.receive_fd(fd);
        receive(&mut handshake, b"*2\r\n%1\r\n+a\r\n*1\r\n:1\r\n$1\r\nx\r\n+OK\r\n").unwrap();
        assert!(handshake.start().is_some());
        receive(&mut handshake, b">2\r\n+invalidate\r\n_\r\n\0\0").unwrap();
    });
    assert_eq!(allocations, 0);
}

#[test]
fn a_refusal_allocates_nothing() {
    let allocations = allocations_of(|| {
        for kind in [SocketKind::Unix, SocketKind::Tcp] {
            let begun = Handshake::begin(kind, 0, ReplyScanner::default());
            let mut handshake = begun.unwrap().0;
            receive(&mut handshake, b"-NOPERM no\r\n+PONG\r\n").unwrap();
            assert_eq!(handshake.answer(), b"-NOPERM no\r\n");
        }
    });
    assert_eq!(allocations, 0);
}
