//! How connections end, start anew and are held up.

use crate::normalise::HELLO;
use crate::stage::compare;
use crate::support::wait_until;

#[test]
fn quit_with_commands_before_and_behind() {
    compare(|stage| {
        for quit in ["QUIT", "QUIT now"] {
            let mut a = stage.client("a");
            a.send_bytes(format!("SET x 1\r\nGET x\r\n{quit}\r\nSET x 2\r\n").as_bytes());
            a.take_end();
        }
        stage.aside("GET x");
    });
}

#[test]
fn reset_starts_anew() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask_as(&HELLO, "HELLO 3 SETNAME me");
        for command in [
            "SELECT 2",
            "WATCH x",
            "MULTI",
            "SET x 1",
            "RESET",
            "EXEC",
            "CLIENT GETNAME",
            "HGETALL none",
            "CLIENT TRACKING ON",
            "CLIENT TRACKINGINFO",
            "DBSIZE",
        ] {
            a.ask(command);
        }
    });
}

#[test]
fn clients_that_are_killed() {
    compare(|stage| {
        stage.aside("ACL SETUSER alice on >pw allkeys allchannels +@all");
        let mut b = stage.client("b");
        let mut a = stage.client("a");
        a.ask("AUTH alice pw");
        b.ask("CLIENT KILL USER alice");
        a.take_end();
        let mut a = stage.client("a");
        a.ask("SUBSCRIBE news");
        b.ask("CLIENT KILL TYPE pubsub");
        a.take_end();
        let a = stage.client("a");
        for command in ["CLIENT KILL ID x", "CLIENT KILL ID 0", "CLIENT KILL 1.2.3.4:5"] {
            b.ask(command);
        }
        b.ask(&format!("CLIENT KILL ID {} LADDR 1.2.3.4:5", a.id));
        b.ask(&format!("CLIENT KILL ID {}", a.id));
        b.ask(&format!("CLIENT KILL ID {}", a.id));
        { a }.take_end();
        b.ask(&format!("CLIENT KILL ID {} SKIPME yes", b.id));
        // The one that is told to end itself sends what it has to say before.
        let kill = format!("ECHO before\r\nCLIENT KILL ID {} SKIPME no\r\nECHO behind\r\n", b.id);
        b.send_bytes(kill.as_bytes());
        b.take_end();
    });
}

#[test]
fn pauses() {
    compare(|stage| {
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        a.ask("CLIENT PAUSE 100000 WRITE");
        b.ask("GET x");
        b.send_and_block("SET x 1");
        for behind in ["GET x", "PUBLISH c m", "ECHO end"] {
            b.send(behind);
        }
        a.ask("GET x");
        a.ask("MULTI");
        a.ask("GET x");
        a.ask("EXEC");
        a.ask("CLIENT UNPAUSE");
        b.take_times(4);
        for bad in ["CLIENT PAUSE x", "CLIENT PAUSE -1", "CLIENT PAUSE 1 JUNK", "CLIENT UNPAUSE x"]
        {
            a.ask(bad);
        }
        // Ends by itself: nobody could be heard.
        a.ask("CLIENT PAUSE 100 ALL");
        b.ask("PING");
        a.ask("PING");
    });
}

#[test]
fn a_server_that_shuts_down() {
    compare(|stage| {
        let (mut a, mut b, mut c) = (stage.client("a"), stage.client("b"), stage.client("c"));
        b.send_and_block("BLPOP list 0");
        c.ask("SUBSCRIBE news");
        a.ask("SHUTDOWN JUNK");
        a.ask("SHUTDOWN ABORT");
        a.send("SHUTDOWN NOSAVE");
        for client in [&mut a, &mut b, &mut c] {
            client.take_end();
        }
    });
}

#[test]
fn idle_clients_are_timed_out() {
    compare(|stage| {
        let (mut idle, mut waiting) = (stage.client("idle"), stage.client("waiting"));
        let mut subscriber = stage.client("subscriber");
        subscriber.ask("SUBSCRIBE news");
        waiting.send_and_block("BLPOP list 0");
        stage.aside("CONFIG SET timeout 1");
        idle.take_end();
        // The connection on which is asked aside has been idle as well.
        let mut other = stage.server.plain();
        wait_until("nobody else is idle", || !other.ask("CLIENT LIST").contains("cmd=config"));
        other.ask("RPUSH list job");
        other.ask("PUBLISH news hello");
        waiting.take();
        subscriber.take();
    });
}
