//! Documents with marks around what is measured:
//!
//! ```text
//! <!-- measured: begin sweep -->
//! all of this is replaced
//! <!-- measured: end -->
//! ```

use super::announce;
use super::args::ReportArgs;
use super::section::Section;
use crate::Answer;
use crate::files;
use crate::interrupt::Interrupts;
use crate::measure::plot::picture::write_if_new;
use anyhow::{Context, bail};
use clap::ValueEnum;
use std::fs;

const END: &str = "<!-- measured: end -->";

/// Measures each section that a file has marks for, and writes it as soon as it is
/// there.
pub(crate) fn update(args: &ReportArgs, interrupts: &Interrupts) -> anyhow::Result<Answer> {
    if let Some(directory) = &args.plots {
        files::make_directory(directory)?;
    }
    let wanted = |section: &Section| args.only.is_empty() || args.only.contains(section);
    let mut found = false;
    for &section in Section::value_variants().iter().filter(|section| wanted(section)) {
        let mut files = Vec::new();
        for path in &args.update {
            let text = fs::read_to_string(path)
                .with_context(|| format!("cannot read {}", path.display()))?;
            let place = place(&text, section).with_context(|| path.display().to_string())?;
            files.extend(place.map(|_| path));
        }
        if files.is_empty() {
            continue;
        }
        found = true;
        announce(&format!("measuring {section}"))?;
        let measured = section.measure(args, interrupts)?;
        for path in files {
            let text = fs::read_to_string(path)?;
            write_if_new(path, &replace(&text, section, &measured.markdown)?)?;
            announce(&format!("wrote {section} in {}", path.display()))?;
        }
        if let Some(directory) = &args.plots {
            let mut pictures = measured.pictures.iter();
            pictures.try_for_each(|(name, picture)| picture.keep(directory, name))?;
        }
    }
    if !found {
        bail!("no file has a line {:?} or another section's", begin(Section::Sweep));
    }
    Ok(Answer::Yes)
}

fn begin(section: Section) -> String {
    format!("<!-- measured: begin {section} -->")
}

/// Between the marks of `section`, if there are any.
fn place(text: &str, section: Section) -> anyhow::Result<Option<std::ops::Range<usize>>> {
    let begin = begin(section);
    let Some(start) = text.find(&begin) else { return Ok(None) };
    let start = start + begin.len();
    let inside = text[start..].find(END).with_context(|| format!("{begin} has no {END}"))?;
    if text[start..start + inside].contains("<!-- measured: begin") {
        bail!("{begin} has no {END}");
    }
    Ok(Some(start..start + inside))
}

/// `text` with `content` between the marks of `section`.
fn replace(text: &str, section: Section, content: &str) -> anyhow::Result<String> {
    let Some(place) = place(text, section)? else { return Ok(text.to_owned()) };
    let mut text = text.to_owned();
    text.replace_range(place, &format!("\n{}\n", content.trim_end()));
    Ok(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    const TEXT: &str = "prose\n<!-- measured: begin sweep -->\nold\n<!-- measured: end -->\nmore\n\
                        <!-- measured: begin values -->\nv\n<!-- measured: end -->\n";

    #[test]
    fn only_what_is_between_the_marks_is_replaced_and_twice_is_as_once() {
        let once = replace(TEXT, Section::Sweep, "| new |\n").expect("marks");
        assert_eq!(once, TEXT.replace("old", "| new |"));
        assert_eq!(replace(&once, Section::Sweep, "| new |\n").expect("marks"), once);
    }

    #[test]
    fn a_document_without_the_marks_stays_as_it_is() {
        assert_eq!(place(TEXT, Section::Conditions).expect("no marks"), None);
        assert_eq!(replace(TEXT, Section::Conditions, "x").expect("no marks"), TEXT);
    }

    #[test]
    fn a_mark_without_end_is_an_error_and_eats_nothing() {
        let open = TEXT.replacen(END, "", 1);
        let error = replace(&open, Section::Sweep, "x").expect_err("no end");
        assert!(error.to_string().contains("begin sweep"), "{error}");
        assert!(replace(&open.replace(END, ""), Section::Sweep, "x").is_err());
    }
}
