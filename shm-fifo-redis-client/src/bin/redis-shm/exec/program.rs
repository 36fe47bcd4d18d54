//! Whether a library can stand between a program and its C library.

use anyhow::Context;
use object::read::elf::{ElfFile, FileHeader};
use object::{Architecture, Endianness, Object, ObjectSection, elf};
use std::env;
use std::ffi::{OsStr, OsString};
use std::fs;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

/// Interpreters of interpreters that are followed.
const MAX_INTERPRETERS: usize = 4;

/// Why a program's connections stay on their sockets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum Unservable {
    #[error("it is no ELF program")]
    NotElf,
    #[error("it is for another kind of machine ({0:?}); build shm-fifo for that, too")]
    OtherMachine(Architecture),
    #[error("it is linked statically; link it dynamically")]
    Static,
    #[error("its C library is not glibc; build shm-fifo for that, too")]
    OtherCLibrary,
    #[error("it is setuid, setgid or has capabilities, and the system preloads nothing into such")]
    Privileged,
    #[error("Go programs make their system calls without the C library")]
    Go,
    #[error("its interpreter {} is the reason: {reason}", .interpreter.display())]
    Interpreter { interpreter: PathBuf, reason: Box<Unservable> },
}

/// A program's file.
#[derive(Debug)]
pub(super) struct Program {
    path: PathBuf,
    bytes: Vec<u8>,
}

impl Program {
    /// Finds it as `execvp(3)` does.
    pub(super) fn find(name: &OsStr) -> anyhow::Result<Self> {
        let path = locate(name)
            .with_context(|| format!("{} is not found in PATH", Path::new(name).display()))?;
        let bytes = fs::read(&path).with_context(|| format!("cannot read {}", path.display()))?;
        Ok(Self { path, bytes })
    }

    /// Whether its connections can be moved, as far as its file says.
    pub(super) fn can_be_served(&self) -> Result<(), Unservable> {
        self.can_be_served_within(MAX_INTERPRETERS)
    }

    fn can_be_served_within(&self, interpreters: usize) -> Result<(), Unservable> {
        if self.is_privileged() {
            return Err(Unservable::Privileged);
        }
        let Some(names) = self.interpreters() else { return check_elf(&self.bytes) };
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
        let mode = fs::metadata(&self.path).map(|file| file.permissions().mode()).unwrap_or(0);
        mode & 0o6000 != 0
            || rustix::fs::getxattr(&self.path, "security.capability", &mut [0_u8; 64][..]).is_ok()
    }

    /// Of a script: what `#!` names, and what `env` then finds.
    fn interpreters(&self) -> Option<Vec<OsString>> {
        let line = self.bytes.strip_prefix(b"#!")?.split(|&byte| byte == b'\n').next()?;
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

fn check_elf(bytes: &[u8]) -> Result<(), Unservable> {
    let file = object::File::parse(bytes).map_err(|_| Unservable::NotElf)?;
    match &file {
        object::File::Elf64(elf) => check_linkage(elf, &file),
        // 32 bits: not this library's, whatever the processor can do.
        _ => Err(Unservable::OtherMachine(file.architecture())),
    }
}

fn check_linkage(
    elf: &ElfFile<'_, elf::FileHeader64<Endianness>>,
    file: &object::File<'_>,
) -> Result<(), Unservable> {
    if file.architecture() != own_architecture() {
        return Err(Unservable::OtherMachine(file.architecture()));
    }
    if file
        .sections()
        .any(|section| matches!(section.name(), Ok(".go.buildinfo" | ".note.go.buildid")))
    {
        return Err(Unservable::Go);
    }
    let endian = elf.endian();
    let header = elf.elf_header();
    let segments = header.program_headers(endian, elf.data()).map_err(|_| Unservable::NotElf)?;
    let interpreter = segments
        .iter()
        .find_map(|segment| {
            object::read::elf::ProgramHeader::interpreter(segment, endian, elf.data()).ok()?
        })
        .ok_or(Unservable::Static)?;
    let name = Path::new(OsStr::from_bytes(interpreter)).file_name().unwrap_or_default();
    if name.as_bytes().starts_with(b"ld-musl") { Err(Unservable::OtherCLibrary) } else { Ok(()) }
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

    fn script(first_line: &str) -> Program {
        Program { path: "script".into(), bytes: format!("{first_line}\nexit\n").into_bytes() }
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
    fn what_is_no_program_is_said_to_be_none() {
        let text = Program { path: "text".into(), bytes: b"hello".to_vec() };
        assert_eq!(text.can_be_served(), Err(Unservable::NotElf));
    }

    #[test]
    fn programs_of_other_machines_are_named() {
        // An ELF header of 64 bits for AArch64 or, there, for x86-64.
        let mut header = vec![0x7f, b'E', b'L', b'F', 2, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2, 0];
        let other = if cfg!(target_arch = "aarch64") { 62 } else { 183 };
        header.extend([other, 0, 1, 0, 0, 0]);
        header.resize(52, 0);
        header.extend([64, 0, 56, 0, 0, 0, 64, 0, 0, 0, 0, 0]);
        let program = Program { path: "other".into(), bytes: header };
        assert!(matches!(program.can_be_served(), Err(Unservable::OtherMachine(_))));
    }
}
