//! Finding and writing slots of the main executable's global offset table.
//!
//! Invariants: an address is written only if the executable's own dynamic section
//! names it as the slot of that function (System V ABI, AMD64 supplement, chapter
//! 5; ELF for the Arm 64-bit Architecture, "Relocation"), the page's protection is put back to what it was, and every write is one
//! atomic store of a pointer to a function with the C library's own signature.
#![allow(unsafe_code)]

use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};

/// A function of the C library and what is to be called in its place.
#[derive(Debug)]
pub(super) struct Hook {
    pub(super) name: &'static CStr,
    pub(super) replacement: *const c_void,
    /// Servers without this call are served all the same.
    pub(super) optional: bool,
}

// SAFETY: a name and the address of a function, both immutable.
unsafe impl Sync for Hook {}

/// A slot of the table, and the address that belongs in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Slot {
    address: usize,
    replacement: usize,
}

/// All slots of the main executable for `hooks`.
///
/// # Errors
/// If a hook that is not optional has none.
pub(super) fn find(hooks: &[Hook]) -> Result<Vec<Slot>, String> {
    let table = executable().ok_or("the server's executable has no dynamic section (static?)")?;
    let slots: Vec<Slot> =
        table.relocations().filter_map(|relocation| table.slot(relocation, hooks)).collect();
    for hook in hooks.iter().filter(|hook| !hook.optional) {
        if !slots.iter().any(|slot| slot.replacement == hook.replacement as usize) {
            let name = hook.name.to_string_lossy();
            return Err(format!("the server does not call {name} of a shared C library"));
        }
    }
    Ok(slots)
}

impl Slot {
    /// Points the slot at its replacement, unless it does already.
    pub(super) fn patch(&self) -> Result<(), String> {
        // SAFETY: a slot named by the executable, mapped as long as the process
        // lives, aligned; the dynamic linker writes it as a whole as well.
        let slot = unsafe { AtomicUsize::from_ptr(self.address as *mut usize) };
        if slot.load(Relaxed) == self.replacement {
            return Ok(());
        }
        let before = protection_of(self.address).ok_or_else(|| {
            format!("no mapping at {:#x} in /proc/self/maps; is /proc mounted?", self.address)
        })?;
        self.protect(before | libc::PROT_WRITE)?;
        // ORDERING, Relaxed: a thread calls the old function or the new one, and
        // both are right.
        slot.store(self.replacement, Relaxed);
        self.protect(before)
    }

    fn protect(&self, protection: c_int) -> Result<(), String> {
        // SAFETY: takes no pointer.
        let page_bytes = usize::try_from(unsafe { libc::sysconf(libc::_SC_PAGESIZE) })
            .map_err(|_| "the page size is unknown")?;
        let page = self.address & !(page_bytes - 1);
        // SAFETY: the page of a slot; it stays readable throughout.
        let result = unsafe { libc::mprotect(page as *mut c_void, page_bytes, protection) };
        if result == 0 {
            return Ok(());
        }
        Err(format!("cannot write the server's call table: {}", io::Error::last_os_error()))
    }
}

/// The protection of the mapping around `address`: `r--p` and so on in
/// `/proc/self/maps`. It is put back to this, not to a guess: an executable that
/// binds lazily keeps its slots beside writable data.
fn protection_of(address: usize) -> Option<c_int> {
    let maps = std::fs::read_to_string("/proc/self/maps").ok()?;
    maps.lines().find_map(|line| {
        let (range, rest) = line.split_once(' ')?;
        let (start, end) = range.split_once('-')?;
        let start = usize::from_str_radix(start, 16).ok()?;
        let end = usize::from_str_radix(end, 16).ok()?;
        let flag = |letter, protection| if rest[..4].contains(letter) { protection } else { 0 };
        (start..end).contains(&address).then(|| {
            flag('r', libc::PROT_READ) | flag('w', libc::PROT_WRITE) | flag('x', libc::PROT_EXEC)
        })
    })
}

/// What the main executable's dynamic section says.
#[derive(Debug, Clone, Copy)]
struct DynamicTable {
    base: usize,
    symbols: *const libc::Elf64_Sym,
    strings: *const c_char,
    tables: [Relocations; 2],
}

/// A table of relocations with addends: its address and its size in bytes.
#[derive(Debug, Clone, Copy, Default)]
struct Relocations {
    address: usize,
    bytes: usize,
}

// R_X86_64_GLOB_DAT and R_X86_64_JUMP_SLOT.
#[cfg(target_arch = "x86_64")]
const SLOT_KINDS: [u64; 2] = [6, 7];
// R_AARCH64_GLOB_DAT and R_AARCH64_JUMP_SLOT.
#[cfg(target_arch = "aarch64")]
const SLOT_KINDS: [u64; 2] = [1025, 1026];

/// `Elf64_Rela` of elf(5).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct Relocation {
    offset: u64,
    info: u64,
    addend: i64,
}

/// `Elf64_Dyn` of elf(5).
#[derive(Debug, Clone, Copy)]
#[repr(C)]
struct DynamicEntry {
    tag: i64,
    value: u64,
}

impl DynamicTable {
    fn relocations(&self) -> impl Iterator<Item = Relocation> {
        self.tables.into_iter().flat_map(|table| {
            (0..table.bytes / size_of::<Relocation>()).map(move |index| {
                let first = table.address as *const Relocation;
                // SAFETY: inside the table the executable names, which is mapped.
                unsafe { first.add(index).read() }
            })
        })
    }

    /// The slot that `relocation` fills, if it is that of one of `hooks`.
    fn slot(&self, relocation: Relocation, hooks: &[Hook]) -> Option<Slot> {
        let kind = relocation.info & 0xFFFF_FFFF;
        if !SLOT_KINDS.contains(&kind) {
            return None;
        }
        let index = usize::try_from(relocation.info >> 32).ok()?;
        // SAFETY: the executable's own relocation names a symbol of its table.
        let symbol = unsafe { self.symbols.add(index).read() };
        // SAFETY: the symbol's name is a C string in the executable's string table.
        let name = unsafe { CStr::from_ptr(self.strings.add(symbol.st_name as usize)) };
        let hook = hooks.iter().find(|hook| hook.name == name)?;
        let address = self.base + usize::try_from(relocation.offset).ok()?;
        Some(Slot { address, replacement: hook.replacement as usize })
    }
}

/// The dynamic section of the main executable, the first object the dynamic
/// linker lists (dl_iterate_phdr(3)).
fn executable() -> Option<DynamicTable> {
    let mut found: Option<DynamicTable> = None;
    // SAFETY: the callback gets the pointer back as its last argument.
    unsafe { libc::dl_iterate_phdr(Some(visit_first), (&raw mut found).cast()) };
    found
}

unsafe extern "C" fn visit_first(
    info: *mut libc::dl_phdr_info,
    _size: usize,
    found: *mut c_void,
) -> c_int {
    // SAFETY: what `executable` passed, alive until `dl_iterate_phdr` returns.
    let found = unsafe { &mut *found.cast::<Option<DynamicTable>>() };
    // SAFETY: the dynamic linker's description of one object.
    *found = unsafe { dynamic_table(&*info) };
    // Not 0: the first object is the only one that matters.
    1
}

/// # Safety
/// `info` describes an object that is mapped.
unsafe fn dynamic_table(info: &libc::dl_phdr_info) -> Option<DynamicTable> {
    let base = usize::try_from(info.dlpi_addr).ok()?;
    let headers =
        // SAFETY: the linker says how many program headers there are.
        unsafe { std::slice::from_raw_parts(info.dlpi_phdr, usize::from(info.dlpi_phnum)) };
    let dynamic = headers.iter().find(|header| header.p_type == libc::PT_DYNAMIC)?;
    let mut entry = (base + usize::try_from(dynamic.p_vaddr).ok()?) as *const DynamicEntry;
    let (mut symbols, mut strings) = (0, 0);
    let (mut plt, mut rela) = (Relocations::default(), Relocations::default());
    loop {
        // SAFETY: the section ends with DT_NULL, which ends the loop.
        let DynamicEntry { tag, value } = unsafe { entry.read() };
        let value = usize::try_from(value).ok()?;
        // The values that are addresses have been relocated by the dynamic linker
        // (glibc does so in place, musl does not).
        let address = if value < base { base + value } else { value };
        match tag {
            DT_NULL => break,
            DT_SYMTAB => symbols = address,
            DT_STRTAB => strings = address,
            DT_JMPREL => plt.address = address,
            DT_PLTRELSZ => plt.bytes = value,
            DT_RELA => rela.address = address,
            DT_RELASZ => rela.bytes = value,
            _ => {}
        }
        // SAFETY: not the last entry, so there is a next one.
        entry = unsafe { entry.add(1) };
    }
    (symbols != 0 && strings != 0).then_some(DynamicTable {
        base,
        symbols: symbols as *const libc::Elf64_Sym,
        strings: strings as *const c_char,
        tables: [plt, rela],
    })
}

// elf(5)
const DT_NULL: i64 = 0;
const DT_PLTRELSZ: i64 = 2;
const DT_STRTAB: i64 = 5;
const DT_SYMTAB: i64 = 6;
const DT_RELA: i64 = 7;
const DT_RELASZ: i64 = 8;
const DT_JMPREL: i64 = 23;

#[cfg(not(all(any(target_arch = "x86_64", target_arch = "aarch64"), target_os = "linux")))]
compile_error!("the module knows the call tables of x86-64 and AArch64 Linux executables only");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn slots_of_called_functions_are_found_and_others_are_missed_by_name() {
        let found = find(&[Hook {
            name: c"mmap64",
            replacement: libc::mmap64 as *const c_void,
            optional: true,
        }]);
        assert!(found.is_ok());
        let missing = find(&[Hook {
            name: c"no_such_function",
            replacement: std::ptr::dangling(),
            optional: false,
        }]);
        assert!(missing.expect_err("nobody calls it").contains("no_such_function"));
    }

    #[test]
    fn protections_are_those_of_the_mapping() {
        let on_the_stack = 0_u8;
        let stack = (&raw const on_the_stack).addr();
        assert_eq!(protection_of(stack), Some(libc::PROT_READ | libc::PROT_WRITE));
        assert_eq!(protection_of(1), None);
    }
}
