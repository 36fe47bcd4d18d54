//! A line for each interval: `--history` and `--dist`.

use super::args::{LatencyArgs, Output};
use super::probe::Probe;
use super::row::{Row, Rows};
use super::sampling::View;
use super::screen::Screen;
use super::{dist, export, figures, history};
use crate::report;
use std::time::{Duration, Instant};

/// The heading comes again after so many lines.
const LINES_BELOW_A_HEADING: usize = 20;

pub(crate) struct Intervals {
    rows: Rows,
    interval: Duration,
    is_dist: bool,
    output: Output,
    screen: Option<Screen>,
    end: &'static str,
    /// When this interval began, since the run began.
    start: Duration,
    ended: Vec<Row>,
}

impl Intervals {
    pub(crate) fn begin(args: &LatencyArgs, probes: &[Probe]) -> anyhow::Result<Self> {
        let output = args.output();
        let mut screen = (output == Output::Terminal).then(Screen::new);
        if let Some(screen) = &mut screen {
            screen.print(&figures::title(args, probes))?;
        }
        Ok(Self {
            rows: Rows::begin(args),
            interval: args.interval(),
            is_dist: args.dist,
            output,
            screen,
            end: figures::end(args),
            start: Duration::ZERO,
            ended: Vec::new(),
        })
    }

    /// How long this interval is still to last.
    fn left(&self) -> Duration {
        (self.start + self.interval).saturating_sub(self.rows.elapsed())
    }

    fn end_interval(&mut self, probe: &mut Probe) -> anyhow::Result<()> {
        let series = probe.end_interval();
        let row = self.rows.since(self.start, probe.transport, &series);
        self.start = self.rows.elapsed();
        let Some(row) = row else { return Ok(()) };
        let text = self.heading() + &self.line(&row);
        match &mut self.screen {
            Some(screen) => screen.print(&text)?,
            None => report::print_text(&text)?,
        }
        self.ended.push(row);
        Ok(())
    }

    /// What is above the next line, if anything.
    fn heading(&self) -> String {
        let lines = self.ended.len();
        match self.output {
            Output::Csv if lines == 0 => export::csv_header(self.is_dist),
            Output::Terminal if lines.is_multiple_of(LINES_BELOW_A_HEADING) => {
                if self.is_dist {
                    dist::heading()
                } else {
                    history::heading()
                }
            }
            _ => String::new(),
        }
    }

    fn line(&self, row: &Row) -> String {
        match self.output {
            Output::Csv => export::csv_line(row),
            Output::Pairs => history::pairs(row),
            Output::Terminal if self.is_dist => dist::line(row),
            Output::Terminal => history::line(row),
        }
    }
}

impl View for Intervals {
    fn due(&self) -> Option<Instant> {
        let end = Instant::now() + self.left();
        let refresh = self.screen.as_ref().map(Screen::due);
        refresh.into_iter().chain([end]).min()
    }

    fn look(&mut self, probes: &mut [Probe]) -> anyhow::Result<()> {
        let [probe] = probes else { unreachable!("--compare excludes intervals") };
        if self.left().is_zero() {
            self.end_interval(probe)?;
        }
        if self.screen.as_ref().is_some_and(|screen| Instant::now() >= screen.due())
            && let Some(row) = self.rows.since(self.start, probe.transport, probe.lately())
        {
            let elapsed = figures::elapsed(self.rows.elapsed(), self.end);
            let text = self.heading() + &self.line(&row) + &elapsed;
            if let Some(screen) = &mut self.screen {
                screen.refresh(&text)?;
            }
        }
        Ok(())
    }

    fn finish(mut self: Box<Self>, probes: &mut [Probe]) -> anyhow::Result<Vec<Row>> {
        let [probe] = probes else { unreachable!("--compare excludes intervals") };
        self.end_interval(probe)?;
        let total = self.rows.since(Duration::ZERO, probe.transport, &probe.total());
        if let (Some(total), Some(screen)) = (total, &mut self.screen) {
            let elapsed = figures::elapsed(self.rows.elapsed(), "");
            screen.print(&format!("\n{}{elapsed}", figures::table(&[total])))?;
        }
        Ok(self.ended)
    }
}
