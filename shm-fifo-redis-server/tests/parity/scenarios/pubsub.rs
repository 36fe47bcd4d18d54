//! Subscriptions, in both protocols.

use crate::normalise::HELLO;
use crate::stage::compare;

#[test]
fn subscribers_get_messages_of_channels_and_patterns() {
    compare(|stage| {
        for hello in ["HELLO 2", "HELLO 3"] {
            let (mut a, mut b) = (stage.client("a"), stage.client("b"));
            a.ask_as(&HELLO, hello);
            a.ask("SUBSCRIBE news");
            a.ask("PSUBSCRIBE n?ws");
            b.ask("PUBLISH news hello");
            a.take_times(2);
            stage.aside("PUBLISH news again");
            a.take_times(2);
            a.ask("UNSUBSCRIBE news");
            b.ask("PUBLISH news third");
            a.take();
            for command in ["PUBSUB CHANNELS", "PUBSUB NUMSUB news x", "PUBSUB NUMPAT"] {
                b.ask(command);
            }
            a.ask("PUNSUBSCRIBE");
            a.ask("UNSUBSCRIBE");
            a.ask("PING");
        }
    });
}

#[test]
fn sharded_channels() {
    compare(|stage| {
        let (mut a, mut b) = (stage.client("a"), stage.client("b"));
        a.ask("SSUBSCRIBE orders");
        b.ask("SPUBLISH orders one");
        b.ask("PUBLISH orders none");
        for command in ["PUBSUB SHARDCHANNELS", "PUBSUB SHARDNUMSUB orders", "PING"] {
            b.ask(command);
        }
        a.send("SUNSUBSCRIBE orders");
        a.send("PING end");
        while !a.take().contains("end") {}
    });
}

#[test]
fn a_subscriber_in_resp2_may_do_little() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask("SUBSCRIBE news");
        for command in [
            "GET key",
            "MULTI",
            "CLIENT REPLY OFF",
            "PING",
            "PING word",
            "NOSUCH",
            "HELLO x",
            "PUBLISH news x",
            "RESET",
            "GET key",
        ] {
            a.ask(command);
        }
        a.ask("SUBSCRIBE news");
        a.send("QUIT");
        a.take_end();
    });
}

#[test]
fn a_subscriber_in_resp3_gets_its_own_messages_among_its_replies() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask_as(&HELLO, "HELLO 3");
        a.ask("SUBSCRIBE news");
        for number in 0..20 {
            a.send(&format!("PUBLISH news {number}"));
        }
        a.send("GET key");
        a.take_times(41);
        for command in ["MULTI", "PUBLISH news within", "SUBSCRIBE more"] {
            a.ask(command);
        }
        a.send("EXEC");
        a.send("ECHO end");
        while !a.take().contains("end") {}
    });
}

#[test]
fn events_of_keys() {
    compare(|stage| {
        stage.aside("CONFIG SET notify-keyspace-events KEA");
        let mut a = stage.client("a");
        a.ask("PSUBSCRIBE __key*");
        for command in ["SET x 1", "RPUSH l a b", "LPOP l 2", "EXPIRE x 0", "GET x"] {
            stage.aside(command);
        }
        a.send("PING end");
        while !a.take().contains("end") {}
    });
}

#[test]
fn silent_clients_hear_messages_and_nothing_else() {
    compare(|stage| {
        let mut a = stage.client("a");
        a.ask_as(&HELLO, "HELLO 3");
        a.ask("SUBSCRIBE news");
        a.send("CLIENT REPLY OFF");
        a.send("SET key value");
        a.send("CLIENT REPLY ON");
        a.take();
        a.send("CLIENT REPLY SKIP");
        a.send("GET key");
        a.ask("GET key");
        stage.aside("PUBLISH news hello");
        a.take();
    });
}
