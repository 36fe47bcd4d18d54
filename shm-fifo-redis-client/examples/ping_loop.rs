//! How long a PING takes with each kind of redis-rs connection.
//!
//! `cargo run --release --features tokio --example ping_loop -- KIND ADDRESS COUNT`
//! where KIND is `blocking`, `tokio` or `tokio-spinning`. Prints a line of JSON:
//! `make bench-clients` collects them.

use redis::{Cmd, RedisResult, Value, cmd};
use shm_fifo_redis_client::{Client, SpinPolicy};
use std::env;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: ping_loop blocking|tokio|tokio-spinning ADDRESS COUNT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, address, count] = &arguments[..] else { return Err(USAGE.into()) };
    let client = Client::open(address.as_str())?.response_timeout(Duration::from_secs(10));
    let count = count.parse()?;
    let (transport, times) = match kind.as_str() {
        "blocking" => blocking(&client, count)?,
        "tokio" => asynchronous(&client, count)?,
        "tokio-spinning" => asynchronous(&client.wait_policy(SpinPolicy::default()), count)?,
        _ => return Err(USAGE.into()),
    };
    print(&format!("redis-rs {kind}"), &transport, times);
    Ok(())
}

fn blocking(client: &Client, count: usize) -> RedisResult<(String, Vec<Duration>)> {
    let mut connection = client.get_connection()?;
    let ping = cmd("PING");
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        ping.query::<Value>(&mut connection)?;
        times.push(start.elapsed());
    }
    Ok((connection.transport().to_string(), times))
}

fn asynchronous(client: &Client, count: usize) -> RedisResult<(String, Vec<Duration>)> {
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_all().build()?.block_on(async {
        let mut connection = client.get_multiplexed_async_connection().await?;
        let ping: Cmd = cmd("PING");
        let mut times = Vec::with_capacity(count);
        for _ in 0..count {
            let start = Instant::now();
            ping.query_async::<Value>(&mut connection).await?;
            times.push(start.elapsed());
        }
        Ok((connection.transport().to_string(), times))
    })
}

fn print(client: &str, transport: &str, mut times: Vec<Duration>) {
    times.sort();
    let at =
        |permille: usize| times.get(times.len() * permille / 1000).map_or(0, Duration::as_nanos);
    println!(
        "{{\"client\":\"{client}\",\"transport\":\"{transport}\",\"requests\":{},\
         \"p50_ns\":{},\"p99_ns\":{}}}",
        times.len(),
        at(500),
        at(990)
    );
}
