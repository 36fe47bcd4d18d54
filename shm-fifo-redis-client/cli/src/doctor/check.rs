//! One thing that was looked at.

use serde::Serialize;

/// How it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Status {
    Ok,
    /// Shared memory works; this makes it slower, or could not be looked at.
    Note,
    /// Because of this, shared memory is not used.
    Problem,
}

/// What was found and, where it is not as it should be, what to do.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(super) struct Check {
    pub(super) name: &'static str,
    pub(super) status: Status,
    pub(super) detail: String,
    pub(super) fix: Option<String>,
}

impl Check {
    pub(super) fn ok(name: &'static str, detail: impl Into<String>) -> Self {
        Self { name, status: Status::Ok, detail: detail.into(), fix: None }
    }

    pub(super) fn note(
        name: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status: Status::Note, fix: Some(fix.into()), ..Self::ok(name, detail) }
    }

    pub(super) fn problem(
        name: &'static str,
        detail: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self { status: Status::Problem, ..Self::note(name, detail, fix) }
    }

    /// A problem from a text of this project: what is wrong; what to do.
    pub(super) fn problem_of(name: &'static str, text: &str) -> Self {
        let (detail, fix) = text.split_once("; ").unwrap_or((text, "see the server's log"));
        Self::problem(name, detail, fix)
    }
}
