//! How long a PING takes with each kind of redis-rs connection.
//!
//! `cargo run --release --features tokio --example ping_loop -- KIND ADDRESS COUNT [TASKS
//! [CONNECTIONS]]` where KIND is `blocking`, `tokio` (on one thread), `tokio-threads` (the
//! same by spawned tasks on a thread for each CPU), `tokio-main` (on these, by the thread
//! that runs `main`), any of them with `-parking` (never spinning), or `unmodified`: redis-rs
//! as it comes, on tokio. So many TASKS share so many CONNECTIONS; by default one. Prints a
//! line of JSON: `make bench-clients` collects them.

use futures_util::future::try_join_all;
use redis::aio::ConnectionLike;
use redis::{Cmd, RedisResult, Value, cmd};
use shm_fifo_redis_client::{Client, SpinPolicy, WaitMode};
use std::env;
use std::time::{Duration, Instant};
use tokio::runtime::{Builder, Runtime};

const USAGE: &str = "usage: ping_loop blocking[-parking]|tokio[-threads|-main][-parking]|unmodified \
                     ADDRESS COUNT [TASKS [CONNECTIONS]]";

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let [kind, address, numbers @ ..] = &arguments[..] else { return Err(USAGE.into()) };
    let numbers: Vec<usize> = numbers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
    let &[count, ref load @ ..] = &numbers[..] else { return Err(USAGE.into()) };
    let load = [load.first().copied().unwrap_or(1), load.get(1).copied().unwrap_or(1)];
    let patience = Duration::from_secs(10);
    let client = || Client::open(address.as_str()).map(|client| client.response_timeout(patience));
    let (way, policy) = match kind.strip_suffix("-parking") {
        Some(way) => (way, SpinPolicy::new(WaitMode::Park, 0)),
        None => (kind.as_str(), SpinPolicy::default()),
    };
    let (transport, times) = match way {
        "blocking" => blocking(&client()?.wait_policy(policy), count)?,
        "unmodified" => unmodified(&redis::Client::open(address.as_str())?, count)?,
        _ => {
            let client = client()?.wait_policy(policy).connect_timeout(patience);
            asynchronous(way, client, count, load)?
        }
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

fn asynchronous(
    way: &str,
    client: Client,
    count: usize,
    load: [usize; 2],
) -> Result<(String, Vec<Duration>), Box<dyn std::error::Error>> {
    let pinging = pings_of_many(client, count, load);
    Ok(match way {
        "tokio" => one_thread()?.block_on(pinging)?,
        "tokio-main" => threads()?.block_on(pinging)?,
        "tokio-threads" => {
            let runtime = threads()?;
            runtime.block_on(runtime.spawn(pinging))??
        }
        _ => return Err(USAGE.into()),
    })
}

fn one_thread() -> std::io::Result<Runtime> {
    Builder::new_current_thread().enable_all().build()
}

fn threads() -> std::io::Result<Runtime> {
    Builder::new_multi_thread().enable_all().build()
}

async fn pings_of_many(
    client: Client,
    count: usize,
    [tasks, connections]: [usize; 2],
) -> RedisResult<(String, Vec<Duration>)> {
    let making = (0..connections).map(|_| client.get_multiplexed_async_connection());
    let made = try_join_all(making).await?;
    if let [connection] = &made[..]
        && tasks == 1
    {
        return Ok((connection.transport().to_string(), pings(connection.clone(), count).await?));
    }
    let pinging = (0..tasks).map(|task| {
        let connection = made[task % connections].clone();
        tokio::spawn(pings(connection, count / tasks))
    });
    let joined = try_join_all(pinging).await.map_err(std::io::Error::from)?;
    let times = joined.into_iter().collect::<RedisResult<Vec<_>>>()?;
    Ok((made[0].transport().to_string(), times.concat()))
}

fn unmodified(client: &redis::Client, count: usize) -> RedisResult<(String, Vec<Duration>)> {
    one_thread()?.block_on(async {
        let connection = client.get_multiplexed_async_connection().await?;
        Ok(("unknown".to_owned(), pings(connection, count).await?))
    })
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
