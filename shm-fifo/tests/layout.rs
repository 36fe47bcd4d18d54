//! The bytes that two processes share are where `docs/layout.md` says.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

#[path = "support/document.rs"]
mod document;
mod support;

use document::{Claims, RING_BYTES, Row};
use shm_fifo::testing::{HeapFifo, Word};
use shm_fifo::{
    Channel, Region, doorbell,
    fifo::{FIFO_HEADER_BYTES, FifoHeader, INLINE_BYTES},
    region::{RING_BYTES_RANGE, TOKEN_BYTES},
};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use support::Watchdog;

fn find(rows: Vec<Row>, name: &str) -> Row {
    rows.into_iter().find(|row| row.name == name).expect("the row exists")
}

fn region_row(name: &str) -> Row {
    find(document::region(), name)
}

fn fifo_row(name: &str) -> Row {
    find(document::fifo_header(), name)
}

fn bytes_at(file: &File, offset: usize, length: usize) -> Vec<u8> {
    let mut bytes = vec![0; length];
    file.read_exact_at(&mut bytes, offset as u64).unwrap();
    bytes
}

fn u64_at(file: &File, offset: usize) -> u64 {
    u64::from_ne_bytes(bytes_at(file, offset, 8).try_into().unwrap())
}

#[test]
fn every_word_of_the_fifo_header_is_where_the_document_says() {
    let fifo = HeapFifo::new(64, 0);
    let words = [
        ("inline_key", Word::InlineKey),
        ("tail", Word::Tail),
        ("producer_closed", Word::ProducerClosed),
        ("producer_leaves", Word::ProducerLeaves),
        ("head", Word::Head),
        ("consumer_closed", Word::ConsumerClosed),
        ("consumer_parked", Word::ConsumerParked),
        ("consumer_cpu", Word::ConsumerCpu),
        ("producer_parked", Word::ProducerParked),
        ("producer_cpu", Word::ProducerCpu),
    ];
    for (name, word) in words {
        let row = fifo_row(name);
        assert_eq!(fifo.place_of(word), (row.offset, row.bytes), "{name}");
    }
    // The inline message is the one row that is an array.
    let inline = fifo_row("inline_words");
    for index in 0..6 {
        assert_eq!(fifo.place_of(Word::InlineWord(index)), (inline.offset + 8 * index, 8));
    }
    assert_eq!(inline.bytes, INLINE_BYTES);
    assert_eq!(document::fifo_header().len(), words.len() + 1);
}

#[test]
fn tail_and_inline_message_share_one_cache_line_and_different_writers_share_none() {
    let fifo = HeapFifo::new(64, 0);
    let line = |word| fifo.place_of(word).0 / 64;
    let pair = |word| fifo.place_of(word).0 / 128;
    assert_eq!(line(Word::InlineKey), line(Word::Tail));
    assert_eq!(line(Word::InlineWord(5)), line(Word::Tail));
    for left in Word::ALL {
        for right in Word::ALL {
            assert!(left.owner() == right.owner() || pair(left) != pair(right));
        }
    }
    assert_eq!(align_of::<FifoHeader>(), 128);
}

#[test]
fn the_region_begins_as_the_document_says() {
    let region = Region::create(RING_BYTES).unwrap();
    let file = File::from(region.fd().unwrap());

    let magic = region_row("magic");
    assert_eq!(bytes_at(&file, magic.offset, magic.bytes), b"SHMFIFO\0");
    assert_eq!(u64_at(&file, region_row("ring_bytes").offset), RING_BYTES as u64);
    let token = region_row("token");
    assert_eq!(bytes_at(&file, token.offset, token.bytes), region.token().to_bytes());
    let last = region_row("to_attacher_ring");
    assert_eq!(file.metadata().unwrap().len(), (last.offset + last.bytes) as u64);
    assert_eq!(region_row("to_creator_header").bytes, FIFO_HEADER_BYTES);
    assert_eq!(region_row("to_attacher_header").bytes, FIFO_HEADER_BYTES);
}

/// Sends a message from one end and looks for it in the file.
#[track_caller]
fn assert_message_lies_in(sender: Region, header: &str, ring: &str) {
    const MESSAGE: &[u8] = b"where does this go?";
    let file = File::from(sender.fd().unwrap());
    let (socket, _peer) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(sender.into_endpoint(), OwnedFd::from(socket));

    channel.write_all(MESSAGE).unwrap();

    let header = region_row(header).offset;
    let tail = u64_at(&file, header + fifo_row("tail").offset);
    assert_eq!(tail, MESSAGE.len() as u64);
    let inline = bytes_at(&file, header + fifo_row("inline_words").offset, MESSAGE.len());
    assert_eq!(inline, MESSAGE);
    assert_eq!(bytes_at(&file, region_row(ring).offset, MESSAGE.len()), MESSAGE);
}

#[test]
fn what_the_creator_writes_lies_where_the_document_says() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    assert_message_lies_in(created, "to_attacher_header", "to_attacher_ring");
}

#[test]
fn what_the_attacher_writes_lies_where_the_document_says() {
    let _watchdog = Watchdog::start();
    let created = Region::create(RING_BYTES).unwrap();
    let attached = Region::attach(created.fd().unwrap()).unwrap();
    assert_message_lies_in(attached, "to_creator_header", "to_creator_ring");
}

#[test]
fn the_numbers_are_those_of_the_document() {
    let region = Region::create(RING_BYTES).unwrap();
    let file = File::from(region.fd().unwrap());
    for (name, value) in document::numbers() {
        let own = match name {
            "MAGIC" => u64_at(&file, region_row("magic").offset),
            "LAYOUT_VERSION" => u64_at(&file, region_row("layout_version").offset),
            "RING_BYTES_MIN" => *RING_BYTES_RANGE.start() as u64,
            "RING_BYTES_MAX" => *RING_BYTES_RANGE.end() as u64,
            "INLINE_BYTES" => INLINE_BYTES as u64,
            "KEY_FACTOR" => key_factor(),
            "TOKEN_DIGITS" => 2 * TOKEN_BYTES as u64,
            "DOORBELL" => doorbell::DOORBELL.into(),
            "LEAVE" => doorbell::LEAVE.into(),
            // It is the client's and the module's.
            "PROTOCOL_VERSION" => continue,
            other => panic!("nobody compares {other}"),
        };
        assert_eq!(own, value, "{name}");
    }
}

/// By how much the key of a message of one byte grows with its position.
fn key_factor() -> u64 {
    let region = Region::create(RING_BYTES).unwrap();
    let file = File::from(region.fd().unwrap());
    let (socket, _peer) = UnixStream::pair().unwrap();
    let mut channel = Channel::new(region.into_endpoint(), OwnedFd::from(socket));
    let mut key = || {
        channel.write_all(b"x").unwrap();
        u64_at(&file, region_row("to_attacher_header").offset + fifo_row("inline_key").offset)
    };
    let first = key();
    key() - first
}

#[test]
fn the_headers_for_c_have_what_the_document_says() {
    let header = Path::new(env!("CARGO_MANIFEST_DIR")).join("include/shm_fifo.h");
    let mut claims = Claims::of(&header);
    claims.add("sizeof(shm_fifo_header) == 512");
    for Row { name, offset, bytes } in document::fifo_header() {
        claims.add(&format!("offsetof(shm_fifo_header, {name}) == {offset}"));
        claims.add(&format!("sizeof(((shm_fifo_header *)0)->{name}) == {bytes}"));
    }
    for Row { name, offset, .. } in document::region() {
        match name {
            "to_creator_header" => claims.add(&format!("SHM_FIFO_DETAIL_TO_CREATOR == {offset}")),
            "to_attacher_header" => claims.add(&format!("SHM_FIFO_DETAIL_TO_ATTACHER == {offset}")),
            "to_creator_ring" => {
                claims.add(&format!("SHM_FIFO_DETAIL_REGION_HEADER_BYTES == {offset}"));
            }
            // It begins where the other one ends, which the tests with a peer in C show.
            "to_attacher_ring" => {}
            _ => {
                claims.add(&format!("offsetof(shm_fifo_detail_region_header, {name}) == {offset}"))
            }
        }
    }
    for (name, value) in document::numbers() {
        match name {
            "MAGIC" => claims.add(&format!("shm_fifo_detail_magic == UINT64_C({value})")),
            "LAYOUT_VERSION" => claims.add(&format!("SHM_FIFO_DETAIL_LAYOUT_VERSION == {value}")),
            "INLINE_BYTES" | "RING_BYTES_MIN" | "RING_BYTES_MAX" => {
                claims.add(&format!("SHM_FIFO_{name} == {value}"));
            }
            "KEY_FACTOR" => claims.add(&format!("shm_fifo_detail_key(1, 0) == {value}")),
            // They have no name for the byte, and nothing of Redis; who leaves is a client of it.
            "DOORBELL" | "LEAVE" | "TOKEN_DIGITS" | "PROTOCOL_VERSION" => {}
            other => panic!("nobody compares {other}"),
        }
    }
    claims.check(Path::new(env!("CARGO_TARGET_TMPDIR")));
}
