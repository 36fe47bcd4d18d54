//! How long a PING takes with each kind of redis-rs connection.
//!
//! `cargo run --release --features tokio --example ping_loop -- KIND ADDRESS COUNT`
//! where KIND is `blocking`, `tokio`, `tokio-spinning`, or `unmodified`: redis-rs as it
//! comes, on tokio. Prints a line of JSON: `make bench-clients` collects them.

use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, Value, cmd};
use shm_fifo_redis_client::{Client, SpinPolicy};
use std::env;
use std::time::{Duration, Instant};

const USAGE: &str = "usage: ping_loop blocking|tokio|tokio-spinning|unmodified ADDRESS COUNT";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, address, count] = &arguments[..] else { return Err(USAGE.into()) };
    let count = count.parse()?;
    let patience = Duration::from_secs(10);
    let client = || Client::open(address.as_str()).map(|client| client.response_timeout(patience));
    let (transport, times) = match kind.as_str() {
        "blocking" => blocking(&client()?, count)?,
        "tokio" => asynchronous(&client()?, count)?,
        "tokio-spinning" => asynchronous(&client()?.wait_policy(SpinPolicy::default()), count)?,
        "unmodified" => unmodified(&redis::Client::open(address.as_str())?, count)?,
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
    on_tokio(async {
        let connection = client.get_multiplexed_async_connection().await?;
        Ok((connection.transport().to_string(), pings(connection, count).await?))
    })
}

fn unmodified(client: &redis::Client, count: usize) -> RedisResult<(String, Vec<Duration>)> {
    on_tokio(async {
        let connection = client.get_multiplexed_async_connection().await?;
        Ok(("unknown".to_owned(), pings(connection, count).await?))
    })
}

fn on_tokio<T>(work: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(work)
}

async fn pings(mut connection: impl ConnectionLike, count: usize) -> RedisResult<Vec<Duration>> {
    let ping: Cmd = cmd("PING");
    let mut times = Vec::with_capacity(count);
    for _ in 0..count {
        let start = Instant::now();
        ping.query_async::<Value>(&mut connection).await?;
        times.push(start.elapsed());
    }
    Ok(times)
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
