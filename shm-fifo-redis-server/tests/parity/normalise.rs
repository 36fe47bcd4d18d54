//! What differs between two runs by nature, and is therefore not compared. Each has a
//! name and a reason, which `docs/testing.md` lists.

/// Something that is replaced before replies are compared.
#[derive(Debug)]
pub(crate) struct Normalisation {
    name: &'static str,
    reason: &'static str,
    /// The second is what is to be replaced, where that is not always the same.
    replace: fn(&str, &str) -> String,
}

impl Normalisation {
    /// `bytes` without what differs by nature.
    pub(crate) fn apply(&self, bytes: &[u8]) -> Vec<u8> {
        self.apply_to(bytes, "")
    }

    /// As [`Normalisation::apply`]; what differs is `what`.
    pub(crate) fn apply_to(&self, bytes: &[u8], what: &str) -> Vec<u8> {
        // One char for each byte, and back.
        let text: String = bytes.iter().map(|&byte| char::from(byte)).collect();
        let replaced = (self.replace)(&text, what);
        replaced.chars().map(|char| u8::try_from(char).unwrap_or(b'?')).collect()
    }
}

pub(crate) const HELLO_ID: Normalisation = Normalisation {
    name: "hello-id",
    reason: "the id of a client, in the reply to HELLO, is its server's next number",
    replace: |text, _| numbers_behind(text, "$2\r\nid\r\n:"),
};

pub(crate) const HELLO: Normalisation = Normalisation {
    name: "hello",
    reason: "likewise, and the modules, whose order is that of a hash table",
    replace: |text, _| {
        let text = numbers_behind(text, "$2\r\nid\r\n:");
        text.split("modules").next().unwrap_or_default().to_owned()
    },
};

pub(crate) const REDIRECT_ID: Normalisation = Normalisation {
    name: "redirect-id",
    reason: "the id of the client that invalidations are redirected to, likewise",
    replace: |text, _| {
        let text = numbers_behind(text, "$8\r\nredirect\r\n:");
        numbers_behind(&text, "tracking-redir-broken\r\n:")
    },
};

pub(crate) const DIRECTORY: Normalisation = Normalisation {
    name: "directory",
    reason: "each server has a directory of its own, in which its socket is",
    replace: |text, directory| text.replace(directory, "DIRECTORY"),
};

pub(crate) const CLIENT_LINE: Normalisation = Normalisation {
    name: "client-line",
    reason: "in CLIENT LIST and INFO: id, fd, age and idle; the sizes of buffers and of what \
             has passed, which depend on how requests arrived",
    replace: |text, _| {
        const DIFFERENT: [&str; 15] = [
            "id",
            "fd",
            "age",
            "idle",
            "qbuf",
            "qbuf-free",
            "argv-mem",
            "rbs",
            "rbp",
            "obl",
            "tot-mem",
            "tot-net-in",
            "tot-net-out",
            "tot-cmds",
            "io-thread",
        ];
        let text = without_length(text).replace('\n', "\n ");
        masked_fields(&text, " ", |field| {
            DIFFERENT.iter().any(|name| field.starts_with(&format!("{name}=")))
        })
    },
};

pub(crate) const SLOWLOG: Normalisation = Normalisation {
    name: "slowlog",
    reason: "the numbers of entries, times and durations in SLOWLOG GET",
    replace: |text, _| numbers_in_entries(text, "*6\r\n:"),
};

pub(crate) const LATENCY: Normalisation = Normalisation {
    name: "latency",
    reason: "the times and durations in LATENCY HISTORY",
    replace: |text, _| numbers_in_entries(text, "*2\r\n:"),
};

pub(crate) const MONITOR: Normalisation = Normalisation {
    name: "monitor-time",
    reason: "the time at the beginning of what MONITOR shows",
    replace: |text, _| match text.split_once(' ') {
        Some((time, rest)) if time.starts_with('+') => format!("+TIME {rest}"),
        _ => text.to_owned(),
    },
};

pub(crate) const ACL_LOG: Normalisation = Normalisation {
    name: "acl-log",
    reason: "the numbers of entries, times and ages in ACL LOG, and the lines of clients in it",
    replace: |text, _| {
        const TEXTS: [&str; 2] = ["age-seconds", "client-info"];
        const NUMBERS: [&str; 3] = ["entry-id", "timestamp-created", "timestamp-last-updated"];
        let is_one_of = |names: &[&str], field: &str| names.iter().any(|name| field.contains(name));
        let masked = text.split("\r\n$").scan(false, |masks, field| {
            let masked = std::mem::replace(masks, is_one_of(&TEXTS, field));
            Some(match field.split_once(':') {
                _ if masked => "*",
                Some((name, _)) if is_one_of(&NUMBERS, name) => name,
                _ => field,
            })
        });
        masked.collect::<Vec<_>>().join("\r\n$")
    },
};

pub(crate) const COMMAND_STATS: Normalisation = Normalisation {
    name: "command-stats",
    reason: "the microseconds in INFO commandstats, and the order of its lines, which is that of a \
             hash table",
    replace: |text, _| {
        let masked = masked_fields(text, ",", |field| field.starts_with("usec"));
        let mut lines: Vec<&str> = masked.split("\r\n").skip(1).collect();
        lines.sort_unstable();
        lines.join("\r\n")
    },
};

#[cfg(test)]
const ALL: [&Normalisation; 10] = [
    &HELLO_ID,
    &HELLO,
    &REDIRECT_ID,
    &DIRECTORY,
    &CLIENT_LINE,
    &SLOWLOG,
    &LATENCY,
    &MONITOR,
    &ACL_LOG,
    &COMMAND_STATS,
];

/// Masks the number that follows each `mark`.
fn numbers_behind(text: &str, mark: &str) -> String {
    let mut pieces = text.split(mark);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, piece| {
        all + mark + "*" + piece.trim_start_matches(|char: char| char.is_ascii_digit())
    })
}

/// Masks the numbers at the beginning of each entry of an array, which begins with `mark`.
fn numbers_in_entries(text: &str, mark: &str) -> String {
    let mut pieces = text.split(mark);
    let first = pieces.next().unwrap_or_default().to_owned();
    pieces.fold(first, |all, entry| {
        let lines: Vec<&str> = entry.split("\r\n").collect();
        let numbers = 1 + lines[1..].iter().take_while(|line| line.starts_with(':')).count();
        format!("{all}{mark}* {}", lines[numbers..].join("\r\n"))
    })
}

/// Masks what `differs`, of the fields between separators.
fn masked_fields(text: &str, separator: &str, differs: impl Fn(&str) -> bool) -> String {
    let masked = text.split(separator).map(|field| match field.split_once('=') {
        Some((name, _)) if differs(field) => format!("{name}=*"),
        None if differs(field) => "*".to_owned(),
        _ => field.to_owned(),
    });
    masked.collect::<Vec<_>>().join(separator)
}

/// A bulk string, whose length depends on what is masked in it, without that.
fn without_length(text: &str) -> String {
    text.split_once("\r\n").map_or(text, |(_, rest)| rest).to_owned()
}

/// The documentation is where a reader looks for what is not compared.
#[test]
fn every_normalisation_is_documented() {
    let document = include_str!("../../../docs/testing.md");
    for Normalisation { name, reason, .. } in ALL {
        let row = format!("| `{name}` | {reason} |");
        assert!(document.contains(&row), "docs/testing.md lacks: {row}");
    }
}
