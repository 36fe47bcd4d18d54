//! The program that `redis-shm conformance` runs to look at this client: see
//! `docs/conformance.md`.
//!
//! `redis-shm conformance -- conformance blocking`, or `tokio`.

use redis::{AsyncConnectionConfig, RedisResult};
use shm_fifo_redis_client::Client;
use std::error::Error;

type Value = Option<Vec<u8>>;

fn main() -> Result<(), Box<dyn Error>> {
    let place = std::env::var("SHM_FIFO_CONFORMANCE")?;
    // With RESP3 the server may push.
    let address = match place.starts_with('/') {
        true => format!("redis+shm+unix://{place}?protocol=resp3"),
        false => format!("redis+shm://{place}?protocol=resp3"),
    };
    let client = Client::open(address)?;
    match std::env::args().nth(1).as_deref() {
        Some("blocking") => blocking(&client),
        Some("tokio") => tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()?
            .block_on(on_tokio(&client)),
        _ => Err("usage: conformance blocking|tokio".into()),
    }
}

fn blocking(client: &Client) -> Result<(), Box<dyn Error>> {
    let mut connection = client.get_connection()?;
    while let Some(value) = redis::cmd("GET").arg("next").query::<Value>(&mut connection)? {
        let echo: Vec<u8> = redis::cmd("ECHO").arg(&value).query(&mut connection)?;
        assert!(echo == value, "another value came back");
    }
    Ok(())
}

async fn on_tokio(client: &Client) -> Result<(), Box<dyn Error>> {
    let patient = AsyncConnectionConfig::new().set_response_timeout(None);
    let mut connection = client.get_multiplexed_async_connection_with_config(&patient).await?;
    loop {
        let next: RedisResult<Value> =
            redis::cmd("GET").arg("next").query_async(&mut connection).await;
        let Some(value) = next? else { return Ok(()) };
        let echo: Vec<u8> = redis::cmd("ECHO").arg(&value).query_async(&mut connection).await?;
        assert!(echo == value, "another value came back");
    }
}
