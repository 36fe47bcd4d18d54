//! The requests of the drivers, and of the preloaded library: arrays of words.

#[path = "../../../../cli/src/conformance/request.rs"]
mod any;

/// One request: its words, and how many bytes it had.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Request {
    pub(super) words: Vec<Vec<u8>>,
    pub(super) bytes: usize,
}

impl Request {
    pub(super) fn name(&self) -> &[u8] {
        &self.words[0]
    }

    /// A word that is a number.
    pub(super) fn number(&self, word: usize) -> Result<u64, String> {
        let number =
            self.words.get(word).and_then(|word| std::str::from_utf8(word).ok()?.parse().ok());
        number.ok_or_else(|| format!("no number in word {word} of {self}"))
    }
}

impl std::fmt::Display for Request {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        for word in &self.words {
            write!(f, "{} ", word[..word.len().min(60)].escape_ascii())?;
        }
        Ok(())
    }
}

/// The first request in `bytes`, if it is there whole. Anything that no driver sends is an
/// error: bytes that were lost, doubled or mixed up.
pub(super) fn parse(bytes: &[u8]) -> Result<Option<Request>, String> {
    if bytes.first().is_some_and(|&first| first != b'*') {
        return Err(format!("{} instead of a *", bytes[..bytes.len().min(80)].escape_ascii()));
    }
    let Some((words, bytes)) = any::parse(bytes)? else { return Ok(None) };
    if !(1..=8).contains(&words.len()) {
        return Err(format!("a request of {} words", words.len()));
    }
    Ok(Some(Request { words, bytes }))
}
