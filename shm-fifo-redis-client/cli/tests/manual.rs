//! What `redis-shm` says of itself: help, man pages and completions.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");
/// A screen, with a line for the prompt and the command.
const MOST_LINES: usize = 40;
const SCREEN_COLUMNS: &str = "100";

fn output(command: &mut Command) -> String {
    let Output { status, stdout, stderr } = command.output().unwrap();
    assert!(status.success(), "{}", String::from_utf8_lossy(&stderr));
    String::from_utf8(stdout).unwrap()
}

fn help(arguments: &[&str]) -> String {
    output(Command::new(PROGRAM).args(arguments).arg("--help").env("COLUMNS", SCREEN_COLUMNS))
}

/// As the help itself names them.
fn subcommands() -> Vec<String> {
    let help = help(&[]);
    let lines = help.lines().skip_while(|line| *line != "Commands:").skip(1);
    let lines = lines.take_while(|line| !line.is_empty());
    let names = lines.filter_map(|line| line.split_whitespace().next());
    let names: Vec<String> = names.filter(|name| *name != "help").map(str::to_owned).collect();
    assert!(names.len() >= 6, "{help}");
    names
}

fn generated() -> TempDir {
    let directory = TempDir::new().unwrap();
    output(Command::new(PROGRAM).arg("generate").arg(directory.path()));
    directory
}

fn read(directory: &TempDir, name: &str) -> String {
    fs::read_to_string(directory.path().join(name)).unwrap()
}

#[test]
fn the_help_of_each_subcommand_fits_a_screen_and_names_the_exit_codes() {
    let names = subcommands();
    for arguments in names.iter().map(|name| vec![name.as_str()]).chain([vec![]]) {
        let help = help(&arguments);
        assert!(help.lines().count() <= MOST_LINES, "{arguments:?} has too many lines:\n{help}");
        let widest = help.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(100), "{arguments:?} is too wide:\n{help}");
        assert!(help.contains("Exit codes: "), "{arguments:?}:\n{help}");
    }
}

#[test]
fn each_subcommand_has_a_man_page_with_its_sections() {
    let directory = generated();
    let pages: Vec<String> =
        subcommands().iter().map(|name| format!("redis-shm-{name}.1")).collect();
    for page in pages.iter().map(String::as_str).chain(["redis-shm.1"]) {
        let text = read(&directory, page);
        assert!(text.contains(&format!(".TH {} 1", page.trim_end_matches(".1"))), "{text}");
        let sections = [
            "NAME",
            "SYNOPSIS",
            "DESCRIPTION",
            "OPTIONS",
            "\"EXIT STATUS\"",
            "ENVIRONMENT",
            "EXAMPLES",
            "\"SEE ALSO\"",
        ];
        for section in sections {
            let heading = format!(".SH {section}\n");
            assert_eq!(text.matches(&heading).count(), 1, "{page}, {section}:\n{text}");
        }
        assert!(!text.contains("SH EXTRA"), "{text}");
    }
    assert!(!directory.path().join("redis-shm-generate.1").exists(), "it is for make install");
}

#[test]
fn completions_know_the_subcommands_and_bash_accepts_its_own() {
    let directory = generated();
    for name in ["redis-shm.bash", "_redis-shm", "redis-shm.fish"] {
        let text = read(&directory, name);
        assert!(subcommands().iter().all(|subcommand| text.contains(subcommand)), "{name}");
        for hidden in ["generate", "child", "talk"] {
            assert!(!text.contains(hidden), "{name} offers {hidden}");
        }
    }
    output(Command::new("bash").arg("-n").arg(directory.path().join("redis-shm.bash")));
    let offered = |words: &[&str]| {
        let [.., before, last] = words else { panic!("a command and a word") };
        let script = format!(
            "source {}; COMP_WORDS=({}); COMP_CWORD={}; _redis_shm redis-shm {last} {before}; \
             echo \"${{COMPREPLY[*]}}\"",
            directory.path().join("redis-shm.bash").display(),
            words.join(" "),
            words.len() - 1
        );
        output(Command::new("bash").args(["-c", &script]))
    };
    assert_eq!(offered(&["redis-shm", "do"]), "doctor\n");
    assert_eq!(offered(&["redis-shm", "latency", "--tr"]), "--transport\n");
    assert_eq!(offered(&["redis-shm", "latency", "--transport", "u"]), "unix\n");
    // Behind -- stands a program; once for each directory that has it.
    let programs = offered(&["redis-shm", "exec", "-s", "/x", "--", "mkfif"]);
    assert!(programs.split_whitespace().all(|program| program == "mkfifo"), "{programs}");
    assert!(programs.len() > 1, "no program is offered");
    assert_eq!(offered(&["redis-shm", "exec", "--str"]), "--strict\n");
    assert_eq!(offered(&["redis-shm", "exec", "--verb"]), "--verbose\n");
}

#[test]
fn completions_offer_programs_behind_exec_in_zsh_and_fish() {
    // By functions of the shells themselves, which need not be here.
    let directory = generated();
    assert!(
        read(&directory, "_redis-shm").contains("The program and its arguments:_cmdambivalent")
    );
    let fish = read(&directory, "redis-shm.fish");
    assert!(fish.contains("-a \"(__fish_redis_shm_complete_behind_dashes)\""), "{fish}");
}

#[test]
fn a_directory_that_cannot_be_written_is_named() {
    let directory = TempDir::new().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    let result = Command::new(PROGRAM).arg("generate").arg(&file).output().unwrap();
    assert_eq!(result.status.code(), Some(2));
    let path: &Path = &file;
    let stderr = String::from_utf8(result.stderr).unwrap();
    assert!(stderr.contains(&path.display().to_string()), "{stderr}");
}
