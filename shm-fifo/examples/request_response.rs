//! Calls of functions in another process: a server for any number of clients, each over
//! shared memory of its own, a frame for each request and each response.
//!
//! ```text
//! cargo run --example request_response                    # both, and three requests
//! cargo run --example request_response serve PATH
//! cargo run --example request_response call PATH FUNCTION TEXT...
//! ```

use shm_fifo::{Channel, Listener, connect};
use std::error::Error;
use std::io::{self, ErrorKind};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

/// Requests come from strangers: none is longer than this.
const LONGEST_REQUEST_BYTES: usize = 1024 * 1024;
/// A call is over by then, answered or not.
const PATIENCE: Duration = Duration::from_secs(5);

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match &arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [] => demonstrate(),
        ["serve", path] => serve(&Listener::bind(path)?),
        ["call", path, function, texts @ ..] => Ok(call(path, function, texts)?),
        _ => Err("usage: request_response [serve PATH | call PATH FUNCTION TEXT...]".into()),
    }
}

/// A server in this process, and a client in another.
fn demonstrate() -> Result<(), Box<dyn Error>> {
    let path = std::env::temp_dir().join(format!("request_response-{}", std::process::id()));
    let listener = Listener::bind(&path)?;
    let client = thread::scope(|scope| {
        let mut client = Command::new(std::env::current_exe()?)
            .args(["call".as_ref(), path.as_os_str()])
            .args(["reverse", "a man", "a plan", "a canal"])
            .spawn()?;
        scope.spawn(|| answer(listener.accept()?));
        client.wait()
    })?;
    if client.success() { Ok(()) } else { Err("the client failed".into()) }
}

fn serve(listener: &Listener) -> ! {
    loop {
        let channel = match listener.accept() {
            Ok(channel) => channel,
            Err(error) => {
                // No descriptor, no memory: until a client has gone.
                eprintln!("a client has to wait: {error}");
                thread::sleep(Duration::from_millis(100));
                continue;
            }
        };
        // What goes wrong with one client is no other's business.
        thread::spawn(move || {
            if let Err(error) = answer(channel) {
                eprintln!("a client is gone: {error}");
            }
        });
    }
}

/// Serves one client until it ends.
fn answer(mut channel: Channel) -> io::Result<()> {
    channel.set_max_frame_bytes(LONGEST_REQUEST_BYTES);
    let mut request = Vec::new();
    while channel.recv_into(&mut request)?.is_some() {
        channel.send(&respond(&request))?;
    }
    Ok(())
}

/// The response to a request, which is a function's name, a zero and its argument.
fn respond(request: &[u8]) -> Vec<u8> {
    let mut parts = request.splitn(2, |&byte| byte == 0);
    match (parts.next(), parts.next()) {
        (Some(b"reverse"), Some(text)) => text.iter().rev().copied().collect(),
        (Some(b"shout"), Some(text)) => text.to_ascii_uppercase(),
        _ => b"no such function".to_vec(),
    }
}

fn call(path: &str, function: &str, texts: &[&str]) -> io::Result<()> {
    let mut channel = connect(path)?;
    let mut response = Vec::new();
    for text in texts {
        channel.set_deadline(Instant::now().checked_add(PATIENCE));
        channel.send(format!("{function}\0{text}").as_bytes())?;
        channel.recv_into(&mut response)?.ok_or(ErrorKind::UnexpectedEof)?;
        println!("{text} -> {}", String::from_utf8_lossy(&response));
    }
    Ok(())
}
