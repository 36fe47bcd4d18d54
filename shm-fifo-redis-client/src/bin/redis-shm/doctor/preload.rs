//! The library that `redis-shm exec` preloads into programs.

use super::check::Check;
use crate::exec;

const PRELOAD: &str = "preload library";

pub(super) fn check() -> Check {
    match exec::library() {
        Ok(path) => Check::ok(PRELOAD, path.display().to_string()),
        Err(error) => {
            let text = error.to_string();
            let (detail, fix) = text.split_once("; ").unwrap_or((&text, "install it again"));
            Check::note(PRELOAD, format!("{detail}; redis-shm exec needs it"), fix)
        }
    }
}
