//! What differs between two runs by nature, and is therefore not compared. Each has a
//! name and a reason, which `docs/testing.md` lists.

/// Something that is replaced before replies are compared.
#[derive(Debug)]
pub(crate) struct Normalisation {
    pub(crate) name: &'static str,
    pub(crate) reason: &'static str,
    replace: fn(&str) -> String,
}

impl Normalisation {
    /// `bytes` without what differs by nature.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        // One char for each byte, and back.
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let replaced = (self.replace)(&text);
        replaced.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect()
    }
}

/// In the reply to HELLO.
pub(crate) const HELLO_ID: Normalisation = Normalisation {
    name: "hello-id",
    reason: "the id of a client, in the reply to HELLO, is the next number of its server",
    replace: |text| number_behind(text, "$2\r\nid\r\n:"),
};

/// Replaces the number that follows each `mark`.
fn number_behind(text: &str, mark: &str) -> String {
    let mut pieces = text.split(mark);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + mark + "*" + piece.trim_start_matches(|char: char| char.is_ascii_digit())
    })
}
