//! What the client says is what `docs/layout.md` has under "Numbers".

#[path = "../../shm-fifo/tests/support/document.rs"]
mod document;

use shm_fifo_redis_client::wire::{PROTOCOL_VERSION, open_command};

#[test]
fn it_asks_for_the_version_that_the_document_names() {
    let numbers = document::numbers();
    let (_, version) = numbers.iter().find(|(name, _)| *name == "PROTOCOL_VERSION").expect("a row");
    assert_eq!(PROTOCOL_VERSION, version.to_string());
    assert_eq!(
        String::from_utf8_lossy(&open_command(None)),
        format!("*2\r\n$8\r\nSHM.OPEN\r\n$1\r\n{version}\r\n")
    );
}
