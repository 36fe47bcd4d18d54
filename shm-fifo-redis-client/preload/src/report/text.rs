//! Text in a fixed space.

use std::fmt;

/// Lines that go to a pipe or a file in one piece: fewer bytes than a pipe takes whole,
/// and than the stack of a signal handler has.
#[derive(Debug)]
pub(super) struct Text {
    bytes: [u8; Self::ROOM],
    length: usize,
}

impl Text {
    pub(super) const ROOM: usize = 2048;

    pub(super) fn new() -> Self {
        Self { bytes: [0; Self::ROOM], length: 0 }
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes[..self.length]
    }
}

impl fmt::Write for Text {
    /// What there is room for; then it is an error, and the last line ends there.
    fn write_str(&mut self, text: &str) -> fmt::Result {
        let room = &mut self.bytes[self.length..];
        let fitting = text.len().min(room.len());
        room[..fitting].copy_from_slice(&text.as_bytes()[..fitting]);
        self.length += fitting;
        if fitting == text.len() {
            return Ok(());
        }
        self.bytes[Self::ROOM - 1] = b'\n';
        Err(fmt::Error)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fmt::Write;

    #[test]
    fn it_is_filled_and_not_more() {
        let mut text = Text::new();
        assert_eq!(write!(text, "{}{}", "ab", 12), Ok(()));
        assert_eq!(text.bytes(), b"ab12");
        let rest = "x".repeat(Text::ROOM - 4);
        assert_eq!(text.write_str(&rest), Ok(()));
        assert_eq!(text.bytes().last(), Some(&b'x'));
        assert_eq!(text.write_str("y"), Err(fmt::Error));
        assert_eq!(text.bytes().len(), Text::ROOM);
        assert_eq!(text.bytes().last(), Some(&b'\n'));
    }
}
