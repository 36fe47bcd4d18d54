//! Where one request ends and the next begins in what a program sends.

use super::GivenUp;

/// How much of a word is kept: no command's name is longer, and few users'.
const WORD_BYTES: usize = 32;
/// How many words are: of a login, those that say who it is.
const WORDS: usize = 7;
/// The longest line of lengths.
const MAX_NUMBER_BYTES: usize = 20;
/// The longest inline request that is followed; Redis' own limit is 64 KiB.
const MAX_INLINE_BYTES: usize = 4096;

/// The first words of a request, cut at their maximum; the very first in capital letters.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct Request {
    words: [Word; WORDS],
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct Word {
    bytes: [u8; WORD_BYTES],
    length: usize,
}

impl Word {
    fn get(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl Request {
    pub(super) fn name(&self) -> &[u8] {
        self.words[0].get()
    }

    pub(super) fn argument_is(&self, word: &[u8]) -> bool {
        self.words[1].get().eq_ignore_ascii_case(word)
    }

    pub(super) fn words(&self) -> impl Iterator<Item = &[u8]> {
        self.words.iter().map(Word::get)
    }

    fn append(&mut self, word: u64, bytes: &[u8]) {
        let index = usize::try_from(word).unwrap_or(usize::MAX);
        let Some(word) = self.words.get_mut(index) else { return };
        for (place, byte) in word.bytes[word.length..].iter_mut().zip(bytes) {
            *place = if index == 0 { byte.to_ascii_uppercase() } else { *byte };
            word.length += 1;
        }
    }
}

/// Follows requests through bytes that are sent in any portions.
#[derive(Debug, Default)]
pub(super) struct RequestScanner {
    at: Place,
    request: Request,
    /// The line that is being read: a number, or an inline request.
    line: Vec<u8>,
    /// Which word of the request comes, and how many it has.
    word: u64,
    words: u64,
}

#[derive(Debug, Default)]
enum Place {
    #[default]
    Start,
    /// In the line with the number of words.
    Words,
    /// In the line with a word's length, its `$` included.
    Length,
    /// In a word; so many bytes of it and its line end are missing.
    Word {
        missing: u64,
    },
    Inline,
}

impl RequestScanner {
    /// Looks at `bytes`, which follow those of the last call, up to the end of the
    /// next request. Returns how many that were, and the request.
    pub(super) fn next(&mut self, bytes: &[u8]) -> Result<(usize, Option<Request>), GivenUp> {
        let mut taken = 0;
        while taken < bytes.len() {
            if self.step(&bytes[taken..], &mut taken)? {
                let request = std::mem::take(self).request;
                // An empty line, or an array of nothing, is no request.
                if !request.name().is_empty() {
                    return Ok((taken, Some(request)));
                }
            }
        }
        Ok((taken, None))
    }

    pub(super) fn is_between(&self) -> bool {
        matches!(self.at, Place::Start)
    }

    /// Takes some of `bytes`, which are not empty. Returns whether a request ended.
    fn step(&mut self, bytes: &[u8], taken: &mut usize) -> Result<bool, GivenUp> {
        match &mut self.at {
            Place::Start if bytes[0] == b'*' => {
                *taken += 1;
                self.at = Place::Words;
                Ok(false)
            }
            // Inline, if it is text at all: TLS is not.
            Place::Start if matches!(bytes[0], b' '..=b'~' | b'\r' | b'\n') => {
                self.at = Place::Inline;
                Ok(false)
            }
            Place::Start => Err(GivenUp),
            Place::Words => {
                let Some(words) = self.number(bytes, taken, b"")? else { return Ok(false) };
                self.words = words;
                self.at = Place::Length;
                Ok(words == 0)
            }
            Place::Length => {
                let Some(length) = self.number(bytes, taken, b"$")? else { return Ok(false) };
                self.at = Place::Word { missing: length.checked_add(2).ok_or(GivenUp)? };
                Ok(false)
            }
            Place::Word { missing } => {
                let here = usize::try_from(*missing).unwrap_or(usize::MAX).min(bytes.len());
                let of_word = usize::try_from(missing.saturating_sub(2)).unwrap_or(usize::MAX);
                self.request.append(self.word, &bytes[..here.min(of_word)]);
                *taken += here;
                *missing -= here as u64;
                if *missing > 0 {
                    return Ok(false);
                }
                self.word += 1;
                self.at = Place::Length;
                Ok(self.word == self.words)
            }
            Place::Inline => {
                let ended = self.take_line(bytes, taken, MAX_INLINE_BYTES)?;
                if ended {
                    self.request = inline_request(&self.line)?;
                }
                Ok(ended)
            }
        }
    }

    /// The number in the line that begins with `prefix`, once it has ended.
    fn number(
        &mut self,
        bytes: &[u8],
        taken: &mut usize,
        prefix: &[u8],
    ) -> Result<Option<u64>, GivenUp> {
        if !self.take_line(bytes, taken, MAX_NUMBER_BYTES)? {
            return Ok(None);
        }
        let digits = self.line.strip_prefix(prefix).ok_or(GivenUp)?;
        let digits = digits.strip_suffix(b"\r").ok_or(GivenUp)?;
        let text = std::str::from_utf8(digits).map_err(|_| GivenUp)?;
        let number = text.parse().map_err(|_| GivenUp)?;
        self.line.clear();
        Ok(Some(number))
    }

    /// Takes bytes up to the next newline. Returns whether that came.
    fn take_line(&mut self, bytes: &[u8], taken: &mut usize, max: usize) -> Result<bool, GivenUp> {
        let end = bytes.iter().position(|&byte| byte == b'\n');
        let here = &bytes[..end.unwrap_or(bytes.len())];
        if self.line.len() + here.len() > max {
            return Err(GivenUp);
        }
        self.line.extend(here);
        *taken += here.len() + usize::from(end.is_some());
        Ok(end.is_some())
    }
}

/// The request that an inline line makes, if that is certain.
fn inline_request(line: &[u8]) -> Result<Request, GivenUp> {
    let line = line.strip_suffix(b"\r").unwrap_or(line);
    let is_plain = |&byte: &u8| matches!(byte, b' '..=b'~') && !matches!(byte, b'"' | b'\'');
    if !line.iter().all(is_plain) {
        return Err(GivenUp);
    }
    let mut request = Request::default();
    let words = line.split(|&byte| byte == b' ').filter(|word| !word.is_empty());
    for (index, word) in (0..).zip(words.take(WORDS)) {
        request.append(index, word);
    }
    Ok(request)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test that panics has failed")]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn names(chunks: &[&[u8]]) -> Result<Vec<String>, GivenUp> {
        let mut scanner = RequestScanner::default();
        let mut found = Vec::new();
        for chunk in chunks {
            let mut rest = *chunk;
            while !rest.is_empty() {
                let (taken, request) = scanner.next(rest)?;
                rest = &rest[taken..];
                let name = |request: Request| {
                    let words = request.words().take(2);
                    let words = words.map(|word| String::from_utf8(word.to_vec()).unwrap());
                    words.collect::<Vec<_>>().join(" ").trim().to_owned()
                };
                found.extend(request.map(name));
            }
        }
        Ok(found)
    }

    #[test]
    fn requests_in_both_forms_are_found_however_they_are_cut() {
        let bytes = b"*2\r\n$3\r\nget\r\n$3\r\na\r\n\r\nping\r\n\r\n  Echo  x y\n*0\r\n*1\r\n$4\r\nPING\r\n";
        let expected = Ok(["GET a", "PING", "ECHO x", "PING"].map(str::to_owned).to_vec());
        assert_eq!(names(&[bytes]), expected);
        let single: Vec<&[u8]> = bytes.chunks(1).collect();
        assert_eq!(names(&single), expected);
    }

    #[test]
    fn what_is_uncertain_is_given_up() {
        for bytes in
            [&b"SET a 'b'\r\n"[..], b"*x\r\n", b"*1\r\n:1\r\n", b"*-1\r\n", b"\x16\x03\n", b"*1\n"]
        {
            assert_eq!(names(&[bytes]), Err(GivenUp), "{bytes:?}");
        }
    }

    proptest! {
        #[test]
        fn any_bytes_are_answered(bytes: Vec<u8>) {
            let mut scanner = RequestScanner::default();
            let mut rest = &bytes[..];
            while !rest.is_empty() {
                let Ok((taken, _)) = scanner.next(rest) else { break };
                rest = &rest[taken..];
            }
        }
    }
}
