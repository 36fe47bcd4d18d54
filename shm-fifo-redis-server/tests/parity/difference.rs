//! What a failure shows.

use crate::generator::{CommandStream, Step};
use std::fmt::Write as _;

/// Bytes around the first difference, and bytes of a request.
const SHOWN_BYTES: usize = 300;

/// Where the transcripts of a stream begin to differ, and how.
pub(crate) fn first_difference(socket: &[Vec<u8>], shared: &[Vec<u8>]) -> String {
    let pairs = socket.iter().zip(shared);
    let Some(step) = pairs.clone().position(|(socket, shared)| socket != shared) else {
        return format!("{} steps on a socket, {} in shared memory", socket.len(), shared.len());
    };
    let (socket, shared) = (&socket[step], &shared[step]);
    let same = socket.iter().zip(shared).take_while(|(one, other)| one == other).count();
    let mut text = format!("step {step} differs behind {same} bytes of its replies");
    for (name, bytes) in [("socket", socket), ("shared memory", shared)] {
        let first = same.saturating_sub(SHOWN_BYTES);
        let last = bytes.len().min(same + SHOWN_BYTES);
        let shown = bytes[first..last].escape_ascii();
        write!(text, "\n  {name}, {} bytes: …{shown}…", bytes.len()).unwrap();
    }
    text
}

/// What a stream does, one request a line, each with the number of its step.
pub(crate) fn described(stream: &CommandStream) -> String {
    let text = |bytes: &[u8]| bytes[..bytes.len().min(SHOWN_BYTES)].escape_ascii().to_string();
    let words = |words: &[Vec<u8>]| text(&words.join(&b' '));
    let of_step = |(number, step): (usize, &Step)| match step {
        Step::Burst(requests) => {
            requests.iter().map(|request| format!("{number}: {}", text(request))).collect()
        }
        Step::Beside(command) => vec![format!("{number}, beside: {}", words(command))],
        Step::Blocked { request, then, with_error } => {
            let (request, then) = (text(request), words(then));
            vec![format!("{number}, blocked: {request}; beside: {then}; error: {with_error}")]
        }
    };
    stream.steps.iter().enumerate().flat_map(of_step).collect::<Vec<_>>().join("\n  ")
}
