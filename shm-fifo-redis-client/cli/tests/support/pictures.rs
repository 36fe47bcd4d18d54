//! Pictures as other programs read them.

use super::python::python;
use std::path::{Path, PathBuf};

/// Checks an SVG's syntax; a PNG's checksums, and that it has as many bytes as pixels need.
const READ: &str = r#"
import struct, sys, xml.etree.ElementTree as tree, zlib
for name in sys.argv[1:]:
    content = open(name, "rb").read()
    if name.endswith(".svg"):
        root = tree.fromstring(content)
        assert root.tag.endswith("svg") and list(root.iter("{http://www.w3.org/2000/svg}text")), name
        assert b"NaN" not in content, name
        print("svg")
    else:
        assert content[:8] == b"\x89PNG\r\n\x1a\n", name
        width, height, depth, kind = struct.unpack(">IIBB", content[16:26])
        data, at = b"", 8
        while at < len(content):
            length, name_of = struct.unpack(">I4s", content[at:at + 8])
            body = content[at + 8:at + 8 + length]
            assert zlib.crc32(name_of + body) == struct.unpack(">I", content[at + 8 + length:at + 12 + length])[0]
            data += body if name_of == b"IDAT" else b""
            at += 12 + length
        channels = {2: 3, 6: 4}[kind]
        assert depth == 8 and len(zlib.decompress(data)) == height * (1 + width * channels), name
        print("png", width)
"#;

/// Whether the files are pictures: SVG with text, or PNG, `width` pixels across.
pub(crate) fn assert_pictures(paths: &[PathBuf], width: u32) {
    let names: Vec<&Path> = paths.iter().map(PathBuf::as_path).collect();
    let expected: String = paths
        .iter()
        .map(|path| match path.extension().and_then(|end| end.to_str()) {
            Some("png") => format!("png {width}\n"),
            _ => "svg\n".to_owned(),
        })
        .collect();
    assert_eq!(python(READ, &names), expected);
}
