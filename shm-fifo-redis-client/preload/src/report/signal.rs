//! A signal that asks for the report.

use crate::errno;
use libc::c_int;
use std::ffi::OsStr;
use std::ptr::null_mut;
use std::sync::OnceLock;

static ANSWER: OnceLock<fn()> = OnceLock::new();

/// The number of a signal that by itself means nothing to a program: `USR2`, `SIGUSR2`,
/// or a real-time signal's number.
pub(super) fn parse(text: &OsStr) -> Option<c_int> {
    let text = text.to_str()?;
    match text.strip_prefix("SIG").unwrap_or(text) {
        "HUP" => Some(libc::SIGHUP),
        "USR1" => Some(libc::SIGUSR1),
        "USR2" => Some(libc::SIGUSR2),
        number => {
            let number = number.parse().ok()?;
            (libc::SIGRTMIN()..=libc::SIGRTMAX()).contains(&number).then_some(number)
        }
    }
}

/// Calls `answer`, which must be safe in a signal handler, at each of these signals. A
/// program that has a handler of its own for it replaces this one.
pub(super) fn listen(signal: c_int, answer: fn()) {
    if ANSWER.set(answer).is_err() {
        return;
    }
    // SAFETY: a plain C struct, for which zeros are valid: no other signal is blocked.
    let mut action: libc::sigaction = unsafe { std::mem::zeroed() };
    let handler: extern "C" fn(c_int) = answer_signal;
    action.sa_sigaction = handler as libc::sighandler_t;
    action.sa_flags = libc::SA_RESTART | libc::SA_ONSTACK;
    // SAFETY: a live struct with a handler of this library, which is never unloaded.
    unsafe { libc::sigaction(signal, &raw const action, null_mut()) };
}

extern "C" fn answer_signal(_: c_int) {
    let before = errno::get();
    if let Some(answer) = ANSWER.get() {
        answer();
    }
    errno::set(before);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_signal_has_a_name_or_a_real_time_number() {
        let parse = |text: &str| parse(OsStr::new(text));
        assert_eq!(parse("USR1"), Some(libc::SIGUSR1));
        assert_eq!(parse("SIGUSR2"), Some(libc::SIGUSR2));
        assert_eq!(parse("HUP"), Some(libc::SIGHUP));
        assert_eq!(parse(&libc::SIGRTMIN().to_string()), Some(libc::SIGRTMIN()));
        assert_eq!(parse(&libc::SIGRTMAX().to_string()), Some(libc::SIGRTMAX()));
        for text in ["", "usr1", "KILL", "SEGV", "9", "11", "65", "-1", "RTMIN+1"] {
            assert_eq!(parse(text), None, "{text}");
        }
    }
}
