//! The end of the terminal, which is written again and again.

use crate::report::OutputError;
use std::env;
use std::io::{self, Write};
use std::time::{Duration, Instant};

/// Five times a second: as quick as one can read, and hardly in the way.
const REFRESH: Duration = Duration::from_millis(200);

/// Every line ends, so that the terminal writes the `^C` of Ctrl-C where it is
/// erased; and none is wrapped, so that there are as many as were written.
pub(crate) struct Screen {
    lines: usize,
    due: Instant,
    can_go_back: bool,
}

impl Screen {
    pub(crate) fn new() -> Self {
        let can_go_back = env::var_os("TERM").is_none_or(|terminal| terminal != "dumb");
        Self { lines: 0, due: Instant::now() + REFRESH, can_go_back }
    }

    /// When it is to be refreshed.
    pub(crate) fn due(&self) -> Instant {
        self.due
    }

    /// Writes `text`, which the next call replaces.
    pub(crate) fn refresh(&mut self, text: &str) -> Result<(), OutputError> {
        self.due = Instant::now() + REFRESH;
        if !self.can_go_back {
            return Ok(());
        }
        let erase = self.erase();
        self.lines = text.lines().count();
        write(&format!("{erase}\x1b[?7l{}\x1b[?7h", in_its_colours(text)))
    }

    /// Writes `text`, which stays, in place of what is there.
    pub(crate) fn print(&mut self, text: &str) -> Result<(), OutputError> {
        let erase = self.erase();
        self.lines = 0;
        write(&(erase + &in_its_colours(text)))
    }

    /// A `^C` may stand there even where nothing of ours does.
    fn erase(&self) -> String {
        match self.lines {
            _ if !self.can_go_back => String::new(),
            0 => "\r\x1b[J".to_owned(),
            lines => format!("\x1b[{lines}A\r\x1b[J"),
        }
    }
}

/// Whether stdout shows colours: a terminal, and nobody said NO_COLOR.
pub(crate) fn has_colours() -> bool {
    anstream::AutoStream::choice(&io::stdout()) != anstream::ColorChoice::Never
}

fn in_its_colours(text: &str) -> String {
    if has_colours() { text.to_owned() } else { anstream::adapter::strip_str(text).to_string() }
}

/// As it is: what goes back in the terminal is no colour.
fn write(text: &str) -> Result<(), OutputError> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()).map_err(OutputError)
}
