//! Where the sweep's results go: the terminal and files.

use super::args::BenchArgs;
use super::example;
use super::plot;
use super::row::{Results, Row};
use super::table;
use crate::files::{self, check_file, write_json};
use crate::measure;
use crate::report::{self, Heading, OutputError};
use crate::text::{fold, width};

/// Finds out before the work whether the results can be kept.
pub(crate) fn check_paths(args: &BenchArgs) -> anyhow::Result<()> {
    if let Some(directory) = &args.plots {
        files::make_directory(directory)?;
    }
    match &args.json {
        Some(path) => check_file(path),
        None => Ok(()),
    }
}

pub(crate) fn write(args: &BenchArgs, heading: &Heading, results: &Results) -> anyhow::Result<()> {
    let mut written = Vec::new();
    if let Some(path) = &args.json {
        write_json(path, &results.rows().collect::<Vec<_>>())?;
        written.push(path.clone());
    }
    if let Some(directory) = &args.plots {
        written.extend(plot::write_all(directory, heading, results)?);
    }
    if args.csv {
        return Ok(report::print_text(&csv(results.rows()))?);
    }
    let mut text = String::new();
    if !args.quiet {
        let rounds = measure::rounds(results.rounds);
        let heading = fold(&heading.to_string(), width(), 0);
        text += &format!("\n{heading}\nmedians of {rounds}, transports in turns\n\n");
        text += &table::render(results);
    }
    if !results.example.is_empty() {
        text += if args.quiet { "" } else { "The pipelining page's example, 10,000 PINGs\n" };
        text += &example::render(&results.example);
    }
    for path in written {
        text += &format!("wrote {}\n", path.display());
    }
    Ok(report::print_text(&text)?)
}

/// As redis-benchmark's `-q`: one line as soon as a figure is there.
pub(crate) fn print_line(row: &Row) -> Result<(), OutputError> {
    report::print_text(&line(row))
}

fn line(row: &Row) -> String {
    let cell = &row.cell;
    let us = |ns: u64| ns as f64 / 1000.0;
    format!(
        "{} {} clients={} pipeline={} bytes={}: {:.2} requests per second, p50={:.3} p99={:.3} us\n",
        row.transport,
        cell.command,
        cell.clients,
        cell.pipeline,
        cell.value_bytes,
        row.commands_per_s,
        us(row.p50_ns),
        us(row.p99_ns)
    )
}

/// The names are those of the JSON; no value has a comma or a quote.
fn csv<'a>(rows: impl Iterator<Item = &'a Row>) -> String {
    let mut text = "transport,command,clients,pipeline,value_bytes,requests,commands_per_s,\
                    p50_ns,p99_ns,p999_ns\n"
        .to_owned();
    for row in rows {
        let cell = &row.cell;
        text += &format!(
            "{},{},{},{},{},{},{:.1},{},{},{}\n",
            row.transport,
            cell.command,
            cell.clients,
            cell.pipeline,
            cell.value_bytes,
            row.requests,
            row.commands_per_s,
            row.p50_ns,
            row.p99_ns,
            row.p999_ns
        );
    }
    text
}

#[cfg(test)]
mod tests {
    use super::super::row::tests::outcome;
    use super::*;
    use crate::transport::Transport;

    #[test]
    fn csv_has_a_header_with_units_and_a_line_for_each_row() {
        let rows = [outcome(Transport::Tcp, 1, 2.5).row, outcome(Transport::Shm, 1, 9.0).row];
        let text = csv(rows.iter());
        let lines: Vec<&str> = text.lines().collect();
        assert_eq!(
            lines[0],
            "transport,command,clients,pipeline,value_bytes,requests,commands_per_s,p50_ns,\
             p99_ns,p999_ns"
        );
        assert_eq!(lines[1], "tcp,PING,1,1,0,3,2.5,1500,2000,2000");
        assert_eq!(lines.len(), 3);
    }

    #[test]
    fn a_quiet_line_has_rate_and_latency() {
        let text = line(&outcome(Transport::Shm, 16, 1_000_000.0).row);
        let expected = "shm PING clients=1 pipeline=16 bytes=0: 1000000.00 requests per second, \
                        p50=1.500 p99=2.000 us\n";
        assert_eq!(text, expected);
    }
}
