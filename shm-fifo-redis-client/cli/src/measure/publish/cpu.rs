//! The CPU time of a command. The server tells its own, so that this works across
//! containers and users; it is asked before and after, never meanwhile.

use crate::cpu_time;
use crate::exchange::{self, Command};
use crate::interrupt::Interrupts;
use crate::measure::bench::median;
use crate::place::Place;
use crate::transport::Transport;
use anyhow::Context;

/// What a PING costs over one transport, one client, one request at a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PerCommand {
    pub(crate) transport: Transport,
    pub(crate) server_ns: u64,
    pub(crate) client_ns: u64,
}

pub(crate) fn measure(
    place: &Place,
    requests: u64,
    rounds: u64,
    interrupts: &Interrupts,
) -> anyhow::Result<Vec<PerCommand>> {
    let mut side = place.side_connection()?;
    let transports = place.transports(&[])?;
    let connect = |&transport: &Transport| Ok((transport, place.connect(transport)?, Vec::new()));
    let mut runs = transports.iter().map(connect).collect::<anyhow::Result<Vec<_>>>()?;
    let mut samples_ns = vec![0; usize::try_from(requests)?];
    let ping = Command::Ping.exchange();
    for _ in 0..rounds {
        for (transport, stream, rounds) in &mut runs {
            interrupts.check()?;
            let before = (server_us(&mut side)?, cpu_time::own_ns());
            exchange::time(&mut samples_ns, || ping.run(stream))
                .with_context(|| format!("PING over {transport}"))?;
            let client_ns = cpu_time::own_ns() - before.1;
            let server_us = server_us(&mut side)?.saturating_sub(before.0);
            rounds.push((server_us * 1000 / requests, client_ns / requests));
        }
        // Nobody always follows the same one.
        runs.reverse();
    }
    let per_command = |&transport: &Transport| {
        let (_, _, rounds) = runs.iter().find(|(other, ..)| *other == transport)?;
        Some(PerCommand {
            transport,
            server_ns: median::of(rounds.iter().map(|(server, _)| *server))?,
            client_ns: median::of(rounds.iter().map(|(_, client)| *client))?,
        })
    };
    Ok(transports.iter().filter_map(per_command).collect())
}

/// User's and system's.
fn server_us(connection: &mut redis::Connection) -> anyhow::Result<u64> {
    let info: String = redis::cmd("INFO").arg("cpu").query(connection)?;
    used_us(&info).context("the server does not tell its CPU time")
}

fn used_us(info: &str) -> Option<u64> {
    let microseconds = |name: &str| {
        let value = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))?;
        let (seconds, fraction) = value.trim().split_once('.')?;
        Some(
            seconds.parse::<u64>().ok()? * 1_000_000
                + format!("{fraction:0<6}").parse::<u64>().ok()?,
        )
    };
    Some(microseconds("used_cpu_sys")? + microseconds("used_cpu_user")?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_times_of_the_process_add_up_but_not_its_childrens() {
        let info = "# CPU\r\nused_cpu_sys:1.000763\r\nused_cpu_user:0.009112\r\n\
                    used_cpu_sys_children:5.000000\r\n";
        assert_eq!(used_us(info), Some(1_009_875));
        assert_eq!(used_us("used_cpu_sys:1.5\r\n"), None);
    }
}
