//! Requests as they come in the stream: arrays of words, or words on a line.

/// The words of a request.
pub(crate) type Words = Vec<Vec<u8>>;

/// The first request of `bytes` and how many bytes it has; `None` if it has not come whole.
///
/// # Errors
/// What is there instead of a request.
pub(crate) fn parse(bytes: &[u8]) -> Result<Option<(Words, usize)>, String> {
    if bytes.first() == Some(&b'*') { array(bytes) } else { Ok(line(bytes)) }
}

fn array(bytes: &[u8]) -> Result<Option<(Words, usize)>, String> {
    let mut at = 0;
    let Some(count) = number(bytes, &mut at, b'*')? else { return Ok(None) };
    let mut words = Words::new();
    for _ in 0..count {
        let Some(length) = number(bytes, &mut at, b'$')? else { return Ok(None) };
        let Some(word) = bytes.get(at..at + length + 2) else { return Ok(None) };
        let (word, end) = word.split_at(length);
        if end != b"\r\n" {
            return Err(format!("{} behind a word", end.escape_ascii()));
        }
        words.push(word.to_vec());
        at += length + 2;
    }
    Ok(Some((words, at)))
}

fn line(bytes: &[u8]) -> Option<(Words, usize)> {
    let end = bytes.iter().position(|&byte| byte == b'\n')?;
    let words = bytes[..end].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty());
    Some((words.map(<[u8]>::to_vec).collect(), end + 1))
}

/// A line of a mark and a number, of which `at` is behind then.
fn number(bytes: &[u8], at: &mut usize, mark: u8) -> Result<Option<usize>, String> {
    const MOST_BYTES: usize = 12;
    let rest = &bytes[*at..];
    let shown = || rest[..rest.len().min(40)].escape_ascii();
    if rest.first().is_some_and(|&first| first != mark) {
        return Err(format!("{} instead of {}", shown(), char::from(mark)));
    }
    let Some(end) = rest.iter().take(MOST_BYTES).position(|&byte| byte == b'\n') else {
        return if rest.len() < MOST_BYTES { Ok(None) } else { Err(format!("{}", shown())) };
    };
    let digits = rest[1..end].strip_suffix(b"\r").and_then(|line| std::str::from_utf8(line).ok());
    let number = digits.and_then(|digits| digits.parse().ok());
    let number = number.ok_or_else(|| format!("{} instead of a number", shown()))?;
    *at += end + 1;
    Ok(Some(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(of: &[&str]) -> Words {
        of.iter().map(|word| word.as_bytes().to_vec()).collect()
    }

    #[test]
    fn a_request_is_known_once_it_is_there_whole() {
        let request = b"*2\r\n$4\r\nECHO\r\n$3\r\n\r\n\0\r\n";
        for cut in 0..request.len() {
            assert_eq!(parse(&request[..cut]), Ok(None), "{cut}");
        }
        let behind = [&request[..], b"*1"].concat();
        assert_eq!(parse(&behind), Ok(Some((words(&["ECHO", "\r\n\0"]), request.len()))));
        assert_eq!(parse(b"SHM.OPEN 2\r\nmore"), Ok(Some((words(&["SHM.OPEN", "2"]), 12))));
    }

    #[test]
    fn what_is_no_request_is_said() {
        for bytes in
            [&b"*x\r\n"[..], b"*1\r\n+OK\r\n", b"*1\r\n$1\r\nxyz\r\n", b"*0000000000001\r\n"]
        {
            assert!(parse(bytes).is_err(), "{}", bytes.escape_ascii());
        }
    }
}
