//! The module's man page and docs/deployment.md name all that a server has of the module.
#![allow(clippy::unwrap_used, reason = "it is how a test fails")]

mod support;

use support::{TestServer, needs};

const PAGE: &str = include_str!("../redis-shm-module.7");
const DEPLOYMENT: &str = include_str!("../../docs/deployment.md");

/// As `roff(7)` writes it.
fn in_roff(name: &str) -> String {
    name.replace('-', r"\-")
}

/// The lines of a reply, without those that say how long it is.
fn words(reply: &str) -> Vec<String> {
    reply.lines().filter(|line| !line.starts_with(['*', '$'])).map(str::to_owned).collect()
}

#[test]
fn every_setting_is_explained_with_its_default() {
    needs!(ModuleSettings);
    let server = TestServer::start();
    let settings = words(&server.ask("CONFIG GET shm.*"));
    assert!(settings.len() >= 10, "{settings:?}");
    for pair in settings.chunks_exact(2) {
        let [name, value] = pair else { unreachable!() };
        let entry = format!("\\fB{}\\fR (", in_roff(name));
        assert!(PAGE.contains(&entry), "the page has no {name}");
        assert!(DEPLOYMENT.contains(&format!("| `{name}` | ")), "deployment.md has no {name}");
        // Bytes are shown in larger units.
        if !name.ends_with("bytes") && !name.ends_with("memory") {
            assert!(PAGE.contains(&format!("{entry}{value})")), "{name} is {value}");
            assert!(DEPLOYMENT.contains(&format!("| `{name}` | {value} |")), "{name} is {value}");
        }
    }
}

#[test]
fn every_field_of_info_is_explained() {
    let server = TestServer::start();
    let info = server.ask("INFO shm");
    let fields = info.lines().filter_map(|line| Some(line.split_once(':')?.0));
    let mut count = 0;
    for field in fields.filter(|field| field.starts_with("shm_")) {
        count += 1;
        assert!(PAGE.contains(&format!("\\fB{}\\fR", in_roff(field))), "the page has no {field}");
        assert!(DEPLOYMENT.contains(&format!("`{field}`")), "deployment.md has no {field}");
    }
    assert!(count > 10, "{info}");
}

#[test]
fn every_command_is_explained() {
    let server = TestServer::start();
    for name in ["SHM.OPEN", "SHM.START", "SHM.LIST"] {
        let info = server.ask(&format!("COMMAND INFO {name}"));
        assert!(info.to_uppercase().contains(name), "{info}");
        assert!(PAGE.contains(&format!("\\fB{name}\\fR")), "the page has no {name}");
    }
}
