//! The whole benchmark, as short as it can be.

use serde_json::Value;
use std::collections::BTreeSet;
use std::process::{Command, Output};
use std::{env, fs};

fn bench(arguments: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shm-fifo-bench"));
    command.args(arguments).output().expect("the benchmark starts")
}

#[test]
fn a_quick_run_writes_a_row_for_everybody_and_a_plot() {
    let directory = env::temp_dir().join(format!("shm-fifo-bench-{}", std::process::id()));
    let output = directory.to_str().expect("a temporary directory has a name in UTF-8");
    let result = bench(&["--quick", "--output", output]);
    let json = fs::read_to_string(directory.join("fifo.json"));
    let svg = fs::read_to_string(directory.join("fifo.svg"));
    let _ = fs::remove_dir_all(&directory);
    assert!(result.status.success(), "{}", String::from_utf8_lossy(&result.stderr));

    let rows: Vec<Value> = serde_json::from_str(&json.expect("fifo.json")).expect("an array");
    let mut measured = BTreeSet::new();
    for row in &rows {
        let keys: Vec<&str> = row.as_object().expect("a row").keys().map(String::as_str).collect();
        let figures = match row["bench"].as_str() {
            Some("rtt") => &["p50_ns", "p99_ns", "by_line", "line_ns"][..],
            Some("stream") => &["messages_per_s", "gb_per_s", "line_ns"],
            other => panic!("no measurement: {other:?}"),
        };
        assert_eq!(keys.len(), figures.len() + 3, "{row}");
        for figure in figures {
            assert!(row[figure].as_f64().expect("a number") > 0.0, "{row}");
        }
        let bytes = row["message_bytes"].as_u64().expect("a length");
        let name = row["impl"].as_str().expect("a name");
        assert!(measured.insert((row["bench"].to_string(), name, bytes)), "twice: {row}");
    }
    let svg = svg.expect("fifo.svg");
    assert!(svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"));
    for name in ["limit-line", "limit-two-core-copy", "shm-fifo", "rtrb", "photon-ring", "pipe"] {
        assert!(measured.iter().any(|(_, measured, _)| *measured == name), "no {name}");
        assert!(svg.contains(name), "{name} is not drawn");
    }
}

#[test]
fn an_unknown_name_is_refused() {
    let result = bench(&["--quick", "--only", "rtrp"]);
    assert!(!result.status.success());
    assert!(String::from_utf8_lossy(&result.stderr).contains("nobody's name begins with rtrp"));
}
