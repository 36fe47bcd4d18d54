//! The requests of the drivers, and of the preloaded library: arrays of words.

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
    let mut at = 0;
    let Some(count) = number(bytes, &mut at, b'*')? else { return Ok(None) };
    if !(1..=8).contains(&count) {
        return Err(format!("a request of {count} words"));
    }
    let mut words = Vec::new();
    for _ in 0..count {
        let Some(length) = number(bytes, &mut at, b'$')? else { return Ok(None) };
        let Some(word) = bytes.get(at..at + length) else { return Ok(None) };
        let Some(end) = bytes.get(at + length..at + length + 2) else { return Ok(None) };
        if end != b"\r\n" {
            return Err(format!("{} behind a word", end.escape_ascii()));
        }
        words.push(word.to_vec());
        at += length + 2;
    }
    Ok(Some(Request { words, bytes: at }))
}

fn number(bytes: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, String> {
    let rest = &bytes[*at..];
    let shown = || rest[..rest.len().min(80)].escape_ascii();
    if rest.first().is_some_and(|&first| first != mark) {
        return Err(format!("{} instead of a {}", shown(), char::from(mark)));
    }
    let Some(end) = rest.iter().take(12).position(|&byte| byte == b'\n') else {
        return if rest.len() < 12 { Ok(None) } else { Err(format!("no line: {}", shown())) };
    };
    let digits = rest[1..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let number = digits.and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| format!("no number: {}", shown()))?;
    *at += end + 1;
    Ok(Some(number))
}
