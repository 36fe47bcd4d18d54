//! The Python of this machine, as a reader of our files that we did not write.

use std::path::Path;
use std::process::Command;

/// What `script` prints, given `arguments`. A script that fails fails the test.
pub(crate) fn python(script: &str, arguments: &[&Path]) -> String {
    let output = Command::new("python3").args(["-c", script]).args(arguments).output();
    let output = output.expect("python3 is installed: its parsers are the judges here");
    let [stdout, stderr] =
        [output.stdout, output.stderr].map(|text| String::from_utf8(text).expect("text"));
    assert!(output.status.success() && stderr.is_empty(), "{stdout}{stderr}");
    stdout
}
