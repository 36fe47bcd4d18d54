//! The figures of the whole run: refreshed in place, or printed at the end.

use super::args::{LatencyArgs, Output};
use super::probe::Probe;
use super::row::{Row, Rows};
use super::sampling::View;
use super::screen::Screen;
use super::{export, figures};
use crate::report;
use std::time::{Duration, Instant};

fn totals(rows: &Rows, probes: &[Probe]) -> Vec<Row> {
    let row = |probe: &Probe| rows.since(Duration::ZERO, probe.transport, &probe.total());
    probes.iter().filter_map(row).collect()
}

/// For people.
pub(crate) struct Live {
    rows: Rows,
    screen: Screen,
    end: &'static str,
}

impl Live {
    pub(crate) fn begin(args: &LatencyArgs, probes: &[Probe]) -> anyhow::Result<Self> {
        let mut screen = Screen::new();
        screen.print(&figures::title(args, probes))?;
        Ok(Self { rows: Rows::begin(args), screen, end: figures::end(args) })
    }
}

impl View for Live {
    fn due(&self) -> Option<Instant> {
        Some(self.screen.due())
    }

    fn look(&mut self, probes: &mut [Probe]) -> anyhow::Result<()> {
        if Instant::now() >= self.screen.due() {
            let table = figures::table(&totals(&self.rows, probes));
            self.screen.refresh(&(table + &figures::elapsed(self.rows.elapsed(), self.end)))?;
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, probes: &mut [Probe]) -> anyhow::Result<Vec<Row>> {
        let rows = totals(&self.rows, probes);
        if !rows.is_empty() {
            let elapsed = figures::elapsed(self.rows.elapsed(), "");
            self.screen.print(&(figures::table(&rows) + &elapsed))?;
        }
        Ok(rows)
    }
}

/// For programs.
pub(crate) struct AtTheEnd {
    rows: Rows,
    output: Output,
}

impl AtTheEnd {
    pub(crate) fn begin(args: &LatencyArgs) -> Self {
        Self { rows: Rows::begin(args), output: args.output() }
    }
}

impl View for AtTheEnd {
    fn due(&self) -> Option<Instant> {
        None
    }

    fn look(&mut self, _: &mut [Probe]) -> anyhow::Result<()> {
        Ok(())
    }

    fn finish(self: Box<Self>, probes: &mut [Probe]) -> anyhow::Result<Vec<Row>> {
        let rows = totals(&self.rows, probes);
        if !rows.is_empty() {
            report::print_text(&match self.output {
                Output::Csv => export::csv(&rows),
                Output::Pairs | Output::Terminal => figures::pairs_of_all(&rows),
            })?;
        }
        Ok(rows)
    }
}
