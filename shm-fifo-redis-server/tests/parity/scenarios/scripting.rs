//! Scripts and functions that take long, and who may end them.

use crate::stage::{Actor, Stage, compare};
use crate::support::{needs, request, wait_until};

const LOOP: &str = "while true do end";
const LOOP_THAT_WRITES: &str = "redis.call('SET', 'x', '1') while true do end";
const LIBRARY: &str = "#!lua name=busy\nredis.register_function('loop', function() \
                       while true do end end)";

fn run<'s>(stage: &'s Stage, words: &[&str]) -> Actor<'s> {
    stage.aside("CONFIG SET lua-time-limit 20");
    let mut busy = stage.client("busy");
    let words: Vec<&[u8]> = words.iter().map(|word| word.as_bytes()).collect();
    busy.send_bytes(&request(&words));
    wait_until("the script runs", || stage.server.ask("PING").starts_with("-BUSY"));
    busy
}

#[test]
fn a_busy_script_is_killed() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("SCRIPT KILL");
        a.ask("MULTI");
        a.ask("SET queued 1");
        let mut busy = run(stage, &["EVAL", LOOP, "0"]);
        for command in ["GET x", "EXEC", "NOSUCH", "FUNCTION KILL", "SCRIPT KILL"] {
            a.ask(command);
        }
        busy.take();
        a.ask("EXEC");
        busy.ask("PING");
    });
}

#[test]
fn a_script_that_has_written_is_not_killed() {
    compare(|stage| {
        let mut a = stage.client("a");
        let mut busy = run(stage, &["EVAL", LOOP_THAT_WRITES, "0"]);
        a.ask("SCRIPT KILL");
        a.ask("PING");
        a.send("SHUTDOWN NOSAVE");
        a.take_end();
        busy.take_end();
    });
}

#[test]
fn a_busy_function_is_killed() {
    needs!(CommandDocs);
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask_words(&["FUNCTION", "LOAD", LIBRARY]);
        let mut busy = run(stage, &["FCALL", "loop", "0"]);
        for command in ["GET x", "SCRIPT KILL", "FUNCTION KILL"] {
            a.ask(command);
        }
        busy.take();
        a.ask("FUNCTION LIST");
        a.ask("FUNCTION DELETE busy");
        a.ask("FCALL loop 0");
    });
}

#[test]
fn scripts_see_the_protocol_and_the_name_of_their_client() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("CLIENT SETNAME me");
        for script in [
            "return redis.call('CLIENT', 'GETNAME')",
            "redis.setresp(3) return redis.call('HGETALL', 'none')",
            "return redis.call('SHM.OPEN', '2')",
            "return redis.call('SUBSCRIBE', 'x')",
            "return redis.call('CLIENT', 'REPLY', 'OFF')",
            "redis.log(redis.LOG_WARNING, 'hello') return redis.sha1hex('x')",
            "return {1, {2, {3, {4, {5, 'deep'}}}}, false, true, 'x' .. string.char(13, 10)}",
        ] {
            a.ask_words(&["EVAL", script, "0"]);
        }
    });
}
