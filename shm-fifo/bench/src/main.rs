//! Compares shm-fifo with its peers and with what the machine allows: see `README.md`.

mod args;
mod machine;
mod measure;
mod place;
mod plot;
mod row;
mod run;
mod shared;
mod suite;
mod table;
mod transport;
mod transports;

use anyhow::{Context, Result, ensure};
use args::Args;
use clap::Parser;
use std::fs;

fn main() -> Result<()> {
    let args = Args::parse();
    let mut contenders = suite::contenders();
    for name in &args.only {
        let known = contenders.iter().any(|contender| contender.name.starts_with(name));
        ensure!(known, "nobody's name begins with {name}");
    }
    contenders.retain(|contender| {
        args.only.is_empty() || args.only.iter().any(|name| contender.name.starts_with(name))
    });
    // Looked up before this process is pinned to one of them.
    let cpus = args.cpus()?;
    let machine = machine::description(cpus);
    let rows = run::run(&contenders, cpus, &args)?;

    let names: Vec<_> = contenders.iter().map(|contender| contender.name).collect();
    table::print(&rows, &names, &machine);
    fs::create_dir_all(&args.output).with_context(|| args.output.display().to_string())?;
    let json = args.output.join("fifo.json");
    fs::write(&json, serde_json::to_string_pretty(&rows)? + "\n")?;
    let svg = args.output.join("fifo.svg");
    plot::draw(&rows, &machine, &svg)?;
    println!("{} and {}", json.display(), svg.display());
    Ok(())
}
