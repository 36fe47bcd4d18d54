//! What is no proper command: the cases of Redis' own protocol tests, and more.

/// What the server passes over or answers, and then goes on.
pub(crate) const HARMLESS: &[&[u8]] = &[
    b"\r\n",
    b"\n",
    b"*0\r\n",
    b"*-1\r\n",
    b"*-10\r\n",
    b"PING\n",
    b"  ping   \"with spaces\"  \r\n",
    b"ECHO \"\\x41\\n\\t\\\"\\\\ \\q\"\r\n",
    b"ECHO 'single \\' \\x41'\r\n",
    b"ECHO \"\"\r\n",
    b"*1\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$0\r\n\r\n",
    b"*2\r\n$4\r\nECHO\r\n$4\r\n\r\n\r\n\r\n",
];

/// What ends the connection. Whatever follows is not looked at.
pub(crate) const FATAL: &[&[u8]] = &[
    b"*3000000000\r\n",
    b"*9223372036854775808\r\n",
    b"*x\r\n",
    b"*\r\n",
    b"*1\r\nfoo\r\n",
    b"*1\r\n\r\n",
    b"*1\r\n:5\r\n",
    b"*1\r\n$-10\r\n",
    b"*1\r\n$\r\n",
    b"*1\r\n$x\r\n",
    b"*1\r\n$04\r\nPING\r\n",
    b"*1\r\n$2000000000\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$-1\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\nfooz\r\n",
    b"*3\r\n$3\r\nSET\r\n$1\r\nx\r\n$20000000000\r\n",
    b"set \"\"\"test-key\"\"\" test-value\r\n",
    b"ECHO \"open\r\n",
    b"ECHO 'open\r\n",
    b"ECHO \"closed\"behind\r\n",
    // Only Valkey 9 looks at what stands in place of a line's end.
    b"*1\r\n$4\r\nPINGxx",
    b"QUIT\r\n",
    b"*1\r\n$4\r\nQUIT\r\n",
];

/// What a browser sends that was led astray. It ends the connection at once: replies to
/// what came before are lost, if they had to wait for the same turn of the event loop.
pub(crate) const CROSS_PROTOCOL: &[&[u8]] = &[b"POST / HTTP/1.1\r\n", b"Host: localhost\r\n"];

/// The beginnings of lines that never end: refused once they are too long.
pub(crate) const ENDLESS: &[&[u8]] = &[b"", b"\0", b"*\0", b"*1\r\n$\0", b"SET x "];

/// So many that the server, which looks once after each read, is past its limit of 64 KiB
/// before it can have read what comes behind.
pub(crate) const ENDLESS_BYTES: usize = 1 << 20;
