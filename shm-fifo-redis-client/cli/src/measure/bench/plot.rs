//! The sweep as pictures.

use super::row::{Cell, Outcome, Results};
use crate::measure::plot;
use crate::measure::plot::percentiles::Percentiles;
use crate::measure::plot::throughput::Throughput;
use crate::report::Heading;
use std::path::{Path, PathBuf};

/// For each command and number of clients: throughput over depth, and the
/// latencies at the least depth.
pub(crate) fn write_all(
    directory: &Path,
    heading: &Heading,
    results: &Results,
) -> anyhow::Result<Vec<PathBuf>> {
    let without_depth = |outcome: &Outcome| Cell { pipeline: 0, ..outcome.row.cell };
    let same = |one: &Outcome, other: &Outcome| without_depth(one) == without_depth(other);
    let mut written = Vec::new();
    for outcomes in results.outcomes.chunk_by(same) {
        let pictures = [
            ("throughput", Throughput::of(outcomes, heading, results.rounds).svg()),
            ("latency", Percentiles::of(outcomes, heading, results.rounds).svg()),
        ];
        for (kind, picture) in pictures {
            let name = format!("{kind}-{}", file_part(&outcomes[0].row.cell));
            written.extend(plot::write(directory, &name, &picture)?);
        }
    }
    Ok(written)
}

fn file_part(cell: &Cell) -> String {
    let size = if cell.command.has_values_of_one_size() {
        format!("-{}B", cell.value_bytes)
    } else {
        String::new()
    };
    format!("{}{size}-c{}", cell.command.name().to_lowercase(), cell.clients)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::bench::row::tests::cell;
    use crate::measure::bench::script::Load;

    #[test]
    fn each_picture_has_a_name_of_its_own() {
        assert_eq!(file_part(&cell(1)), "ping-c1");
        let set = Cell { command: Load::Set, clients: 50, pipeline: 1, value_bytes: 3 };
        assert_eq!(file_part(&set), "set-3B-c50");
    }
}
