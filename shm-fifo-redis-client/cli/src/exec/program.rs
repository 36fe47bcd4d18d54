//! Whether a library can stand between a program and its C library.

use anyhow::Context;
use object::read::elf::{Dyn, ElfFile, FileHeader, ProgramHeader};
use object::{Architecture, Endianness, Object, ObjectSection, ReadCache, ReadRef, elf};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// Interpreters of interpreters that are followed.
const MAX_INTERPRETERS: usize = 4;
/// In so many bytes stands what the kernel looks for.
const HEAD_BYTES: u64 = 256;
/// What `execvp(3)` gives a text to.
const SHELL: &str = "/bin/sh";

/// Why a program's connections stay on their sockets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unservable {
    #[error("it is no ELF program")]
    NotElf,
    #[error("it is for another kind of machine ({0:?}); build shm-fifo for that, too")]
    OtherMachine(Architecture),
    #[error("it is linked statically; link it dynamically")]
    Static,
    #[error("its C library is neither glibc nor musl")]
    OtherCLibrary,
    #[error(
        "it gains privileges (setuid, setgid, capabilities), and the system preloads nothing into such"
    )]
    Privileged,
    #[error("Go programs make their system calls without the C library")]
    Go,
    #[error("it is compiled with a sanitizer, which has to see all that it does")]
    Sanitizer,
    #[error("its interpreter {} is the reason: {reason}", .interpreter.display())]
    Interpreter { interpreter: PathBuf, reason: Box<Unservable> },
}

impl Unservable {
    /// Whether the library's name alone makes the program's dynamic linker complain. The others
    /// run as ever, and their children may be served.
    pub(super) fn complains_of_library(&self) -> bool {
        match self {
            Self::OtherMachine(_) => true,
            Self::Interpreter { reason, .. } => reason.complains_of_library(),
            _ => false,
        }
    }
}

/// A program's file.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    file: File,
    head: Vec<u8>,
}

impl Program {
    /// Finds it as `execvp(3)` does.
    pub(super) fn find(name: &OsStr) -> anyhow::Result<Self> {
        let path = locate(name)
            .with_context(|| format!("{} is not found in PATH", Path::new(name).display()))?;
        Self::open(path.clone()).with_context(|| format!("cannot read {}", path.display()))
    }

    fn open(path: PathBuf) -> io::Result<Self> {
        if !fs::metadata(&path)?.is_file() {
            return Err(io::Error::other("it is no file"));
        }
        let file = File::open(&path)?;
        let mut head = Vec::new();
        (&file).take(HEAD_BYTES).read_to_end(&mut head)?;
        Ok(Self { path, file, head })
    }

    /// Whether the library can be loaded into it and sees its calls, as far as its file
    /// says.
    pub(super) fn can_be_served(&self) -> Result<(), Unservable> {
        self.can_be_served_within(MAX_INTERPRETERS)
    }

    fn can_be_served_within(&self, interpreters: usize) -> Result<(), Unservable> {
        // The kernel ignores such bits of a script.
        let Some(names) = self.interpreters() else {
            // Of a program of 100 MB only what is looked at is read.
            check_elf(&ReadCache::new(&self.file))?;
            return if self.is_privileged() { Err(Unservable::Privileged) } else { Ok(()) };
        };
        for name in names {
            let Ok(interpreter) = Self::find(&name) else { continue };
            let left = interpreters.checked_sub(1).ok_or(Unservable::NotElf)?;
            interpreter.can_be_served_within(left).map_err(|reason| Unservable::Interpreter {
                interpreter: interpreter.path.clone(),
                reason: Box::new(reason),
            })?;
        }
        Ok(())
    }

    fn is_privileged(&self) -> bool {
        let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
        let Ok(file) = self.file.metadata() else { return false };
        let gains = || {
            let name = "security.capability";
            rustix::fs::fgetxattr(&self.file, name, &mut [0_u8; 64][..]).is_ok()
        };
        changes_user(file.mode(), file.uid() == user.as_raw(), file.gid() == group.as_raw())
            || (!user.is_root() && gains())
    }

    /// Of a script: what `#!` names, and what `env` then finds. Other texts are a shell's.
    fn interpreters(&self) -> Option<Vec<OsString>> {
        let Some(text) = self.head.strip_prefix(b"#!") else {
            return (!self.head.contains(&0)).then(|| vec![SHELL.into()]);
        };
        let line = text.split(|&byte| byte == b'\n').next()?;
        let words = line.split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
        let words: Vec<OsString> = words.map(|word| OsString::from_vec(word.to_vec())).collect();
        let first = words.first()?.clone();
        let is_env = Path::new(&first).file_name() == Some(OsStr::new("env"));
        let is_name = |word: &&OsString| {
            !word.as_bytes().starts_with(b"-") && !word.as_bytes().contains(&b'=')
        };
        let found_by_env = words[1..].iter().find(is_name).filter(|_| is_env).cloned();
        Some([first].into_iter().chain(found_by_env).collect())
    }
}

fn check_elf<'data>(bytes: impl ReadRef<'data>) -> Result<(), Unservable> {
    let file = object::File::parse(bytes).map_err(|_| Unservable::NotElf)?;
    match &file {
        object::File::Elf64(elf) if file.architecture() == own_architecture() => check_linkage(elf),
        // 32 bits: not this library's, whatever the processor can do.
        _ => Err(Unservable::OtherMachine(file.architecture())),
    }
}

fn check_linkage<'data>(
    file: &ElfFile<'data, elf::FileHeader64<Endianness>, impl ReadRef<'data>>,
) -> Result<(), Unservable> {
    let is_go = |name| matches!(name, Ok(".go.buildinfo" | ".note.go.buildid"));
    if file.sections().any(|section| is_go(section.name())) {
        return Err(Unservable::Go);
    }
    let (endian, data) = (file.endian(), file.data());
    let segments = file.elf_header().program_headers(endian, data).unwrap_or_default();
    let interpreter = segments.iter().find_map(|one| one.interpreter(endian, data).ok()?);
    let interpreter = Path::new(OsStr::from_bytes(interpreter.ok_or(Unservable::Static)?));
    let begins_with = |name: &[u8], start: &str| name.starts_with(start.as_bytes());
    let loader = interpreter.file_name().unwrap_or_default().as_bytes();
    if !["ld-linux", "ld-musl"].iter().any(|start| begins_with(loader, start)) {
        return Err(Unservable::OtherCLibrary);
    }
    const SANITIZERS: [&str; 5] =
        ["libasan.so", "libhwasan.so", "liblsan.so", "libtsan.so", "libclang_rt.asan"];
    let is_sanitizer = |name: &[u8]| SANITIZERS.iter().any(|start| begins_with(name, start));
    if libraries(file).unwrap_or_default().into_iter().any(is_sanitizer) {
        return Err(Unservable::Sanitizer);
    }
    Ok(())
}

/// Those that are loaded with the program.
fn libraries<'data, R: ReadRef<'data>>(
    file: &ElfFile<'data, elf::FileHeader64<Endianness>, R>,
) -> object::Result<Vec<&'data [u8]>> {
    let (endian, data) = (file.endian(), file.data());
    let sections = file.elf_header().sections(endian, data)?;
    let Some((entries, strings)) = sections.dynamic(endian, data)? else { return Ok(Vec::new()) };
    let strings = sections.strings(endian, data, strings)?;
    let needed = entries.iter().filter(|entry| entry.tag32(endian) == Some(elf::DT_NEEDED));
    Ok(needed.filter_map(|entry| strings.get(entry.val32(endian)?).ok()).collect())
}

/// By its setuid or setgid bit, where the file's owner, or group, is not who runs it.
fn changes_user(mode: u32, is_own_user: bool, is_own_group: bool) -> bool {
    const SETUID: u32 = 0o4000;
    /// Without the group's permission to run it the other bit means something else.
    const SETGID: u32 = 0o2010;
    (mode & SETUID == SETUID && !is_own_user) || (mode & SETGID == SETGID && !is_own_group)
}

fn own_architecture() -> Architecture {
    if cfg!(target_arch = "aarch64") { Architecture::Aarch64 } else { Architecture::X86_64 }
}

fn locate(name: &OsStr) -> Option<PathBuf> {
    if name.as_bytes().contains(&b'/') {
        return Some(name.into());
    }
    let path = env::var_os("PATH")?;
    env::split_paths(&path).map(|directory| directory.join(name)).find(|file| {
        fs::metadata(file)
            .is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0)
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use std::io::Write;

    fn program(bytes: &[u8]) -> Program {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(bytes).unwrap();
        Program::open(file.path().to_owned()).unwrap()
    }

    fn script(first_line: &str) -> Program {
        program(format!("{first_line}\nexit\n").as_bytes())
    }

    #[test]
    fn a_shell_can_be_served_and_so_can_its_scripts() {
        assert_eq!(Program::find(OsStr::new("sh")).unwrap().can_be_served(), Ok(()));
        assert_eq!(script("#!/bin/sh -e").can_be_served(), Ok(()));
        assert_eq!(script("#! /usr/bin/env -S X=1 sh").can_be_served(), Ok(()));
    }

    #[test]
    fn what_env_finds_is_an_interpreter_too() {
        let names = script("#!/usr/bin/env -S X=1 python3 -u").interpreters();
        assert_eq!(names, Some(vec!["/usr/bin/env".into(), "python3".into()]));
    }

    #[test]
    fn only_who_becomes_somebody_else_is_privileged() {
        assert!(!changes_user(0o755, false, false));
        assert!(changes_user(0o4755, false, true) && !changes_user(0o4755, true, false));
        assert!(changes_user(0o2755, true, false) && !changes_user(0o2755, false, true));
        // Not by the bit that was for mandatory locks.
        assert!(!changes_user(0o2745, false, false));
    }

    #[test]
    fn a_text_is_a_script_of_the_shell() {
        assert_eq!(script("hello").interpreters(), Some(vec![SHELL.into()]));
        assert_eq!(script("hello").can_be_served(), Ok(()));
    }

    #[test]
    fn what_is_no_program_is_said_to_be_none() {
        for bytes in [&b"MZ\0\0"[..], b"\x7fELF\0", &[0; 4096]] {
            let result = program(bytes).can_be_served();
            assert_eq!(result, Err(Unservable::NotElf), "{bytes:?}");
            assert!(!Unservable::NotElf.complains_of_library());
        }
    }

    #[test]
    fn programs_of_other_machines_are_named() {
        // An ELF header of 64 bits for AArch64 or, there, for x86-64.
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        let other = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        header.extend([other, 0, 1, 0, 0, 0]);
        header.resize(52, 0);
        header.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
        let reason = program(&header).can_be_served().unwrap_err();
        assert!(matches!(reason, Unservable::OtherMachine(_)), "{reason}");
        assert!(reason.complains_of_library());
    }
}
