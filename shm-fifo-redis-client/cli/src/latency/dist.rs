//! `--dist`: each interval as a spectrum, as `redis-cli --latency-dist` draws it.
//!
//! A place for each bucket; its digit is the first one of the bucket's lower end,
//! and the ruler above says in which unit. Its colour says how large a share of
//! the samples it has.

use super::figures::time;
use super::row::Row;
use super::screen::has_colours;
use super::spectrum::{Bucket, starts_ns};
use anstyle::{Ansi256Color, Style};

/// Of the 256 colours, from no sample to all of them: those of redis-cli.
const PALETTE: [u8; 19] =
    [0, 233, 234, 235, 237, 239, 241, 243, 245, 247, 144, 143, 142, 184, 226, 214, 208, 202, 196];
/// The same without colours.
const RAMP: [char; 10] = [' ', '.', ':', '-', '=', '+', '*', '#', '%', '@'];

pub(crate) fn heading() -> String {
    let digits: String = starts_ns().into_iter().map(digit).collect();
    format!("{}{:<61} {:>11}\n{digits} {:>11}\n", legend(), ruler(), "p50", "µs")
}

pub(crate) fn line(row: &Row) -> String {
    let buckets = row.buckets.as_deref().unwrap_or_default();
    let colours = has_colours();
    let cells: String = buckets.iter().map(|bucket| cell(bucket, row.samples, colours)).collect();
    format!("{cells} {:>11.3}\n", row.p50_ns as f64 / 1000.0)
}

fn cell(bucket: &Bucket, samples: u64, colours: bool) -> String {
    if !colours {
        return RAMP[level(bucket.count, samples, RAMP.len())].to_string();
    }
    let style = coloured(PALETTE[level(bucket.count, samples, PALETTE.len())]);
    format!("{style}{}{style:#}", digit(bucket.from_ns))
}

/// 0 for none, the last of `levels` for all, and never 0 for some.
fn level(count: u64, samples: u64, levels: usize) -> usize {
    let steps = levels as u64 - 1;
    let level = u128::from(count) * u128::from(steps);
    usize::try_from(level.div_ceil(u128::from(samples.max(1)))).unwrap_or(levels).min(levels - 1)
}

fn coloured(background: u8) -> Style {
    Style::new()
        .fg_color(Some(Ansi256Color(PALETTE[0]).into()))
        .bg_color(Some(Ansi256Color(background).into()))
}

/// What stands for the bucket: `<` is what comes before 0.5 µs, `+` a second and more.
fn digit(from_ns: u64) -> char {
    match from_ns {
        0 => '<',
        1_000_000_000.. => '+',
        _ => from_ns.to_string().chars().next().unwrap_or(' '),
    }
}

/// The units, each where its decade begins.
fn ruler() -> String {
    let mut ruler = String::new();
    for (place, ns) in starts_ns().into_iter().enumerate() {
        let begins_a_decade = ns >= 1_000 && ns.to_string().trim_end_matches('0') == "1";
        if begins_a_decade {
            let gap = place - ruler.chars().count();
            ruler += &format!("{}{}", " ".repeat(gap), time(ns));
        }
    }
    ruler
}

fn legend() -> String {
    let shades: String = if has_colours() {
        let shade = |colour| {
            let style = coloured(colour);
            format!("{style} {style:#}")
        };
        PALETTE.into_iter().map(shade).collect()
    } else {
        RAMP.iter().collect()
    };
    format!(
        "\nA bucket begins at its digit, in the unit above; < is below 0.5 µs, + from 1 s.\n\
         Samples in a bucket, from 0 to 100 %: {shades}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_sample_leaves_a_trace_and_all_of_them_the_last_colour() {
        let levels = [0, 1, 500_000, 999_999, 1_000_000].map(|count| level(count, 1_000_000, 19));
        assert_eq!(levels, [0, 1, 9, 18, 18]);
        assert_eq!(level(0, 0, 19), 0);
    }

    #[test]
    fn without_colours_a_darker_character_is_a_larger_share() {
        let cells = [0, 1, 50, 100].map(|count| cell(&Bucket { from_ns: 700, count }, 100, false));
        assert_eq!(cells, [" ", ".", "+", "@"]);
        let coloured = cell(&Bucket { from_ns: 700, count: 100 }, 100, true);
        assert!(coloured.contains("48;5;196m7"), "{coloured:?}");
    }

    #[test]
    fn units_stand_above_their_ones() {
        let (ruler, digits): (Vec<char>, Vec<char>) =
            (ruler().chars().collect(), starts_ns().into_iter().map(digit).collect());
        assert_eq!(digits.iter().collect::<String>(), format!("<56789{}+", "123456789".repeat(6)));
        let ones: Vec<usize> = (0..60).filter(|&place| digits[place] == '1').collect();
        assert!(ones.iter().all(|&place| ruler[place] == '1'), "{ruler:?}");
    }
}
