//! The checks for people and for programs.

use super::check::{Check, Status};
use crate::text::fold;
use anstyle::{AnsiColor, Style};
use anyhow::Context;

const DIM: Style = Style::new().dimmed();
const BOLD: Style = Style::new().bold();

/// An array of objects, pretty enough to be read.
pub(super) fn json(checks: &[Check]) -> anyhow::Result<String> {
    let text = serde_json::to_string_pretty(checks).context("cannot write the checks as JSON")?;
    Ok(text + "\n")
}

/// Aligned lines of `width` columns. Where nothing moved, the reason goes to stderr instead of
/// the last line.
pub(super) fn text(checks: &[Check], moved: bool, width: usize) -> String {
    let names = checks.iter().map(|check| check.name.len()).max().unwrap_or(0);
    let mut text: String = checks.iter().map(|check| lines(check, names, width)).collect();
    if moved {
        text += &format!("\n{BOLD}Shared memory will be used.{BOLD:#}\n");
    }
    text
}

/// Where the details begin, behind names that are so long.
fn indent(names: usize) -> usize {
    "problem".len() + 2 + names + 2
}

fn lines(check: &Check, names: usize, width: usize) -> String {
    let (word, style) = match check.status {
        Status::Ok => ("ok", AnsiColor::Green.on_default()),
        Status::Note => ("note", AnsiColor::Yellow.on_default()),
        Status::Problem => ("problem", AnsiColor::Red.on_default().bold()),
    };
    let indent = indent(names);
    let line = format!("{style}{word:<7}{style:#}  {:<names$}  {}", check.name, check.detail);
    let mut lines = fold(&line, width, indent) + "\n";
    if let Some(fix) = &check.fix {
        let line = format!("{:indent$}{DIM}→{DIM:#} {fix}", "");
        lines += &(fold(&line, width, indent + "→ ".chars().count()) + "\n");
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checks() -> [Check; 2] {
        [
            Check::ok("server", "Redis 7.0.15"),
            Check::problem("module", "it is not there", "load it"),
        ]
    }

    #[test]
    fn details_stand_below_each_other_and_fixes_below_them() {
        let text = anstream::adapter::strip_str(&text(&checks(), false, 80)).to_string();
        let expected = "ok       server  Redis 7.0.15\n\
                        problem  module  it is not there\n                 → load it\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn what_is_too_long_goes_on_below_itself() {
        let text = anstream::adapter::strip_str(&text(&checks(), false, 25)).to_string();
        let expected = "ok       server  Redis\n                 7.0.15\n\
                        problem  module  it is\n                 not\n                 there\n\
                        \x20                → load\n                   it\n";
        assert_eq!(text, expected);
    }

    #[test]
    fn programs_get_every_member_of_every_check() {
        let json: serde_json::Value =
            serde_json::from_str(&json(&checks()).expect("serialisable")).expect("JSON");
        let expected = serde_json::json!([
            { "name": "server", "status": "ok", "detail": "Redis 7.0.15", "fix": null },
            { "name": "module", "status": "problem", "detail": "it is not there", "fix": "load it" },
        ]);
        assert_eq!(json, expected);
    }
}
