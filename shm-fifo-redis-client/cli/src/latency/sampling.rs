//! When samples are taken: back to back or after pauses, and until when.

use super::args::LatencyArgs;
use super::probe::Probe;
use super::row::Row;
use crate::interrupt::Interrupts;
use std::thread;
use std::time::{Duration, Instant};

/// How long a transport has its turn where several are measured back to back.
const TURN: Duration = Duration::from_millis(50);
/// A signal is not noticed in one sleep, but between two.
const LONGEST_SLEEP: Duration = Duration::from_millis(20);

/// Shows what is measured, between samples only.
pub(crate) trait View {
    /// When it next has something to show.
    fn due(&self) -> Option<Instant>;

    /// Called between turns, about then.
    fn look(&mut self, probes: &mut [Probe]) -> anyhow::Result<()>;

    /// Shows the summary. The rows are all results, none if nothing was measured.
    fn finish(self: Box<Self>, probes: &mut [Probe]) -> anyhow::Result<Vec<Row>>;
}

pub(crate) enum Ended {
    /// There are enough samples, or the time is over.
    Complete,
    Interrupted,
}

pub(crate) struct Sampling<'a> {
    interrupts: &'a Interrupts,
    pause: Duration,
    deadline: Option<Instant>,
    samples: Option<u64>,
}

impl<'a> Sampling<'a> {
    pub(crate) fn new(args: &LatencyArgs, interrupts: &'a Interrupts) -> Self {
        Self {
            interrupts,
            pause: Duration::from_micros(args.sample_rate_us()),
            // Longer than the clock counts is for ever.
            deadline: args.longest().and_then(|longest| Instant::now().checked_add(longest)),
            samples: args.samples,
        }
    }

    /// The probes take turns until all have enough, the time is over, or Ctrl-C.
    pub(crate) fn run(&self, probes: &mut [Probe], view: &mut dyn View) -> anyhow::Result<Ended> {
        loop {
            let turn = (probes.len() > 1).then_some(TURN);
            for probe in probes.iter_mut().filter(|probe| self.wanted(probe) > 0) {
                if self.pause.is_zero() {
                    self.take_turn(probe, turn, view.due())?;
                } else {
                    self.take_one(probe)?;
                }
            }
            if self.interrupts.check().is_err() {
                return Ok(Ended::Interrupted);
            }
            if self.time_is_over() || probes.iter().all(|probe| self.wanted(probe) == 0) {
                return Ok(Ended::Complete);
            }
            view.look(probes)?;
        }
    }

    /// Samples back to back until the turn is over or the view is due.
    fn take_turn(
        &self,
        probe: &mut Probe,
        turn: Option<Duration>,
        due: Option<Instant>,
    ) -> anyhow::Result<()> {
        let turn_end = match turn {
            Some(turn) => Some(Instant::now() + turn),
            None => due,
        };
        probe.warm_up()?;
        // At least once: a view that is late must not stop everything.
        loop {
            probe.sample(self.wanted(probe))?;
            let is_over = turn_end.is_some_and(|end| Instant::now() >= end);
            if is_over || self.wanted(probe) == 0 || self.is_to_stop() {
                return Ok(());
            }
        }
    }

    /// One sample after a pause: the view's drawing belongs to the pause, and each
    /// transport finds a server that was idle for as long.
    fn take_one(&self, probe: &mut Probe) -> anyhow::Result<()> {
        let end = Instant::now().checked_add(self.pause);
        loop {
            if self.is_to_stop() {
                return Ok(());
            }
            let left = end.map_or(LONGEST_SLEEP, |end| end - Instant::now());
            if left.is_zero() {
                return probe.sample(1);
            }
            thread::sleep(left.min(LONGEST_SLEEP));
        }
    }

    fn wanted(&self, probe: &Probe) -> u64 {
        self.samples.map_or(u64::MAX, |samples| samples.saturating_sub(probe.count()))
    }

    fn is_to_stop(&self) -> bool {
        self.interrupts.check().is_err() || self.time_is_over()
    }

    fn time_is_over(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}
