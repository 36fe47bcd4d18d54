//! The last words of connections that have ended here, until their peers have read them.
//!
//! A socket's would be in the kernel. Here they take pages of the region, which count as long
//! as they are there: until the peer has read them, or is gone. There is no socket any more
//! that would say so; that nobody else maps the region does.

use crate::os::endpoint::Endpoint;
use std::fs::File;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// So many are looked at in one sweep.
const MOST_IN_A_SWEEP: usize = 256;

#[derive(Debug)]
struct Unread {
    endpoint: Endpoint,
    bytes: usize,
}

#[derive(Debug)]
struct List {
    all: Vec<Unread>,
    /// Where the next sweep begins.
    next: usize,
}

static LIST: Mutex<List> = Mutex::new(List { all: Vec::new(), next: 0 });
static BYTES: AtomicUsize = AtomicUsize::new(0);
static CONNECTIONS: AtomicUsize = AtomicUsize::new(0);

// ORDERING, Relaxed, of both: statistics; no data depends on them.

/// Bytes of memory that all of them take.
pub(super) fn bytes() -> usize {
    BYTES.load(Relaxed)
}

/// How many there are. Each is a mapping of this process.
pub(super) fn connections() -> usize {
    CONNECTIONS.load(Relaxed)
}

/// Leaves what is unread of a connection that has ended to its peer, and gives all other
/// memory of it back.
pub(super) fn leave(endpoint: Endpoint) {
    let bytes = endpoint.discard_all_but_unread();
    if bytes > 0 {
        BYTES.fetch_add(bytes, Relaxed);
        CONNECTIONS.fetch_add(1, Relaxed);
        lock().all.push(Unread { endpoint, bytes });
    }
}

/// Gives back what was read since, or is nobody's any more.
pub(super) fn sweep() {
    if bytes() == 0 {
        return;
    }
    let Ok(pagemap) = File::open("/proc/self/pagemap") else { return };
    let mut list = lock();
    for _ in 0..list.all.len().min(MOST_IN_A_SWEEP) {
        let index = list.next % list.all.len();
        if list.all[index].is_over(&pagemap) {
            let over = list.all.swap_remove(index);
            BYTES.fetch_sub(over.bytes, Relaxed);
            CONNECTIONS.fetch_sub(1, Relaxed);
            over.give_back();
        } else {
            list.next = index + 1;
        }
    }
}

impl Unread {
    fn is_over(&self, pagemap: &File) -> bool {
        // Looked at first, so that the page is there.
        self.endpoint.producer.unread_bytes() == 0 || !self.endpoint.is_mapped_elsewhere(pagemap)
    }

    fn give_back(self) {
        // Who has read it all may look once more whether this is the end.
        match self.endpoint.producer.unread_bytes() {
            0 => drop(self.endpoint.discard_all_but_unread()),
            _ => self.endpoint.discard(),
        }
    }
}

fn lock() -> MutexGuard<'static, List> {
    LIST.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::os::region::Region;
    use std::os::fd::OwnedFd;
    use std::os::unix::fs::MetadataExt as _;

    const PAGE: u64 = 4096;

    fn allocated_bytes(file: &OwnedFd) -> u64 {
        let file = File::from(file.try_clone().expect("a descriptor"));
        file.metadata().expect("a file").blocks() * 512
    }

    #[test]
    #[cfg_attr(miri, ignore = "Miri has no memfd")]
    fn last_words_stay_until_they_are_read_or_nobody_maps_them() {
        for is_read in [true, false] {
            let region = Region::create(64 << 10).expect("memory");
            let file = region.fd().expect("its file");
            let peer = Region::attach(region.fd().expect("its file")).expect("a region");
            let mut peer = peer.into_endpoint();
            let mut endpoint = region.into_endpoint();
            // Around the ring's end.
            endpoint.producer.write(&[1; 60 << 10]).expect("space");
            assert_eq!(peer.consumer.read(&mut [0; 60 << 10]), Ok(60 << 10));
            endpoint.producer.write(&[2; 5 << 10]).expect("space");

            leave(endpoint);
            sweep();
            assert_eq!(allocated_bytes(&file), 3 * PAGE);

            if is_read {
                let mut last_words = [0; 5 << 10];
                assert_eq!(peer.consumer.read(&mut last_words), Ok(5 << 10));
                assert_eq!(last_words, [2; 5 << 10]);
                sweep();
                assert_eq!(allocated_bytes(&file), PAGE);
            } else {
                drop(peer);
                sweep();
                assert_eq!(allocated_bytes(&file), 0);
            }
        }
    }
}
