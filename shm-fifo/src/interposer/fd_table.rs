//! From file descriptors to what is known of them, for any thread.
//!
//! Two levels, as in a page table: a look at a number costs one load where none near it was
//! ever inserted, and two near one. Pages of slots are made when they are needed and never
//! freed, so a slot stays where it is.
//!
//! A signal handler may come here too, in the middle of anything that the interrupted thread
//! does here or in the heap: nobody waits for a lock, and pages come from the kernel.
#![allow(unsafe_code)]

use super::page_memory;
use std::fmt;
use std::os::fd::RawFd;
use std::ptr::null_mut;
use std::sync::atomic::AtomicPtr;
use std::sync::atomic::Ordering::{AcqRel, Acquire};

const SLOTS_PER_PAGE: usize = 256;
/// Pages for a million file descriptors, as many as Linux allows by default. To Miri each look
/// at the table costs the more the larger it is.
const PAGES: usize = if cfg!(miri) { 16 } else { 4096 };

type Page<S> = [S; SLOTS_PER_PAGE];

/// A slot for each file descriptor, made by `S::default()` with those of the numbers near it.
///
/// It is made for a `static`: what is in it is never dropped. Where signal handlers may insert,
/// `S::default()` must be something that they may do.
pub struct FdTable<S> {
    pages: [AtomicPtr<Page<S>>; PAGES],
}

impl<S: Default + Send + Sync> FdTable<S> {
    /// A table without slots.
    #[allow(clippy::new_without_default, reason = "it is for a static, which needs a constant")]
    #[must_use]
    pub const fn new() -> Self {
        Self { pages: [const { AtomicPtr::new(null_mut()) }; PAGES] }
    }

    /// The slot of `fd`, if one near it was ever inserted.
    #[must_use]
    #[inline]
    pub fn get(&self, fd: RawFd) -> Option<&S> {
        let (cell, index) = self.place(fd)?;
        Some(&page(cell)?[index])
    }

    /// The slot of `fd`; `None` for a number that can be no file descriptor here, or if there
    /// is no memory.
    #[must_use]
    pub fn get_or_insert(&self, fd: RawFd) -> Option<&S> {
        let (cell, index) = self.place(fd)?;
        Some(&page(cell).or_else(|| make_page(cell))?[index])
    }

    /// All numbers that have a slot, and those, in their order.
    pub fn iter(&self) -> impl Iterator<Item = (RawFd, &S)> {
        let made = self.numbered().filter_map(|(first, cell)| Some((first, page(cell)?)));
        made.flat_map(|(first, page)| (first..).zip(page))
    }

    /// Shows `visit` all slots, for it to change: in a forked child, say, where threads that are
    /// not there may have left them locked.
    ///
    /// # Safety
    /// Nobody else reaches the table meanwhile, nor has a reference to one of its slots that is
    /// used afterwards.
    pub unsafe fn for_each_mut(&self, mut visit: impl FnMut(RawFd, &mut S)) {
        for (first, cell) in self.numbered() {
            // SAFETY: null, or a page of `make_page`, which is never freed. Nobody else reaches
            // it, as the caller says.
            if let Some(page) = unsafe { cell.load(Acquire).as_mut() } {
                (first..).zip(page).for_each(|(fd, slot)| visit(fd, slot));
            }
        }
    }

    #[inline]
    fn place(&self, fd: RawFd) -> Option<(&AtomicPtr<Page<S>>, usize)> {
        let fd = usize::try_from(fd).ok()?;
        Some((self.pages.get(fd / SLOTS_PER_PAGE)?, fd % SLOTS_PER_PAGE))
    }

    /// The cells of all pages, with the number of the first slot of each.
    fn numbered(&self) -> impl Iterator<Item = (RawFd, &AtomicPtr<Page<S>>)> {
        (0..).step_by(SLOTS_PER_PAGE).zip(&self.pages)
    }
}

impl<S> fmt::Debug for FdTable<S> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FdTable").finish_non_exhaustive()
    }
}

/// The page behind `cell`, if there is one.
#[inline]
fn page<S>(cell: &AtomicPtr<Page<S>>) -> Option<&Page<S>> {
    // ORDERING, Acquire: pairs with the exchange in `make_page`. Weaker: a slot could be seen as
    // it was before it was made.
    //
    // SAFETY: null, or a page of `make_page`, which is never freed.
    unsafe { cell.load(Acquire).as_ref() }
}

/// Makes a page behind `cell`, for ever; if another thread was first, its page is the one.
#[cold]
fn make_page<S: Default>(cell: &AtomicPtr<Page<S>>) -> Option<&Page<S>> {
    // What a page of memory is aligned to everywhere.
    const { assert!(align_of::<S>() <= 4096) };
    let fresh = page_memory::take::<Page<S>>()?;
    // One by one where they stay: threads, and signal handlers, may have small stacks.
    for index in 0..SLOTS_PER_PAGE {
        // SAFETY: within the memory, which is a page's bytes long.
        let slot = unsafe { fresh.cast::<S>().add(index) };
        // SAFETY: aligned, as the memory is, and nobody else's yet.
        unsafe { slot.write(S::default()) };
    }
    // ORDERING, AcqRel: publishes the slots to the Acquire loads of the cell; and, as those do,
    // sees the ones of another thread that was first.
    let current = match cell.compare_exchange(null_mut(), fresh, AcqRel, Acquire) {
        Ok(_) => fresh,
        Err(other) => {
            // SAFETY: all of its slots were made, and nobody else has seen them.
            unsafe { fresh.drop_in_place() };
            // SAFETY: taken above, and nobody's any more.
            unsafe { page_memory::give_back(fresh) };
            other
        }
    };
    // SAFETY: all slots of a published page are made, and it is never freed.
    Some(unsafe { &*current })
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;
    use std::sync::atomic::AtomicUsize;
    use std::sync::atomic::Ordering::Relaxed;
    use std::sync::{Barrier, Mutex};
    use std::thread;

    fn last() -> RawFd {
        RawFd::try_from(PAGES * SLOTS_PER_PAGE - 1).expect("a number")
    }

    #[test]
    fn numbers_that_are_no_file_descriptors_have_no_slot() {
        static TABLE: FdTable<AtomicUsize> = FdTable::new();
        for number in [-1, RawFd::MIN, RawFd::MAX, last() + 1] {
            assert!(TABLE.get(number).is_none() && TABLE.get_or_insert(number).is_none());
        }
        assert!(TABLE.get_or_insert(0).is_some() && TABLE.get_or_insert(last()).is_some());
    }

    #[test]
    fn each_number_has_a_slot_of_its_own_and_keeps_it() {
        static TABLE: FdTable<AtomicUsize> = FdTable::new();
        let numbers = [3, 255, 256, 257, 3000, last()];
        for (value, number) in numbers.into_iter().enumerate() {
            TABLE.get_or_insert(number).expect("memory").store(value, Relaxed);
        }
        for (value, number) in numbers.into_iter().enumerate() {
            let slots = [TABLE.get(number), TABLE.get_or_insert(number)];
            assert_eq!(slots.map(|slot| slot.map(|slot| slot.load(Relaxed))), [Some(value); 2]);
        }
    }

    #[test]
    fn only_numbers_near_one_that_was_inserted_have_a_slot() {
        static TABLE: FdTable<AtomicUsize> = FdTable::new();
        assert!(TABLE.get(300).is_none() && TABLE.iter().next().is_none());

        TABLE.get_or_insert(300).expect("memory");
        TABLE.get_or_insert(1000).expect("memory");

        let numbers: Vec<RawFd> = TABLE.iter().map(|(number, _)| number).collect();
        assert!(numbers.into_iter().eq((256..512).chain(768..1024)));
        let has_slot = |number| TABLE.get(number).is_some();
        assert_eq!(
            [255, 256, 511, 512, 767, 768].map(has_slot),
            [false, true, true, false, false, true]
        );
    }

    #[test]
    fn who_is_alone_changes_what_is_there_also_where_it_is_locked() {
        static TABLE: FdTable<Mutex<RawFd>> = FdTable::new();
        TABLE.get_or_insert(7).expect("memory");
        let slot = TABLE.get_or_insert(600).expect("memory");
        std::mem::forget(slot.lock());

        // SAFETY: the table is this test's, which uses no reference to a slot afterwards.
        unsafe { TABLE.for_each_mut(|number, slot| *slot = Mutex::new(number)) };

        assert!(TABLE.iter().all(|(number, slot)| *slot.lock().expect("no panic") == number));
        assert_eq!(TABLE.iter().count(), 2 * SLOTS_PER_PAGE);
    }

    /// Slots that there are.
    static SLOTS: AtomicUsize = AtomicUsize::new(0);
    static BOTH: Barrier = Barrier::new(2);
    thread_local!(static MADE: Cell<usize> = const { Cell::new(0) });

    struct Counted(AtomicUsize);

    impl Default for Counted {
        fn default() -> Self {
            // The first of a page: each of two threads is making it, and one will lose.
            let made = MADE.replace(MADE.get() + 1);
            if made.is_multiple_of(SLOTS_PER_PAGE) {
                BOTH.wait();
            }
            SLOTS.fetch_add(1, Relaxed);
            Self(AtomicUsize::new(0))
        }
    }

    impl Drop for Counted {
        fn drop(&mut self) {
            SLOTS.fetch_sub(1, Relaxed);
        }
    }

    #[test]
    fn threads_that_race_for_a_page_get_the_same_one() {
        static TABLE: FdTable<Counted> = FdTable::new();
        const NUMBERS: [RawFd; 3] = [0, 300, 600];
        let count = || {
            for number in NUMBERS {
                TABLE.get_or_insert(number).expect("memory").0.fetch_add(1, Relaxed);
            }
        };

        thread::scope(|scope| {
            scope.spawn(count);
            scope.spawn(count);
        });

        for number in NUMBERS {
            assert_eq!(TABLE.get(number).expect("inserted").0.load(Relaxed), 2);
        }
        let slots = NUMBERS.len() * SLOTS_PER_PAGE;
        assert_eq!(SLOTS.load(Relaxed), slots, "those that lost are dropped");
    }
}
