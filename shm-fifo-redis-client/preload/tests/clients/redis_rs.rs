//! redis-rs on tokio, as it comes.
//!
//! Usage: `redis_rs ENDPOINT`
#![allow(clippy::unwrap_used, reason = "a program of a test: what it says last is compared")]

use futures_util::StreamExt;
use redis::aio::{
    ConnectionLike, ConnectionManager, ConnectionManagerConfig, MultiplexedConnection,
};
use redis::{AsyncCommands, AsyncConnectionConfig, Client, RedisResult, cmd};
use std::fs;
use std::io::{Read, Seek, Write};
use std::time::Duration;
use tokio::signal::unix::{SignalKind, signal};

const LARGE_BYTES: usize = 3 << 20;

#[tokio::main(flavor = "multi_thread", worker_threads = 2)]
async fn main() -> RedisResult<()> {
    let endpoint = std::env::args().nth(1).unwrap();
    let is_port = endpoint.parse::<u16>().is_ok();
    let address = if is_port {
        format!("redis://127.0.0.1:{endpoint}")
    } else {
        format!("unix://{endpoint}")
    };
    let client = Client::open(address)?;

    let mut connection = connect(&client).await?;
    println!("commands {}", commands(&mut connection, "key", 100).await?);
    println!("pipeline {}", pipeline(&mut connection).await?);
    println!("large {}", large(&mut connection, "large").await?);
    println!("asked {}", ask(&mut connection, "check").await?);
    println!("shared {}", many(|_| connection.clone()).await);
    let mut connections = Vec::new();
    for _ in 0..8 {
        connections.push(connect(&client).await?);
    }
    println!("tasks {}", many(|number| connections[number].clone()).await);
    for connection in &mut connections {
        ask(connection, "check").await?;
    }
    println!("messages {:?}", messages(&client, &mut connection).await?);
    drop((connection, connections));

    let delay = Duration::from_millis(20);
    let config = ConnectionManagerConfig::new().set_response_timeout(None);
    let config = config.set_min_delay(delay).set_max_delay(delay).set_number_of_retries(500);
    let mut manager = ConnectionManager::new_with_config(client.clone(), config).await?;
    println!("manager {}", commands(&mut manager, "key", 50).await?);
    for what in ["check", "kill", "restart"] {
        let answer = ask(&mut manager, what).await?;
        while manager.get::<_, Option<u64>>("counter").await.is_err() {}
        let total = commands(&mut manager, "key", 50).await?;
        println!("{what} {answer} {total} {}", ask(&mut manager, "check").await?);
    }
    println!("file {}", files(&client, &mut manager).await?);

    let mut terminated = signal(SignalKind::terminate()).unwrap();
    tokio::select! {
        _ = terminated.recv() => println!("stopped"),
        answer = ask(&mut manager, "terminate") => println!("{answer:?}"),
    }
    Ok(())
}

async fn connect(client: &Client) -> RedisResult<MultiplexedConnection> {
    let config = AsyncConnectionConfig::new().set_response_timeout(None);
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// The test does what it is asked, and answers.
async fn ask(connection: &mut (impl ConnectionLike + Send), what: &str) -> RedisResult<String> {
    let id: u64 = cmd("CLIENT").arg("ID").query_async(connection).await?;
    let question = format!("{what} {id} {}", std::process::id());
    let () = cmd("RPUSH").arg("asked").arg(question).query_async(connection).await?;
    loop {
        // An error is the end of its connection; there will be another one.
        let answer = cmd("BLPOP").arg(format!("answer:{id}")).arg(0).query_async(connection).await;
        if let Ok::<(String, String), _>((_, answer)) = answer {
            return Ok(answer);
        }
    }
}

async fn commands(
    connection: &mut (impl ConnectionLike + Send + Sync),
    key: &str,
    count: u64,
) -> RedisResult<u64> {
    let mut total = 0;
    for number in 0..count {
        let () = connection.set(key, number).await?;
        assert_eq!(connection.get::<_, u64>(key).await?, number);
        total += connection.incr::<_, _, u64>("counter", 1).await?;
    }
    Ok(total)
}

async fn pipeline(connection: &mut MultiplexedConnection) -> RedisResult<u64> {
    let mut pipeline = redis::pipe();
    for number in 0..1000 {
        pipeline.set(format!("key:{number}"), "x".repeat(100)).ignore().incr("sum", number);
    }
    let sums: Vec<u64> = pipeline.query_async(connection).await?;
    Ok(sums[999])
}

async fn large(connection: &mut MultiplexedConnection, key: &str) -> RedisResult<bool> {
    let value: Vec<u8> = (0..=u8::MAX).cycle().take(LARGE_BYTES).collect();
    let () = connection.set(key, &value).await?;
    Ok(connection.get::<_, Vec<u8>>(key).await? == value)
}

/// Eight tasks at once; whether each got back what it had sent.
async fn many(connection: impl Fn(usize) -> MultiplexedConnection) -> bool {
    let task = |number| {
        let mut connection = connection(number);
        tokio::spawn(async move {
            let key = format!("task:{number}");
            commands(&mut connection, &key, 50).await.unwrap();
            large(&mut connection, &key).await.unwrap()
        })
    };
    let tasks: Vec<_> = (0..8).map(task).collect();
    let mut equal = true;
    for task in tasks {
        equal &= task.await.unwrap();
    }
    equal
}

async fn messages(client: &Client, by: &mut MultiplexedConnection) -> RedisResult<Vec<u64>> {
    let mut subscriber = client.get_async_pubsub().await?;
    subscriber.subscribe("channel").await?;
    for number in 0..10 {
        let () = by.publish("channel", number).await?;
    }
    let stream = subscriber.on_message().take(10);
    Ok(stream.map(|message| message.get_payload::<u64>().unwrap()).collect().await)
}

/// What is written to a file goes there, also if its number was a connection's.
async fn files(client: &Client, manager: &mut ConnectionManager) -> RedisResult<u64> {
    for number in 0..20 {
        let mut connection = connect(client).await?;
        for _ in 0..20 {
            let () = connection.ping().await?;
        }
        drop(connection);
        // The task that owns the socket ends.
        tokio::task::yield_now().await;
        let mut options = fs::OpenOptions::new();
        let options = options.create(true).truncate(true).read(true).write(true);
        let mut file = options.open("file.txt").unwrap();
        let text = format!("RPUSH leak {number}\r\n");
        file.write_all(text.as_bytes()).unwrap();
        file.rewind().unwrap();
        let mut read = String::new();
        file.read_to_string(&mut read).unwrap();
        assert_eq!(read, text);
    }
    manager.exists("leak").await
}
