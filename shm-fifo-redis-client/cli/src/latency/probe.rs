//! One connection that is measured, and what it has measured.

use crate::connect::{self, Target};
use crate::exchange::{self, Command, Exchange};
use crate::running::RunningServer;
use crate::statistics::Series;
use crate::transport::Transport;
use anyhow::Context;
use shm_fifo_redis_client::{Refusal, Stream};
use std::mem;
use std::time::{Duration, Instant};

/// So many samples in a row, if they are quick, until somebody looks at the clock
/// and for Ctrl-C.
const BATCH: usize = 16;
/// As many as that, but no longer: these do not count.
const WARM_UP: usize = 32;
const WARM_UP_TIME: Duration = Duration::from_millis(1);

pub(crate) struct Probe {
    pub(crate) transport: Transport,
    pub(crate) target: Target,
    stream: Stream,
    ping: Exchange,
    is_quick: bool,
    earlier: Series,
    /// Since the interval began.
    lately: Series,
}

impl Probe {
    /// Or why the server does not move it to shared memory.
    pub(crate) fn connect(
        server: &RunningServer,
        transport: Transport,
        target: Target,
    ) -> anyhow::Result<Result<Self, Refusal>> {
        let mut stream = server.connect_to(&target)?;
        if transport == Transport::Shm {
            stream = match connect::move_over(stream)? {
                Ok(stream) => stream,
                Err(refusal) => return Ok(Err(refusal)),
            };
        }
        Ok(Ok(Self {
            transport,
            target,
            stream,
            ping: Command::Ping.exchange(),
            is_quick: false,
            earlier: Series::new(),
            lately: Series::new(),
        }))
    }

    /// Round trips that do not count. While the terminal was written or others had
    /// their turn, caches grew cold and the server fell asleep.
    pub(crate) fn warm_up(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + WARM_UP_TIME;
        for _ in 0..WARM_UP {
            self.ping
                .run(&mut self.stream)
                .with_context(|| format!("PING over {}", self.transport))?;
            if Instant::now() > end {
                break;
            }
        }
        Ok(())
    }

    /// Some samples in a row, `most` at most.
    pub(crate) fn sample(&mut self, most: u64) -> anyhow::Result<()> {
        let wanted = if self.is_quick { BATCH } else { 1 };
        let wanted = usize::try_from(most).unwrap_or(wanted).min(wanted);
        let mut samples_ns = [0; BATCH];
        let samples_ns = &mut samples_ns[..wanted];
        exchange::time(samples_ns, || self.ping.run(&mut self.stream))
            .with_context(|| format!("PING over {}", self.transport))?;
        self.is_quick = samples_ns.iter().all(|&ns| ns < 100_000);
        self.lately.record(samples_ns);
        Ok(())
    }

    pub(crate) fn count(&self) -> u64 {
        self.earlier.count() + self.lately.count()
    }

    /// What was measured since the interval began.
    pub(crate) fn lately(&self) -> &Series {
        &self.lately
    }

    /// The interval that ends here.
    pub(crate) fn end_interval(&mut self) -> Series {
        let interval = mem::replace(&mut self.lately, Series::new());
        self.earlier.add(&interval);
        interval
    }

    /// Everything that was measured.
    pub(crate) fn total(&self) -> Series {
        let mut total = self.earlier.clone();
        total.add(&self.lately);
        total
    }
}
