//! A stream that fails, made as short as is easy.

use crate::generator::{CommandStream, Step};

/// Leaves out steps, and then requests of bursts, in ever smaller pieces, as long as the
/// rest `fails`.
pub(crate) fn shrunk(
    stream: &CommandStream,
    mut fails: impl FnMut(&CommandStream) -> bool,
) -> CommandStream {
    let steps = stream.steps.clone();
    let steps = without_needless(steps, |steps| fails(&CommandStream { steps: steps.to_vec() }));
    let mut stream = CommandStream { steps };
    for step in 0..stream.steps.len() {
        if let Step::Burst(requests) = stream.steps[step].clone() {
            let requests = without_needless(requests, |requests| {
                let mut stream = stream.clone();
                stream.steps[step] = Step::Burst(requests.to_vec());
                fails(&stream)
            });
            stream.steps[step] = Step::Burst(requests);
        }
    }
    stream
}

fn without_needless<T: Clone>(mut items: Vec<T>, mut fails: impl FnMut(&[T]) -> bool) -> Vec<T> {
    let mut piece = items.len() / 2;
    while piece > 0 {
        let mut first = 0;
        while first < items.len() {
            let end = items.len().min(first + piece);
            let without = [&items[..first], &items[end..]].concat();
            if fails(&without) {
                items = without;
            } else {
                first = end;
            }
        }
        piece /= 2;
    }
    items
}
