//! Commands with holes: `ZADD <key> [NX|XX|] (<score> <member>)+`.
//!
//! `<name>` is a hole that [`holes`](crate::holes) fills, `[a|b c|]` one of the
//! alternatives, one of which may be empty, `(…)+` one to four times what is within.

use crate::holes::fill;
use crate::support::Random;

/// How often `(…)+` repeats at most.
const MOST_REPETITIONS: usize = 4;

#[derive(Debug)]
enum Part {
    Word(&'static str),
    Hole(&'static str),
    OneOf(Vec<Vec<Part>>),
    Repeated(Vec<Part>),
}

/// A command whose holes are not filled yet.
#[derive(Debug)]
pub(crate) struct Template(Vec<Part>);

impl Template {
    /// # Panics
    /// If a bracket is missing.
    pub(crate) fn parse(text: &'static str) -> Self {
        let mut tokens = tokens(text);
        let parts = sequence(&mut tokens, text);
        assert_eq!(tokens.next(), None, "one bracket too many in {text:?}");
        Self(parts)
    }

    /// A command made of it, its keys mostly of the type `home`.
    pub(crate) fn expand(&self, home: &str, random: &mut Random) -> Vec<Vec<u8>> {
        let mut words = Vec::new();
        expand(&self.0, home, random, &mut words);
        words
    }
}

/// Words and brackets.
fn tokens(text: &'static str) -> impl Iterator<Item = &'static str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        rest = rest.trim_start();
        let end = match rest.find([' ', '[', '|', ']', '(', ')']) {
            // A bracket.
            Some(0) => 1,
            Some(end) => end,
            None => rest.len(),
        };
        let token;
        (token, rest) = rest.split_at(end);
        (!token.is_empty()).then_some(token)
    })
}

/// What stands before the end, or before the `|`, `]` or `)` that belongs to a caller.
fn sequence(tokens: &mut impl Iterator<Item = &'static str>, text: &str) -> Vec<Part> {
    alternatives(tokens, "", text).pop().unwrap_or_default()
}

/// The alternatives before `closing`; one, where there is no `|`.
fn alternatives(
    tokens: &mut impl Iterator<Item = &'static str>,
    closing: &str,
    text: &str,
) -> Vec<Vec<Part>> {
    let mut all = vec![Vec::new()];
    loop {
        let part = match tokens.next().unwrap_or_default() {
            token if token == closing => return all,
            "" => panic!("{closing} is missing in {text:?}"),
            "|" => {
                all.push(Vec::new());
                continue;
            }
            "[" => Part::OneOf(alternatives(tokens, "]", text)),
            "(" => {
                let mut inner = alternatives(tokens, ")", text);
                assert_eq!(tokens.next(), Some("+"), "only (…)+ is known, in {text:?}");
                Part::Repeated(inner.pop().unwrap_or_default())
            }
            hole if hole.starts_with('<') && hole.ends_with('>') => {
                Part::Hole(&hole[1..hole.len() - 1])
            }
            word => Part::Word(word),
        };
        all.last_mut().expect("there is always one").push(part);
    }
}

fn expand(parts: &[Part], home: &str, random: &mut Random, words: &mut Vec<Vec<u8>>) {
    for part in parts {
        match part {
            Part::Word(word) => words.push(word.as_bytes().to_vec()),
            Part::Hole(name) => words.push(fill(name, home, random)),
            Part::OneOf(all) => expand(&all[random.below(all.len())], home, random, words),
            Part::Repeated(inner) => {
                for _ in 0..=random.below(MOST_REPETITIONS) {
                    expand(inner, home, random, words);
                }
            }
        }
    }
}
