//! A terminal: what is to be seen after some bytes were written to it.

/// Knows what programs here write: text, ends of lines, going up, erasing what is
/// below, and colours, which it does not show.
#[derive(Default)]
pub(crate) struct Screen {
    lines: Vec<Vec<char>>,
    row: usize,
    column: usize,
}

impl Screen {
    /// The lines that `bytes` leave there.
    pub(crate) fn showing(bytes: &str) -> Vec<String> {
        let mut screen = Self::default();
        let mut rest = bytes.chars();
        while let Some(one) = rest.next() {
            match one {
                '\r' => screen.column = 0,
                '\n' => screen.row += 1,
                '\x1b' => {
                    assert_eq!(rest.next(), Some('['), "{bytes:?}");
                    let mut parameters = String::new();
                    let last = rest.by_ref().find(|&one| {
                        parameters.push(one);
                        one.is_ascii_alphabetic()
                    });
                    parameters.pop();
                    screen.obey(last.unwrap(), &parameters);
                }
                other => screen.put(other),
            }
        }
        screen.lines.iter().map(|line| line.iter().collect()).collect()
    }

    fn obey(&mut self, code: char, parameters: &str) {
        match code {
            'A' => self.row -= parameters.parse::<usize>().unwrap(),
            'J' => {
                self.lines.truncate(self.row + 1);
                if let Some(line) = self.lines.get_mut(self.row) {
                    line.truncate(self.column);
                }
            }
            'm' => {}
            'l' | 'h' if parameters == "?7" => {}
            other => panic!("unexpected code {parameters}{other}"),
        }
    }

    fn put(&mut self, character: char) {
        self.lines.resize(self.lines.len().max(self.row + 1), Vec::new());
        let line = &mut self.lines[self.row];
        line.resize(line.len().max(self.column + 1), ' ');
        line[self.column] = character;
        self.column += 1;
    }
}
