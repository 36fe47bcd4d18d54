//! `redis-shm report` as its users meet it. Needs redis-server, the module and python3.
#![cfg(feature = "measure")]
#![allow(clippy::unwrap_used, reason = "a test that panics has failed")]

mod support;

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};
use support::pictures::assert_pictures;
use support::python::python;
use support::watchdog::watched;
use tempfile::TempDir;

const PROGRAM: &str = env!("CARGO_BIN_EXE_redis-shm");

/// Well formed but for what HTML leaves out; prints the tags that count.
const READ_PAGE: &str = r##"
import collections, html.parser, sys
tags = collections.Counter()
class Reader(html.parser.HTMLParser):
    def handle_starttag(self, tag, attributes):
        tags[tag] += 1
        for name, value in attributes:
            assert name not in ("src", "href") or value.startswith(("#", "data:", "https://")), value
Reader().feed(open(sys.argv[1]).read())
print(tags["table"] >= 3, tags["svg"], tags["script"], tags["link"])
"##;

fn report(arguments: &[&str]) -> Command {
    let mut command = Command::new(PROGRAM);
    command.arg("report").args(arguments).stdin(Stdio::null()).env_remove("REDISCLI_AUTH");
    command
}

fn run_well(command: &mut Command) -> String {
    let output = command.output().unwrap();
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).unwrap());
    assert_eq!((output.status.code(), stderr.as_str()), (Some(0), ""), "{stdout}");
    stdout
}

fn document(directory: &Path, text: &str) -> std::path::PathBuf {
    let path = directory.join("document.md");
    fs::write(&path, text).unwrap();
    path
}

#[test]
fn redis_report_is_one_page_that_names_neither_host_nor_user_nor_path() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let page = directory.path().join("page.html");
        let mut command = report(&["-n", "200", "--rounds", "1", "-o"]);
        run_well(
            command.arg(&page).env("USER", "somebody-here").env("HOME", "/home/somebody-here"),
        );

        // All it needs is within it.
        assert_eq!(python(READ_PAGE, &[&page]), "True 3 0 0\n");
        let text = fs::read_to_string(&page).unwrap();
        for word in ["PING", "shared memory", "unix socket", "TCP", "shm.ring-bytes", "CPU"] {
            assert!(text.contains(word), "{word} is not in {text}");
        }
        let host = fs::read_to_string("/proc/sys/kernel/hostname").unwrap();
        let directory = directory.path().to_str().unwrap();
        for secret in ["somebody-here", directory, "redis.sock", ".so"] {
            assert!(!text.contains(secret), "{secret} is in {text}");
        }
        // Short names are parts of words.
        assert!(host.trim().len() < 5 || !text.contains(host.trim()), "{host} is in {text}");
    });
}

#[test]
fn redis_documents_get_what_they_have_marks_for_and_keep_the_rest() {
    watched(|| {
        let directory = TempDir::new().unwrap();
        let begin = "<!-- measured: begin round-trips -->";
        let end = "<!-- measured: end -->";
        let text = format!("# Title\n\n{begin}\nold\n{end}\n\nprose\n");
        let path = document(directory.path(), &text);
        let plots = directory.path().join("plots");

        let mut command = report(&["-n", "100", "--update"]);
        run_well(command.arg(&path).arg("--plots").arg(&plots));

        let now = fs::read_to_string(&path).unwrap();
        let (before, rest) = now.split_once(begin).unwrap();
        let (table, after) = rest.split_once(end).unwrap();
        assert_eq!((before, after), ("# Title\n\n", "\n\nprose\n"));
        for word in ["| PING | TCP |", "shared memory", "--requests 100", "Redis"] {
            assert!(table.contains(word), "{word} is not in {table}");
        }
        assert!(!table.contains("old"), "{table}");
        let picture = plots.join("latency.svg");
        assert_pictures(std::slice::from_ref(&picture), 0);

        // It can be drawn again, without a server.
        let drawn = fs::read(&picture).unwrap();
        fs::remove_file(&picture).unwrap();
        run_well(report(&["--draw"]).arg(plots.join("latency.json")));
        assert_eq!(fs::read(&picture).unwrap(), drawn);
    });
}

#[test]
fn the_documents_pictures_are_what_their_figures_draw() {
    let docs = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs");
    let directory = TempDir::new().unwrap();
    for name in ["latency", "percentiles", "throughput"] {
        let figures = directory.path().join(name).with_extension("json");
        fs::copy(docs.join(name).with_extension("json"), &figures).unwrap();
        run_well(report(&["--draw"]).arg(&figures));
        let drawn = fs::read(figures.with_extension("svg")).unwrap();
        let kept = fs::read(docs.join(name).with_extension("svg")).unwrap();
        assert!(drawn == kept, "docs/{name}.svg is another one: make pictures");
    }
}

#[test]
fn a_document_without_marks_is_an_error_and_stays() {
    let directory = TempDir::new().unwrap();
    let path = document(directory.path(), "# Title\n");

    let output = report(&["--update"]).arg(&path).output().unwrap();

    assert_eq!(output.status.code(), Some(2));
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("measured: begin"), "{stderr}");
    assert_eq!(fs::read_to_string(&path).unwrap(), "# Title\n");
}
