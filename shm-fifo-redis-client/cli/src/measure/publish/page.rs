//! The page: one file with everything in it, for any browser. It names neither
//! hosts nor users nor paths.

use super::table::{self, Table};
use super::{Survey, outcomes_of, sweep_pictures};
use crate::measure::plot::bars;
use maud::{DOCTYPE, Markup, PreEscaped, html};

const STYLE: &str = "\
    body { font: 16px/1.5 system-ui, sans-serif; color: #1f2933; background: #fff; \
           max-width: 60rem; margin: 2rem auto; padding: 0 1rem }\
    table { border-collapse: collapse; margin: 1rem 0; font-variant-numeric: tabular-nums }\
    .wide { overflow-x: auto }\
    th, td { padding: .25rem .75rem; border-bottom: 1px solid #dde3e8; text-align: right; \
             white-space: nowrap }\
    th.word, td.word { text-align: left }\
    svg { width: 100%; height: auto; margin: 1rem 0 }\
    pre { background: #f4f6f8; padding: .75rem; overflow-x: auto }\
    @media (prefers-color-scheme: dark) {\
        :root { color-scheme: dark }\
        body { color: #e6edf3; background: #0d1117 }\
        th, td { border-color: #30363d }\
        pre { background: #161b22 }\
    }";

pub(crate) fn render(survey: &Survey) -> String {
    let heading = &survey.round_trips.heading;
    let title = "Redis over TCP, unix socket and shared memory";
    let pictures = sweep_pictures(&survey.sweep, heading);
    html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                title { (title) }
                style { (PreEscaped(STYLE)) }
            }
            body {
                h1 { (title) }
                p { "One redis-server with the shm-fifo module, the same commands: over TCP, over a \
                     unix socket, and over rings in shared memory. "
                    a href=(env!("CARGO_PKG_REPOSITORY")) { (env!("CARGO_PKG_REPOSITORY")) } }
                (facts(survey))
                h2 { "Latency by transport" }
                (PreEscaped(bars::render(&survey.round_trips)))
                (render_table(&table::round_trips(&survey.round_trips)))
                h2 { "CPU time of a command" }
                p { "One client, one PING at a time. The server's time is what INFO tells, user \
                     and system; so is the client's own. A side that spins uses CPU time while \
                     it waits." }
                (render_table(&table::cpu(&survey.cpu)))
                h2 { "Pipelining" }
                p { "Thousand commands per second over depths of the pipeline: the better \
                     socket, shared memory, and how many times the socket's throughput it has." }
                @for (_, picture) in &pictures { (PreEscaped(picture.svg())) }
                @for clients in [1, 50] {
                    h3 { (clients) @if clients == 1 { " client" } @else { " clients, one thread" } }
                    (render_table(&table::sweep(outcomes_of(&survey.sweep, clients))))
                }
                p { "The example of the Redis pipelining page:" }
                (render_table(&table::example(&survey.sweep.example)))
                h2 { "How to repeat it" }
                p { "With the same server, named by -s, or by -h and -p; without them a private \
                     one is started:" }
                pre { "redis-shm report " (survey.report_words) "\nredis-shm bench " (survey.sweep_words) }
                p { "redis-shm " (env!("CARGO_PKG_VERSION")) ". Figures of a machine that does \
                     other work meanwhile say little, and factors near 2 say that client and server \
                     shared one CPU. Medians of " (survey.sweep.rounds) " rounds, the transports in \
                     turns." }
            }
        }
    }
    .into_string()
}

fn facts(survey: &Survey) -> Markup {
    let heading = &survey.round_trips.heading;
    html! {
        table {
            (fact("Server", &heading.server.to_string()))
            (fact("CPU", &heading.machine.cpu))
            (fact("Cores", &heading.machine.cores.to_string()))
            (fact("Kernel", &heading.machine.kernel))
            (fact("Date", &heading.date))
            @for (name, value) in &survey.settings { (fact(name, value)) }
        }
    }
}

fn fact(name: &str, value: &str) -> Markup {
    html! { tr { th.word { (name) } td.word { (value) } } }
}

fn render_table(table: &Table) -> Markup {
    let class = |column| (column < table.left).then_some("word");
    html! {
        div.wide {
            table {
                thead { tr {
                    @for (column, cell) in table.head.iter().enumerate() {
                        th class=[class(column)] { (cell) }
                    }
                } }
                tbody {
                    @for row in &table.rows {
                        tr { @for (column, cell) in row.iter().enumerate() {
                            td class=[class(column)] { (cell) }
                        } }
                    }
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::cpu::PerCommand;
    use super::*;
    use crate::measure::bench::row::Results;
    use crate::measure::bench::row::tests::outcome;
    use crate::report::tests::report;
    use crate::transport::Transport;

    #[test]
    fn what_the_page_says_is_escaped_and_complete() {
        let outcomes =
            vec![outcome(Transport::Unix, 1, 60_000.0), outcome(Transport::Shm, 1, 600_000.0)];
        let page = render(&Survey {
            round_trips: report(),
            sweep: Results { outcomes, rounds: 3, example: Vec::new() },
            report_words: "-n 10".to_owned(),
            sweep_words: "-t ping".to_owned(),
            cpu: vec![PerCommand { transport: Transport::Shm, server_ns: 1_234, client_ns: 1 }],
            settings: vec![("shm.wait".to_owned(), "adaptive".to_owned())],
        });
        for text in ["CPU &lt;1&gt;", "Redis 7.0.15", "2026-11-21", "adaptive", "1,230", "10.0"] {
            assert!(page.contains(text), "{text} is not in {page}");
        }
        assert_eq!(page.matches("<svg").count(), 3);
    }
}
