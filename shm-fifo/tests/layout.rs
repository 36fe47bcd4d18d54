//! The bytes that two processes share are where `docs/layout.md` says.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use shm_fifo::testing::{HeapFifo, Word};
use shm_fifo::{
    Channel, Region,
    fifo::{FIFO_HEADER_BYTES, FifoHeader, INLINE_BYTES},
};
use std::fs::File;
use std::io::Write;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use std::os::unix::net::UnixStream;
use support::Watchdog;

const DOCUMENT: &str = include_str!("../../docs/layout.md");
const RING_BYTES: usize = 8192;

/// A row of one of the document's tables.
#[derive(Debug)]
struct Row {
    name: &'static str,
    offset: usize,
    bytes: usize,
}

/// The rows of the table under `heading`.
fn table(heading: &str) -> Vec<Row> {
    let (_, section) = DOCUMENT.split_once(heading).expect("the heading exists");
    section
        .lines()
        .skip_while(|line| !line.starts_with("|---"))
        .skip(1)
        .take_while(|line| line.starts_with('|'))
        .map(|line| {
            let cells: Vec<_> = line.split('|').map(str::trim).collect();
            let name = cells[4].split('`').nth(1).expect("the name is in backticks");
            Row { name, offset: sum(cells[1]), bytes: sum(cells[2]) }
        })
        .collect()
}

/// The value of a sum of numbers and `R`.
fn sum(cell: &str) -> usize {
    cell.split(" + ").map(|term| if term == "R" { RING_BYTES } else { term.parse().unwrap() }).sum()
}

fn row(heading: &str, name: &str) -> Row {
    table(heading).into_iter().find(|row| row.name == name).expect("the row exists")
}

fn region_row(name: &str) -> Row {
    row("## The region", name)
}

fn fifo_row(name: &str) -> Row {
    row("## The FIFO header", name)
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
    assert_eq!(table("## The FIFO header").len(), words.len() + 1);
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
    assert_eq!(u64_at(&file, region_row("layout_version").offset), 2);
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
