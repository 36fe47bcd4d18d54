//! `docs/preload.md` lists what each call does. Its tables have each function that the
//! library exports, and each function of the C library that has to do with descriptors.
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

type Names = BTreeSet<String>;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/preload.md");
const SERVED: &str = "### Calls that the library stands before";
const CREATORS: &str = "### New descriptors";
const UNSEEN: &str = "### Calls that it does not see";

/// The names in the first column of the table below `heading`.
fn listed(heading: &str) -> Names {
    let document = fs::read_to_string(DOCUMENT).unwrap();
    let mut lines = document.lines();
    assert!(lines.any(|line| line == heading), "docs/preload.md has no {heading:?}");
    let rows =
        lines.take_while(|line| !line.starts_with('#')).filter(|line| line.starts_with("| `"));
    let mut names = Names::new();
    for row in rows {
        let column = row.split('|').nth(1).unwrap();
        for name in column.split_whitespace() {
            let name = name.strip_prefix('`').and_then(|name| name.strip_suffix('`')).unwrap();
            assert!(names.insert(name.to_owned()), "{name} is listed twice");
        }
    }
    assert!(!names.is_empty(), "no table below {heading:?}");
    names
}

/// The functions that `library` exports, as programs that are linked today find them.
fn exported(library: &Path) -> Names {
    let output = Command::new("nm")
        .args(["-D", "--defined-only"])
        .arg(library)
        .output()
        .expect("nm runs; install it with: apt-get install binutils");
    assert!(output.status.success(), "nm cannot read {}", library.display());
    let text = String::from_utf8(output.stdout).unwrap();
    let functions = text.lines().filter_map(|line| {
        let mut words = line.split_whitespace().rev();
        let (name, kind) = (words.next()?, words.next()?);
        matches!(kind, "T" | "W" | "i").then_some(name)
    });
    // One `@` is a version for programs that were linked long ago.
    let current = functions.filter_map(|name| match name.split_once('@') {
        None => Some(name),
        Some((name, version)) if version.starts_with('@') => {
            (version != "@GLIBC_PRIVATE").then_some(name)
        }
        Some(_) => None,
    });
    let names: Names = current.map(str::to_owned).collect();
    assert!(!names.is_empty(), "nm shows no function of {}", library.display());
    names
}

/// The C library of this very process.
fn c_library() -> PathBuf {
    let maps = fs::read_to_string("/proc/self/maps").unwrap();
    let paths = maps.lines().filter_map(|line| line.find('/').map(|start| &line[start..]));
    let mut found = paths.filter(|path| path.contains("/libc.so.") || path.contains("/libc-2."));
    PathBuf::from(found.next().expect("this process has a C library"))
}

/// Whether a function of this name may take a descriptor, make one, or have to do with who
/// does.
fn may_concern_descriptors(name: &str) -> bool {
    const PARTS: &str = "accept aio bind close connect dprintf dup exec fanotify fcntl fd fileno \
        fork inotify ioctl listio open pipe poll pty recv select send shutdown sigaction sock \
        spawn splice syscall temp tty uring";
    const STARTS: &str = "bsd_signal clone copy_file creat daemon dl_iterate fsmount fspick \
        getpeername getpt listen login mq_ pread pwrite rcmd read rresv sigignore siginterrupt \
        signal sigset ssignal sysv_signal tee tmpfile write";
    /// Names that only look like it.
    const OTHERS: &str = "bind_textdomain bindtextdomain duplocale endttyent getttyent getttynam \
        gettimeofday posix_spawnattr_ pthread_ re_exec regexec register_atfork rexecoptions \
        setttyent settimeofday sigemptyset sigisemptyset sigsetjmp sigsetmask strdup strndup \
        ttyslot wcsdup";
    let name = name.trim_start_matches('_').to_lowercase();
    let begins_with_one = |words: &str| words.split(' ').any(|word| name.starts_with(word));
    !begins_with_one(OTHERS)
        && (begins_with_one(STARTS) || PARTS.split(' ').any(|part| name.contains(part)))
}

fn all(sets: [Names; 2]) -> Names {
    let [mut first, second] = sets;
    let both: Vec<_> = first.intersection(&second).collect();
    assert!(both.is_empty(), "listed twice: {both:?}");
    first.extend(second);
    first
}

#[test]
fn each_hook_is_listed_and_each_listed_hook_is_there() {
    let listed = all([listed(SERVED), listed(CREATORS)]);
    let exported = exported(&support::library());
    let missing: Vec<_> = exported.difference(&listed).collect();
    assert!(missing.is_empty(), "docs/preload.md does not say what becomes of {missing:?}");
    let gone: Vec<_> = listed.difference(&exported).collect();
    assert!(gone.is_empty(), "docs/preload.md lists {gone:?}, which the library does not export");
}

#[test]
fn each_function_of_the_c_library_is_listed() {
    let hooked = all([listed(SERVED), listed(CREATORS)]);
    let known = all([hooked, listed(UNSEEN)]);
    let library = c_library();
    let concerned: Names =
        exported(&library).into_iter().filter(|name| may_concern_descriptors(name)).collect();
    for name in ["read", "__read_chk", "accept4", "epoll_pwait2", "mkostemps64"] {
        assert!(concerned.contains(name), "{} was not read well: no {name}", library.display());
    }
    let missing: Vec<_> = concerned.difference(&known).collect();
    assert!(missing.is_empty(), "docs/preload.md does not say what becomes of {missing:?}");
}
