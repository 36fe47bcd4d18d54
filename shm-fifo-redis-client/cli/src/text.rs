//! Text that fits the terminal: tables of 80 columns, and sentences that are folded.

use std::io;
use textwrap::{Options, WordSplitter};

/// Every terminal has as many. Wider ones get the same tables.
const COLUMNS: usize = 80;

/// How wide a line may be: as wide as the terminal or, where that is a file or a pipe, as
/// `COLUMNS` says; as long as it is without either.
pub(crate) fn width() -> usize {
    let terminal = rustix::termios::tcgetwinsize(io::stdout()).ok();
    let terminal = terminal.map(|size| usize::from(size.ws_col));
    let told = || std::env::var("COLUMNS").ok()?.parse().ok();
    terminal.filter(|&columns| columns > 0).or_else(told).unwrap_or(usize::MAX)
}

/// `text` in lines of `width` columns, if its words are no longer than that: paths are to be
/// copied. All lines but the first stand `indent` columns to the right.
pub(crate) fn fold(text: &str, width: usize, indent: usize) -> String {
    let indent = " ".repeat(indent);
    let options = Options::new(width)
        .subsequent_indent(&indent)
        .break_words(false)
        .word_splitter(WordSplitter::NoHyphenation);
    textwrap::fill(text, options)
}

/// A line for each row, the cells below each other; those of the first `labels` columns to the
/// left, figures to the right. It takes no more than 80 columns if that can be.
pub(crate) fn align<const N: usize>(rows: &[[String; N]], labels: usize) -> Vec<String> {
    let length = |cell: &String| cell.chars().count();
    let widths: [usize; N] = std::array::from_fn(|column| {
        rows.iter().map(|row| length(&row[column])).max().unwrap_or(0)
    });
    let gaps = N.saturating_sub(1);
    let gap = if widths.iter().sum::<usize>() + 2 * gaps <= COLUMNS { "  " } else { " " };
    let line = |row: &[String; N]| {
        let cells: [String; N] = std::array::from_fn(|column| {
            let (cell, width) = (&row[column], widths[column]);
            if column < labels { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.join(gap).trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// A figure in five places at most: `9999`, `12.3k`, `1.23M`.
pub(crate) fn short(figure: f64) -> String {
    if figure < 9_999.5 {
        return format!("{figure:.0}");
    }
    let mut rest = figure / 1000.0;
    let mut units = ["k", "M", "G"].into_iter();
    let mut unit = units.next();
    while rest >= 999.5
        && let Some(larger) = units.next()
    {
        rest /= 1000.0;
        unit = Some(larger);
    }
    digits(rest) + unit.unwrap_or("")
}

/// Three digits that count, or what is before the point.
pub(crate) fn digits(figure: f64) -> String {
    let places = match figure {
        99.95.. => 0,
        9.995.. => 1,
        _ => 2,
    };
    format!("{figure:.places$}")
}

/// `figure` with so many digits that count, and nothing for the others.
pub(crate) fn significant(figure: f64, digits: usize) -> f64 {
    let places = digits.saturating_sub(1);
    format!("{figure:.places$e}").parse().unwrap_or(figure)
}

/// A rate, or another large figure, with three digits that count: `1,270,000`.
pub(crate) fn large(figure: f64) -> String {
    thousands(whole(significant(figure, 3)))
}

/// `1234567` as `1,234,567`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "`as` saturates")]
pub(crate) fn whole(figure: f64) -> u64 {
    figure.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sentences_are_folded_and_words_are_not() {
        let text = "raise shm.max-sessions, and see /a/path/that/is/long";
        assert_eq!(fold(text, 23, 2), "raise shm.max-sessions,\n  and see\n  /a/path/that/is/long");
        assert_eq!(fold(text, usize::MAX, 2), text);
        assert_eq!(fold("/a/path/that/is/long", 10, 2), "/a/path/that/is/long");
    }

    #[test]
    fn figures_stand_below_each_other() {
        let row = |cells: [&str; 3]| cells.map(str::to_owned);
        let rows = [row(["", "p50 µs", "/s"]), row(["tcp", "71.2", "12,345"])];
        assert_eq!(align(&rows, 1), ["     p50 µs      /s", "tcp    71.2  12,345"]);
        let wide = [row(["tcp", &"7".repeat(40), &"1".repeat(35)])];
        assert_eq!(align(&wide, 1)[0].len(), 80);
    }

    #[test]
    fn figures_have_five_places_and_no_more_digits_than_count() {
        let figures = [0.0, 9_999.0, 12_345.0, 999_499.0, 999_500.0, 1_234_567.0, 3.2e12];
        let texts = figures.map(short);
        assert_eq!(texts, ["0", "9999", "12.3k", "999k", "1.00M", "1.23M", "3200G"]);
        let texts = [0.874, 9.99, 9.995, 71.23, 99.94, 99.96, 1234.5].map(digits);
        assert_eq!(texts, ["0.87", "9.99", "10.0", "71.2", "99.9", "100", "1234"]);
        assert_eq!([0.0, 869.0, 1_274_620.0].map(large), ["0", "869", "1,270,000"]);
    }

    #[test]
    fn thousands_are_grouped() {
        let texts = [0, 999, 1_000, 12_345, 1_234_567].map(thousands);
        assert_eq!(texts, ["0", "999", "1,000", "12,345", "1,234,567"]);
    }
}
