//! Commands that wait: for a timeout, for others, for an operator.

use crate::stage::compare;

const EVERY_KIND: [&str; 9] = [
    "BLPOP list 0",
    "BRPOP other list 0",
    "BLMOVE list target LEFT RIGHT 0",
    "BRPOPLPUSH list target 0",
    "BZPOPMIN zset 0",
    "BZPOPMAX other zset 0",
    "XREAD BLOCK 0 STREAMS stream $",
    "XREADGROUP GROUP group me BLOCK 0 STREAMS stream >",
    "WAIT 1 0",
];

#[test]
fn timeouts() {
    compare(|stage| {
        stage.aside("XGROUP CREATE stream group $ MKSTREAM");
        for hello in ["HELLO 2", "HELLO 3"] {
            let mut a = stage.client("a");
            a.ask_as(&crate::normalise::HELLO, hello);
            for command in [
                "BLPOP list 0.01",
                "BRPOP list other 0.01",
                "BLMOVE list target LEFT LEFT 0.01",
                "BLMPOP 0.01 1 list LEFT",
                "BZPOPMIN zset 0.01",
                "BZMPOP 0.01 1 zset MAX",
                "XREAD BLOCK 10 STREAMS stream $",
                "XREADGROUP GROUP group me BLOCK 10 STREAMS stream >",
                "WAIT 1 10",
                "WAITAOF 0 1 10",
                "BLPOP list -1",
                "BLPOP list x",
                "BLPOP list 1e300",
                "XREAD BLOCK -1 STREAMS stream $",
                "WAIT 1 -1",
            ] {
                a.ask(command);
            }
        }
    });
}

#[test]
fn others_end_the_wait() {
    compare(|stage| {
        stage.aside("XGROUP CREATE stream group $ MKSTREAM");
        for (command, number) in EVERY_KIND.iter().zip(1..) {
            let mut a = stage.client("a");
            a.send_and_block(command);
            let message = format!("XADD stream {number}-1 field value");
            for by in ["RPUSH list one two", "ZADD zset 1 x 2 y", &message] {
                stage.server.ask(by);
            }
            if command.starts_with("WAIT") {
                stage.server.ask(&format!("CLIENT UNBLOCK {}", a.id));
            }
            a.take();
            a.ask("PING");
            stage.aside("DEL list target zset");
        }
    });
}

#[test]
fn client_unblock() {
    compare(|stage| {
        stage.aside("XGROUP CREATE stream group $ MKSTREAM");
        for how in ["", " TIMEOUT", " ERROR"] {
            for command in EVERY_KIND {
                let mut a = stage.client("a");
                a.send_and_block(command);
                stage.aside(&format!("CLIENT UNBLOCK {}{how}", a.id));
                a.take();
                stage.aside(&format!("CLIENT UNBLOCK {}{how}", a.id));
                a.ask("PING");
            }
        }
        stage.aside("CLIENT UNBLOCK 1 JUNK");
    });
}

#[test]
fn what_is_waited_for_changes_its_type_or_goes() {
    compare(|stage| {
        for change in ["DEL stream", "SET stream x", "XGROUP DESTROY stream group", "FLUSHALL"] {
            stage.aside("DEL stream");
            stage.aside("XGROUP CREATE stream group $ MKSTREAM");
            let mut a = stage.client("a");
            a.send_and_block("XREADGROUP GROUP group me BLOCK 0 STREAMS stream >");
            stage.aside(change);
            // Not each change ends it in each server.
            stage.server.ask(&format!("CLIENT UNBLOCK {}", a.id));
            a.take();
        }
        let mut a = stage.client("a");
        a.send_and_block("BLPOP list 0");
        stage.aside("SET list x");
        stage.aside("DEL list");
        stage.aside("RENAME none list");
        stage.aside("RPUSH other one");
        stage.aside("RENAME other list");
        a.take();
    });
}

#[test]
fn commands_behind_a_wait_and_pipelines_of_waits() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.send_and_block("BLPOP list 0");
        for behind in ["BLPOP list 0", "ECHO between", "BRPOP list 0", "LLEN list"] {
            a.send(behind);
        }
        stage.aside("RPUSH list one two three four");
        a.take_times(5);
    });
}

#[test]
fn waits_within_transactions_and_scripts_do_not_wait() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("MULTI");
        for command in EVERY_KIND {
            a.ask(command);
        }
        a.ask("EXEC");
        a.ask_words(&["EVAL", "return redis.call('BLPOP', KEYS[1], 0)", "1", "list"]);
        a.ask_words(&["EVAL", "return redis.pcall('WAIT', '1', '0')", "0"]);
    });
}

#[test]
fn several_wait_for_one_key() {
    compare(|stage| {
        let mut all = ["a", "b", "c"].map(|name| stage.client(name));
        for (client, command) in
            all.iter_mut().zip(["BLPOP x 0", "BRPOP x 0", "BLMOVE x x LEFT RIGHT 0"])
        {
            client.send_and_block(command);
        }
        stage.aside("RPUSH x 1 2 3");
        for client in &mut all {
            client.take();
        }
        stage.aside("LRANGE x 0 -1");
        let mut d = stage.client("d");
        d.ask("DEL x");
        all[0].send_and_block("BLPOP x 0");
        for command in ["MULTI", "RPUSH x 1", "DEL x", "EXEC"] {
            d.ask(command);
        }
        for command in ["MULTI", "RPUSH x 2", "EXEC"] {
            d.ask(command);
        }
        all[0].take();
    });
}

#[test]
fn who_is_killed_while_it_waits() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.send_and_block("BLPOP list 0");
        stage.aside(&format!("CLIENT KILL ID {}", a.id));
        a.take_end();
        stage.aside("RPUSH list one");
        stage.aside("LLEN list");
    });
}
